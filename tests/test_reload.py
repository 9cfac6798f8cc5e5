"""A reload: all of a new configuration, or nothing and the reason; and no request is lost for it."""

import asyncio
import os
import re
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import formatdate

import pytest
from operating import operate, operated, started
from processes import Callers, configuration, measured, serving
from rawpeer import RawCaller, RawPeer, answer, ok
from rotating import reloaded_under_load, rotation
from running import of, routes
from test_service import ask

from proxy import reloading
from proxy.clock import SystemClock
from proxy.commands import fresh
from proxy.sandbox.server import Sandbox

BROKEN = {"lissten": "127.0.0.1:1", "log": {"level": "INFO"}}
FINDINGS = {"lissten": "unknown key (did you mean listen?)", "log.level": "unknown value (did you mean info?)"}


@pytest.mark.parametrize("workers", [1, 2])
async def test_reloads_under_load_lose_nothing(tmp_path, workers):
    counted = await reloaded_under_load(tmp_path, workers=workers, seconds=3)
    measured(workers, "worker(s):", counted)
    assert set(counted["answers"]) == {"200"}
    assert counted["refused by the sandbox"] == counted["stale"] == 0
    assert counted["reloads"] >= 3
    assert counted["generations that signed"] >= 3
    assert counted["signed"] >= counted["answers"]["200"] > 20


async def test_a_broken_configuration_leaves_the_old_one_and_says_why(tmp_path):
    async with operated(tmp_path, "doku") as paraf:
        loaded = paraf.metric("paraf_config_last_reload_success_timestamp_seconds")
        paraf.write(**BROKEN)
        status, headers, problem = await paraf("POST", "/-/reload")
        assert (status, headers["content-type"]) == (422, "application/problem+json")
        assert {each["path"]: each["message"] for each in problem["findings"]} == FINDINGS
        text = paraf.file.read_text().splitlines()
        for finding in problem["findings"]:
            pointed = text[finding["line"] - 1][finding["column"] - 1 :]
            assert pointed.startswith(("lissten", "INFO"))
        told = [line for line in paraf.lines if line["event"] in {"configuration", "reload"}]
        assert [line["level"] for line in told] == ["error"] * 3
        assert told[0]["finding"].startswith(f"{paraf.file}:")
        assert (told[-1]["state"], told[-1]["why"], told[-1]["generation"]) == ("refused", "control", 1)
        assert paraf.metric("paraf_config_last_reload_success_timestamp_seconds") == loaded
        assert paraf.metric("paraf_config_last_reload_failure_timestamp_seconds") >= loaded
        assert len(paraf.reloading.status.refused) == 2
        assert (await ask(paraf.port, "doku"))[0] == 200
        del paraf.configuration["lissten"]
        paraf.write(log={"level": "debug", "format": "json"})
        assert (await paraf("POST", "/-/reload"))[::2] == (200, {"generation": 2})
        assert paraf.reloading.status.refused == ()
        assert paraf.metric("paraf_config_last_reload_success_timestamp_seconds") > loaded
        assert (await ask(paraf.port, "doku"))[0] == 200
        assert paraf.requests()[-1]["generation"] == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen", "127.0.0.1:1"),
        ("admin", "off"),
        ("control", "127.0.0.1:2"),
        ("store", "file:///nonexistent/tokens"),
        ("workers", 3),
        ("log", {"level": "debug", "format": "human"}),
    ],
)
async def test_what_is_bound_once_is_refused_with_the_sentence(tmp_path, key, value):
    async with operated(tmp_path, "doku") as paraf:
        paraf.write(**{key: value})
        status, _, problem = await paraf("POST", "/-/reload")
        (finding,) = problem["findings"]
        assert status == 422
        assert finding["path"] == {"log": "log.format"}.get(key, key)
        assert "needs a restart" in finding["message"]
        assert paraf.file.read_text().splitlines()[finding["line"] - 1].strip().startswith((f"{key}:", "format:"))
        assert paraf.app.generation.number == 1


