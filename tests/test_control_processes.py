"""Control of `paraf serve` as real processes."""

import asyncio
import signal
from contextlib import suppress

import pytest
from operating import operate
from processes import Callers, configuration, serving
from processes import ask as slow
from rawpeer import RawPeer, ok
from running import of, routes
from test_service import ask

from proxy.clock import SystemClock
from proxy.commands import fresh
from proxy.sandbox.server import Sandbox


@pytest.fixture
async def sandbox():
    made = Sandbox([account.account for account in of("klikoo")], clock=SystemClock())
    made.address = await made.start("127.0.0.1", 0)
    yield made
    await made.stop()


def configured(sandbox, folder, **more):
    made = routes(of("klikoo"), "http://{}:{}".format(*sandbox.address))
    return made | {"log": {"format": "json"}, "control": f"unix:{folder}/control.sock", **more}


def calls(sandbox, kind="call"):
    return [entry for entry in sandbox.journal if entry.kind == kind]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_tokens_of_all_workers_are_refreshed_at_once(tmp_path, sandbox, workers):
    async with serving(tmp_path, configured(sandbox, tmp_path), "--workers", workers) as paraf:
        control = paraf.ready["control"]
        assert control == f"unix:{tmp_path}/control.sock"
        port = paraf.address[1]
        for _ in range(6):  # connections go round
            assert (await ask(port, "klikoo"))[0] == 200
        (before,) = (await operate(control, "GET", "/tokens"))[2]["tokens"]
        assert before["state"] == "live"
        status, _, told = await operate(control, "POST", "/tokens/klikoo/refresh")
        assert (status, len(calls(sandbox, "token"))) == (200, 2)
        (after,) = (await operate(control, "GET", "/tokens"))[2]["tokens"]
        assert before["fingerprint"] != told["fingerprint"] == after["fingerprint"]
        seen = len(calls(sandbox))
        for _ in range(6):
            assert (await ask(port, "klikoo"))[0] == 200
        assert len({entry.token_fingerprint for entry in calls(sandbox)[seen:]}) == 1
        assert (await operate(control, "POST", "/tokens/klikoo/purge"))[2]["purged"] is True
        assert (await operate(control, "GET", "/tokens"))[2]["tokens"][0]["state"] == "none"
        assert (await ask(port, "klikoo"))[0] == 200
        assert len(calls(sandbox, "token")) == 3


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_quit_ends_as_sigterm_does(tmp_path, sandbox, workers):
    async with serving(tmp_path, configured(sandbox, tmp_path), "--workers", workers) as paraf:
        assert (await operate(paraf.ready["control"], "POST", "/-/quit"))[0] == 202
        assert await paraf.ended() == 0
        assert paraf.told("stopping")
        assert paraf.other == []
    assert {path.name for path in tmp_path.iterdir()} == {"paraf.yaml"}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_name_that_a_reload_takes_away_opens_no_door(tmp_path, workers):
    """A page behind a rebound name would get in by it: and who has the new name is let in at once."""
    made = configuration("http://127.0.0.1:9", control="127.0.0.1:0", allowed_hosts=["old.test"])
    async with serving(tmp_path, made, "--workers", workers) as paraf:
        control = paraf.ready["control"]

        async def statuses():
            return [(await operate(control, "GET", "/tokens", host=host))[0] for host in ("old.test", "new.test")]

        assert await statuses() == [200, 421]
        (tmp_path / "paraf.yaml").write_text(fresh.text(made | {"allowed_hosts": ["new.test"]}))
        assert (await operate(control, "POST", "/-/reload"))[0] == 200
        assert await statuses() == [421, 200]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_signal_after_quit_hurries_nobody(tmp_path, workers):
    """A Job's pod: the work asks Paraf to quit, ends, and the kubelet signals what is left."""
    release = asyncio.Event()
    async with RawPeer(lambda _request: [release, ok(b"{}")]) as peer:
        made = configuration(peer.url, control=f"unix:{tmp_path}/control.sock")
        async with serving(tmp_path, made, "--workers", workers) as paraf, Callers(paraf.address) as callers:
            under_way = asyncio.create_task(slow(*await callers.connect()))
            await peer.until(lambda peer: len(peer.requests) == 1)
            assert (await operate(paraf.ready["control"], "POST", "/-/quit"))[0] == 202
            await paraf.until(lambda: paraf.told("stopping"))
            with suppress(OSError):  # a hook that asks again; of one worker it is closed by now
                assert (await operate(paraf.ready["control"], "POST", "/-/quit"))[0] == 202
            paraf.kill(signal.SIGTERM)
            await asyncio.sleep(0.3)
            release.set()
            assert (await under_way)[0] == 200
            assert await paraf.ended() == 0