async def test_the_level_of_the_log_follows(tmp_path):
    async with operated(tmp_path, "doku-nonsnap") as paraf:
        await ask(paraf.port, "doku-nonsnap")
        for level, lines in (("warning", 1), ("info", 2)):
            paraf.write(log={"level": level, "format": "json"})
            assert (await paraf("POST", "/-/reload"))[0] == 200
            await ask(paraf.port, "doku-nonsnap")
            assert len(paraf.requests()) == lines


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_hangup_reloads(tmp_path, workers):
    async with rotation(tmp_path, "--workers", workers) as (made, sandbox, paraf):
        made.turn()
        paraf.kill(signal.SIGHUP)
        await paraf.until(lambda: paraf.told("reload", state="done", why="signal", generation=2))
        async with Callers(paraf.address) as callers:
            callers.start(4, kept=False)
            await paraf.until(lambda: len(paraf.told("request")) > 10)
            await callers.stop()
        assert set(callers.count) == {"200"}
        assert set(sandbox.marks) == {1}
        assert {line["generation"] for line in paraf.told("request")} == {2}
        (tmp_path / "paraf.yaml").write_text("{\n")
        paraf.kill(signal.SIGHUP)
        (line,) = await paraf.until(lambda: paraf.told("configuration"))
        assert "paraf.yaml:2:1: (file): not valid YAML" in line["finding"]
        await paraf.until(lambda: paraf.told("reload", state="refused", generation=2))
        assert await paraf.metric("paraf_config_last_reload_failure_timestamp_seconds") > time.time() - 60


EARLY = """
import os, signal, sys
class Hangup:
    def find_spec(self, name, path, target=None):
        if name == "proxy.app":
            os.kill(os.getpid(), signal.SIGHUP)
sys.meta_path.insert(0, Hangup())
from proxy.commands import main
main(["serve", "-c", "nowhere.yaml"])
"""


async def test_a_hangup_before_anything_is_loaded_ends_nothing(tmp_path):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", EARLY, cwd=tmp_path)
    assert await asyncio.wait_for(process.wait(), 60) == 78


async def test_a_flood_of_hangups_is_two_reloads(tmp_path):
    """One that has begun, and one that sees what is there by the time of its turn."""
    async with operated(tmp_path, "doku") as paraf:
        await asyncio.gather(*(paraf.reloading.attempt("signal") for _ in range(200)))
        assert paraf.app.generation.number == 3
        await paraf.reloading.attempt("signal")
        assert paraf.app.generation.number == 4


async def test_a_fault_in_a_reload_is_told_and_the_next_one_is_taken(tmp_path, monkeypatch):
    async with operated(tmp_path, "doku") as paraf:
        with monkeypatch.context() as broken:
            broken.setattr(paraf.app, "swap", lambda *_: {}["x"])
            status, _, problem = await paraf("POST", "/-/reload")
            assert status == 422
            assert problem["findings"][0]["message"].startswith("could not be taken: KeyError at ")
            await paraf.reloading.attempt("files")
        assert (await ask(paraf.port, "doku"))[0] == 200
        assert (await paraf("POST", "/-/reload"))[::2] == (200, {"generation": 2})


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(reloading, "POLL", 0.02)
    monkeypatch.setattr(reloading, "SETTLED", 0.02)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("impatient")
async def test_a_swapped_link_is_seen_as_kubernetes_swaps_it(tmp_path):
    """A secret volume: `secret` → `..data/secret`, `..data` → a folder of its own for each version."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "secret").symlink_to("..data/secret")

    def turn(version, text):
        (volume / f"..{version}").mkdir()
        (volume / f"..{version}" / "secret").write_text(text)
        (volume / "..new").symlink_to(f"..{version}")
        (volume / "..new").replace(volume / "..data")

    async with RawPeer(lambda _request: ok(b"{}")) as peer:
        made = configuration(peer.url)
        made["routes"]["pay"]["credentials"]["client_secret"] = {"file": str(volume / "secret")}
        turn(1, "first-secret")
        async with started(tmp_path, made, None) as paraf:
            watching = asyncio.create_task(paraf.reloading.watch())
            turn(2, "second-secret")
            await until(lambda: paraf.app.generation.number == 2)
            turn(3, "")  # half written, say
            await until(lambda: paraf.reloading.status.refused)
            assert paraf.reloading.status.refused[0].path == "routes.pay.credentials.client_secret"
            turn(4, "third-secret")
            await until(lambda: paraf.app.generation.number == 3)
            await asyncio.sleep(0.2)  # looks on, and finds nothing new
            watching.cancel()
            assert paraf.app.generation.number == 3
            done = [line["why"] for line in paraf.lines if line["event"] == "reload"]
            assert done == ["files"] * 3


class Slow:
    """A provider that answers `/slow` when it is let."""

    def __init__(self):
        self.release = asyncio.Event()
        self.peer = RawPeer(self.answer)

    def answer(self, request):
        return [self.release, ok(b"late")] if b"/slow" in request.target else ok(b"{}")


async def call(caller, target):
    caller.send(f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    return await caller.answer()


async def test_a_request_ends_with_what_it_began(tmp_path):
    """Its route is gone meanwhile: it is served to its last byte, and then the connections of the route end."""
    provider = Slow()
    async with provider.peer as peer:
        made = configuration(peer.url)
        made["routes"]["other"] = {**made["routes"]["pay"]}
        async with started(tmp_path, made, None) as paraf, RawCaller("127.0.0.1", paraf.port, 20) as caller:
            under_way = asyncio.create_task(call(caller, "/other/slow"))
            await peer.until(lambda peer: len(peer.requests) == 1)
            del paraf.configuration["routes"]["other"]
            paraf.write()
            assert (await paraf("POST", "/-/reload"))[0] == 200
            assert paraf.metric("paraf_inflight_requests", route="other") == 1
            provider.release.set()
            assert (await under_way).body == b"late"
            await peer.until(lambda peer: peer.hangups == 1)
            assert (await call(caller, "/other/fast")).value("X-Paraf-Error") == "no_route"
            assert [line["generation"] for line in paraf.requests()] == [1, 2]
            assert paraf.metric("paraf_inflight_requests") == 0
            assert paraf.app.in_service == [2]
            assert paraf.metric("paraf_requests_total", route="other", outcome="forwarded") == 1


async def test_what_has_not_changed_is_kept(tmp_path):
    """Connections, places in the gate, an open circuit; not the circuit whose rule has changed."""
    provider = Slow()
    async with provider.peer as peer:
        made = configuration(peer.url)
        narrow = {"limits": {"concurrency": 1, "queue": 0}, "circuit": {"faults": 1, "probe": "1h"}}
        made["routes"] |= {
            "narrow": {**made["routes"]["pay"], **narrow},
            "down": {**made["routes"]["pay"], **narrow, "upstream": "http://127.0.0.1:9"},
        }
        async with (
            started(tmp_path, made, None) as paraf,
            RawCaller("127.0.0.1", paraf.port, 20) as one,
            RawCaller("127.0.0.1", paraf.port, 20) as two,
        ):
            assert (await call(two, "/pay/fast")).status == 200
            assert (await call(two, "/down/fast")).value("X-Paraf-Error") == "upstream_unreachable"
            under_way = asyncio.create_task(call(one, "/narrow/slow"))
            await peer.until(lambda peer: len(peer.requests) == 2)
            connections = peer.connections
            paraf.configuration["routes"]["pay"]["credentials"]["client_secret"] = "another"
            paraf.write(allowed_hosts=["x.test"])
            assert (await paraf("POST", "/-/reload"))[0] == 200
            assert (await call(two, "/pay/fast")).status == 200
            assert peer.connections == connections
            assert (await call(two, "/narrow/fast")).value("X-Paraf-Error") == "overloaded"
            assert (await call(two, "/down/fast")).value("X-Paraf-Error") == "circuit_open"
            assert paraf.metric("paraf_circuit_state", route="down") == 2
            paraf.configuration["routes"]["down"]["circuit"]["faults"] = 2
            paraf.write()
            assert (await paraf("POST", "/-/reload"))[0] == 200
            assert paraf.metric("paraf_circuit_state", route="down") == 0
            assert (await call(two, "/down/fast")).value("X-Paraf-Error") == "upstream_unreachable"
            provider.release.set()
            assert (await under_way).body == b"late"
            assert (await call(two, "/narrow/fast")).status == 200


@asynccontextmanager
async def outlived(folder, successor):
    """Requests of route `pay` that a reload overtakes: their provider then answers with faults and by another clock.

    `successor`: the route that leads to a provider that is well from then on.
    """
    release, date = asyncio.Event(), formatdate(time.time() + 900, usegmt=True)
    late = [release, answer("500 No", b"", f"Date: {date}")]
    async with RawPeer(lambda _request: late) as before, RawPeer(lambda _request: ok(b"{}")) as after:
        made = configuration(before.url)
        made["routes"]["pay"]["circuit"] = {"faults": 2, "probe": "1h"}
        async with started(folder, made, None) as paraf, AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(RawCaller("127.0.0.1", paraf.port, 20)) for _ in range(4)]
            under_way = [asyncio.create_task(call(caller, "/pay/x")) for caller in callers]
            await before.until(lambda peer: len(peer.requests) == 4)
            pay = paraf.configuration["routes"].pop("pay")
            paraf.configuration["routes"][successor] = {**pay, "upstream": after.url}
            paraf.write()
            assert (await paraf("POST", "/-/reload"))[0] == 200
            release.set()
            assert {each.status for each in await asyncio.gather(*under_way)} == {500}
            assert (await call(callers[0], f"/{successor}/x")).status == 200
            yield paraf


@pytest.mark.parametrize("successor", ["pay", "other"])
async def test_the_circuit_of_before_is_not_told_as_that_of_now(tmp_path, successor):
    async with outlived(tmp_path, successor) as paraf:
        assert paraf.app.metrics.numbers()["paraf_circuit_state"] == {(successor,): (0,)}
        assert not [line for line in paraf.lines if line["event"] == "circuit"]


@pytest.mark.parametrize("successor", ["pay", "other"])
async def test_the_clock_of_before_is_not_told_as_that_of_now(tmp_path, successor):
    async with outlived(tmp_path, successor) as paraf:
        ((route, (skew, _moment)),) = paraf.app.metrics.numbers()["paraf_clock_skew_seconds"].items()
        assert (route, skew) == ((successor,), 0)
        assert not [line for line in paraf.lines if line["event"] == "clock"]


@pytest.mark.parametrize("gone", [False, True])
async def test_a_clock_is_said_to_be_off_once_of_each_provider(tmp_path, gone):
    """And nothing is known of the clock of one that has not answered yet."""
    dated = ok(b"{}", f"Date: {formatdate(time.time() + 900, usegmt=True)}")
    async with (
        RawPeer(lambda _request: dated) as one,
        RawPeer(lambda _request: dated) as other,
        started(tmp_path, configuration(one.url), None) as paraf,
        RawCaller("127.0.0.1", paraf.port, 20) as caller,
    ):

        async def turn(**routes):
            paraf.configuration["routes"] = routes
            paraf.write()
            assert (await paraf("POST", "/-/reload"))[0] == 200

        async def told():
            await call(caller, "/pay/x")
            return [line["state"] for line in paraf.lines if line["event"] == "clock"]

        assert await told() == ["off"]
        pay = paraf.configuration["routes"]["pay"]
        await turn(pay={**pay, "allow": ["POST /x"]})
        assert await told() == ["off"]
        assert paraf.metric("paraf_clock_skew_seconds", route="pay") > 800
        if gone:
            await turn(other=pay)
        await turn(pay={**pay, "upstream": other.url})
        assert paraf.metric("paraf_clock_skew_seconds", route="pay") == 0
        assert await told() == ["off", "off"]


async def test_tokens_pass_from_one_to_the_next(tmp_path):
    async with operated(tmp_path, "klikoo") as paraf:
        await ask(paraf.port, "klikoo")
        paraf.write(allowed_hosts=["x.test"])
        assert (await paraf("POST", "/-/reload"))[0] == 200
        assert (await ask(paraf.port, "klikoo"))[0] == 200
        assert paraf.token_calls == 1
        paraf.configuration["routes"]["renamed"] = paraf.configuration["routes"].pop("klikoo") | {"prefix": "/klikoo"}
        paraf.write()
        assert (await paraf("POST", "/-/reload"))[0] == 200
        assert (await ask(paraf.port, "klikoo"))[0] == 200
        assert (await paraf.token("renamed"))["state"] == "live"
        assert paraf.token_calls == 1
        assert (await paraf("POST", "/tokens/renamed/refresh"))[0] == 200
        assert paraf.metric("paraf_token_fetch_total", account="renamed", result="ok") == 1


async def test_a_token_on_its_way_is_kept_though_its_account_is_taken_away(tmp_path):
    """And its caller has left: it ended the live one, and others who share the store have no other."""
    (tmp_path / "tokens").mkdir(mode=0o700)
    async with operated(tmp_path, "doku", "klikoo", store=f"file://{tmp_path}/tokens") as paraf:
        paraf.sandbox.faults.token_delay = 1.0
        async with RawCaller("127.0.0.1", paraf.port, 20) as caller:
            caller.send(b"GET /doku/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: paraf.metric("paraf_inflight_requests", route="doku") == 1)
        route = paraf.configuration["routes"].pop("doku")
        paraf.write()
        assert (await paraf("POST", "/-/reload"))[0] == 200
        await until(lambda: paraf.app.in_service == [2])
        paraf.configuration["routes"]["doku"] = route
        paraf.write()
        assert (await paraf("POST", "/-/reload"))[0] == 200
        assert (await ask(paraf.port, "doku"))[0] == 200
        assert paraf.token_calls == 1


async def test_a_worker_that_begins_later_has_the_newest(tmp_path):
    async with rotation(tmp_path, "--workers", "2") as (made, sandbox, paraf):
        for _ in range(2):
            made.turn()
            assert (await operate(paraf.ready["control"], "POST", "/-/reload"))[0] == 200
        before = paraf.workers
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        await paraf.until(lambda: set(paraf.workers.values()).isdisjoint(before.values()))
        async with Callers(paraf.address) as callers:
            callers.start(4, kept=False)
            await paraf.until(lambda: len({line["worker"] for line in paraf.told("request")}) == 2)
            await callers.stop()
        assert set(sandbox.marks) == {2}
        assert {line["generation"] for line in paraf.told("request")} == {3}


async def test_workers_that_begin_again_tell_what_the_others_told(tmp_path):
    """A refused reload stays the last word, and the gauges of an account that was taken away do not come back."""
    sandbox = Sandbox([each.account for each in of("klikoo")], clock=SystemClock())
    url = "http://{}:{}".format(*await sandbox.start("127.0.0.1", 0))
    made = routes(of("klikoo"), url) | {"control": f"unix:{tmp_path}/control.sock", "log": {"format": "json"}}
    gauge = "paraf_token_expiry_timestamp_seconds"
    async with serving(tmp_path, made, "--workers", "2") as paraf:

        async def crash():
            before = paraf.workers
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            await paraf.until(lambda: set(paraf.workers.values()).isdisjoint(before.values()))
            assert (await ask(paraf.address[1], "klikoo"))[0] == 200

        file, control = tmp_path / "paraf.yaml", paraf.ready["control"]
        assert (await ask(paraf.address[1], "klikoo"))[0] == 200
        assert await paraf.metric(gauge, account="klikoo") > time.time()
        await crash()
        made["routes"]["renamed"] = made["routes"].pop("klikoo") | {"prefix": "/klikoo"}
        for text, status in ((fresh.text(made), 200), ("{\n", 422)):
            file.write_text(text)
            assert (await operate(control, "POST", "/-/reload"))[0] == status
        await crash()
        _, page = await paraf.probe("/metrics")
        assert re.findall(rf"^{gauge}{{(.*)}}", page, re.MULTILINE) == ['account="renamed"']
        loaded = await paraf.metric("paraf_config_last_reload_success_timestamp_seconds")
        assert 0 < loaded < await paraf.metric("paraf_config_last_reload_failure_timestamp_seconds")
    await sandbox.stop()


async def test_what_a_former_secret_keeps_in_a_shared_store_is_read_until_it_ends(tmp_path):
    """Over further reloads too, and by workers that were started since."""
    sandbox = Sandbox([each.account for each in of("netzme")], clock=SystemClock())
    url = "http://{}:{}".format(*await sandbox.start("127.0.0.1", 0))
    store = {"store": f"file://{tmp_path}/tokens", "control": f"unix:{tmp_path}/control.sock"}
    made = routes(of("netzme"), url) | store | {"log": {"format": "json"}}
    credentials = made["routes"]["netzme"]["credentials"]
    async with serving(tmp_path, made, "--workers", "2") as paraf:
        control = paraf.ready["control"]

        async def shown():
            async with asyncio.timeout(10):
                while (answer := await operate(control, "GET", "/tokens"))[0] != 200:  # noqa: ASYNC110 -- until one is ready
                    await asyncio.sleep(0.05)
            return answer[2]["tokens"][0]

        assert (await ask(paraf.address[1], "netzme"))[0] == 200
        fetched = (await shown())["fingerprint"]
        for secret in ("the second", "the second", "the third"):
            credentials["client_secret"] = secret
            (tmp_path / "paraf.yaml").write_text(fresh.text(made))
            assert (await operate(control, "POST", "/-/reload"))[0] == 200
            assert (await shown())["fingerprint"] == fetched
        for pid in paraf.workers.values():
            os.kill(pid, signal.SIGKILL)
        await paraf.until(lambda: len(paraf.told("worker started")) == 4)
        assert (await shown())["fingerprint"] == fetched
        assert not paraf.told("store")
    await sandbox.stop()


async def test_all_workers_stay_with_the_old_when_it_is_broken(tmp_path):
    async with rotation(tmp_path, "--workers", "2") as (made, sandbox, paraf):
        made.turn(**BROKEN)
        status, _, problem = await operate(paraf.ready["control"], "POST", "/-/reload")
        assert (status, {each["path"] for each in problem["findings"]}) == (422, set(FINDINGS))
        async with Callers(paraf.address) as callers:
            callers.start(4, kept=False)
            await paraf.until(lambda: len({line["worker"] for line in paraf.told("request")}) == 2)
            await callers.stop()
        assert set(sandbox.marks) == {0}  # of the running one, though its secret file holds another by now
        assert set(callers.count) == {"200"}


async def test_what_came_out_of_a_pipe_is_not_read_again(tmp_path):
    text = fresh.text(configuration("http://127.0.0.1:9", control=f"unix:{tmp_path}/c"))
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    async with serving(tmp_path, {}, "-c", f"/dev/fd/{read}", files=[read]) as paraf:
        os.close(read)
        status, _, problem = await operate(paraf.ready["control"], "POST", "/-/reload")
        assert (status, len(problem["findings"])) == (422, 1)
        assert "pipe" in problem["findings"][0]["message"]
