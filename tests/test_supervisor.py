"""`paraf serve --workers`: real processes, real signals, and counts of what callers got."""

import asyncio
import os
import re
import signal
import socket
import time
from collections import Counter

import pytest
from processes import Callers, alive, ask, configuration, hung_up, measured, pss, serving, threads
from rawpeer import RawPeer, ok

FORWARDED = {"route": "pay", "status_class": "2xx", "outcome": "forwarded"}


def provider(delay=0.0):
    return RawPeer(lambda _request: [delay, ok(b"{}")] if delay else ok(b"{}"))


async def test_connections_spread_over_the_workers(tmp_path):
    async with (
        provider() as peer,
        serving(tmp_path, configuration(peer.url), "--workers", "2") as paraf,
        Callers(paraf.address) as callers,
    ):
        assert paraf.ready["workers"] == 2
        kept = [await callers.connect() for _ in range(40)]
        marks = Counter([(await ask(*pair))[2] for pair in kept])
        assert sum(marks.values()) == 40
        measured("40 connections, one after the other, by worker:", sorted(marks.values()))
        assert min(marks.values()) >= 8
        burst = await asyncio.gather(*(callers.connect() for _ in range(100)))
        marks = Counter([(await ask(*pair))[2] for pair in burst])
        measured("100 connections at once, by worker:", sorted(marks.values()))
        assert min(marks.values()) >= 20
        callers.start(8, kept=False)
        await asyncio.sleep(1)
        await callers.stop()
        measured("short connections by worker:", sorted(callers.marks.values()))
        assert len(callers.marks) == 2
        assert min(callers.marks.values()) >= 0.05 * sum(callers.marks.values())  # the rest is the machine's to choose
        by_worker = Counter(line["worker"] for line in paraf.told("request"))
        assert set(by_worker) == {0, 1}
        assert callers.count["lost"] == callers.count["refused"] == 0


async def test_the_metrics_are_what_callers_counted(tmp_path):
    async with (
        provider() as peer,
        serving(tmp_path, configuration(peer.url), "--workers", "2") as paraf,
        Callers(paraf.address) as callers,
    ):
        callers.start(4, kept=True)
        callers.start(4, kept=False)
        await asyncio.sleep(0.7)
        await callers.stop()
        answered = callers.count["200"]
        assert (len(callers.marks), answered) == (2, len(peer.requests))
        assert await paraf.metric("paraf_requests_total", **FORWARDED) == answered
        assert await paraf.metric("paraf_requests_total") == answered
        assert await paraf.metric("paraf_request_duration_seconds_count", phase="total") == answered
        assert await paraf.metric("paraf_attempts_total", reason="first") == answered
        assert await paraf.metric("paraf_inflight_requests") == 0
        assert await paraf.metric("paraf_build_info") == 1
        _, page = await paraf.probe("/metrics")
        assert len(re.findall(r"^# TYPE paraf_requests_total ", page, re.MULTILINE)) == 1
        assert 'paraf_requests_total{method="GET",outcome="error",route="none",status_class="4xx"} 0.0' in page


async def test_a_killed_worker_takes_only_its_own_requests_with_it(tmp_path):
    async with (
        provider(delay=0.1) as peer,
        serving(tmp_path, configuration(peer.url), "--workers", "2") as paraf,
        Callers(paraf.address) as callers,
    ):
        callers.start(20, kept=True)
        await asyncio.sleep(0.8)
        assert (await paraf.probe("/readyz"))[0] == 200
        shown = [await paraf.metric("paraf_requests_total")]
        mark = paraf.told("request", worker=0)[0]["request_id"][:16]
        killed, before = paraf.workers[0], time.monotonic()
        os.kill(killed, signal.SIGKILL)
        await paraf.until(lambda: paraf.workers[0] != killed)
        measured(f"restarted after {time.monotonic() - before:.3f} s")
        for _ in range(8):
            shown.append(await paraf.metric("paraf_requests_total"))
            assert (await paraf.probe("/readyz"))[0] == 200  # the other one serves
            await asyncio.sleep(0.1)
        await callers.stop()
        shown.append(await paraf.metric("paraf_requests_total"))
        measured("lost:", callers.count["lost"], "answered:", callers.count["200"], "shown:", shown)
        assert shown == sorted(shown)
        assert 0 < callers.count["lost"] < 20  # each caller has one request under way, and some were with the other
        assert set(callers.lost_at) == {mark}
        assert set(callers.count) == {"200", "lost"}
        # What a crash takes out of the counters is at most what was counted since the last look, a second ago.
        assert callers.count["200"] - 150 <= shown[-1] <= callers.count["200"]
        assert await paraf.metric("paraf_inflight_requests") == 0
        assert paraf.told("worker ended")[0]["by"] == "SIGKILL"
        # Once it is ready the new one gets the next connections, having none. Its request ids begin anew.
        async with asyncio.timeout(20):
            while len({line["request_id"][:16] for line in paraf.told("request", worker=0)}) < 2:
                assert (await ask(*await callers.connect()))[0] == 200
                await asyncio.sleep(0.05)


async def answered(callers, least):
    """Wait until they have had so many answers."""
    async with asyncio.timeout(30):
        while callers.count["200"] < least:  # noqa: ASYNC110 -- nobody tells of it
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("workers", "kind"), [("1", "tcp"), ("2", "tcp"), ("2", "unix")])
async def test_sigterm_under_load_loses_nothing(tmp_path, workers, kind):
    unix = str(tmp_path / "paraf.sock")
    listen = f"unix:{unix}" if kind == "unix" else "127.0.0.1:0"
    async with (
        provider(delay=0.03) as peer,
        serving(tmp_path, configuration(peer.url, listen=listen), "--workers", workers) as paraf,
        Callers(paraf.address) as callers,
    ):
        callers.start(12, kept=True)
        callers.start(12, kept=False)
        await answered(callers, 150)
        before = time.monotonic()
        paraf.kill(signal.SIGTERM)
        assert await paraf.ended() == 0
        spent = time.monotonic() - before
        await callers.stop()
        measured(kind, workers, "worker(s):", dict(callers.count), f"ended after {spent:.2f} s")
        assert callers.count["200"] == len(peer.requests) > 100
        assert callers.count["refused"] == 24
        assert set(callers.count) == {"200", "refused"}
        assert spent < 15, "far from drain.timeout"
        assert paraf.other == []
        assert {path.name for path in tmp_path.iterdir()} == {"paraf.yaml"}


async def test_not_ready_at_once_after_sigterm(tmp_path):
    drained = configuration("http://127.0.0.1:9", drain={"delay": "600ms", "timeout": "2s"})
    async with serving(tmp_path, drained, "--workers", "2") as paraf:
        assert await paraf.probe("/readyz") == (200, "ok\n")
        paraf.kill(signal.SIGTERM)
        await paraf.until(lambda: paraf.told("stopping"))
        assert await paraf.probe("/readyz") == (503, "stopping\n")
        assert (await paraf.probe("/livez"))[0] == (await paraf.probe("/startupz"))[0] == 200
        reader, writer = await asyncio.open_connection(*paraf.address)  # the listener stays for the delay
        assert (await ask(reader, writer))[0] == 502
        await hung_up(writer)
        assert await paraf.ended() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
async def test_a_signal_to_the_whole_group_counts_once(tmp_path, number, code):
    async with (
        provider(delay=0.6) as peer,
        serving(tmp_path, configuration(peer.url), "--workers", "2") as paraf,
        Callers(paraf.address) as callers,
    ):
        under_way = [await callers.connect() for _ in range(6)]
        asked = [asyncio.create_task(ask(*pair)) for pair in under_way]
        await peer.until(lambda peer: len(peer.requests) == 6)
        os.killpg(paraf.process.pid, number)
        assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 6
        assert await paraf.ended() == code


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("delay", "rest"), [("0s", 0.3), ("30s", 0.3), ("0s", 0.0)])
async def test_the_second_signal_hurries(tmp_path, workers, delay, rest):
    """Also in `drain.delay`, and in the moment of the first."""
    async with (
        provider(delay=30) as peer,
        serving(tmp_path, configuration(peer.url, drain={"delay": delay}), "--workers", workers) as paraf,
        Callers(paraf.address) as callers,
    ):
        reader, writer = await callers.connect()
        asked = asyncio.create_task(ask(reader, writer))
        await peer.until(lambda peer: len(peer.requests) == 1)
        paraf.kill(signal.SIGTERM)
        if rest:
            await paraf.until(lambda: paraf.told("stopping"))
            await asyncio.sleep(rest)
            assert paraf.process.returncode is None
        paraf.kill(signal.SIGINT)
        assert await paraf.ended(4) in {0, 130}  # whichever of two at once was seen first
        assert (await asked)[0] == 503  # shutting_down, and that it may have been sent
        (line,) = paraf.told("request")
        assert (line["error"], line["sent"]) == ("shutting_down", "maybe")
        await hung_up(writer)


async def test_children_that_whoever_started_it_ignores_are_seen_to_end(tmp_path):
    """SIG_IGN for SIGCHLD passes on to the program that is started, and then no child leaves an exit code."""
    careless = """if True:
        import os, signal, sys
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.execv(sys.executable, [sys.executable, "-m", "proxy", *sys.argv[1:]])
    """
    configured = configuration("http://127.0.0.1:9")
    async with serving(tmp_path, configured, "--workers", "2", command=("-c", careless)) as paraf:
        os.kill(paraf.workers[0], signal.SIGKILL)
        await paraf.until(lambda: len(paraf.told("worker started")) == 3)
        assert [line["by"] for line in paraf.told("worker ended")] == ["SIGKILL"]
        paraf.kill(signal.SIGTERM)
        assert await paraf.ended() == 0


def patched(*lines):
    """`paraf` with other constants, or another life of a worker."""
    return ("-c", "\n".join([*lines, "from proxy.commands import main", "main()"]))


async def test_a_worker_that_does_not_end_is_killed(tmp_path):
    impatient = patched("import proxy.supervisor", "proxy.supervisor.SPARE = 0.3")
    drained = configuration("http://127.0.0.1:9", drain={"timeout": "200ms"})
    async with serving(tmp_path, drained, "--workers", "2", command=impatient) as paraf:
        stopped = paraf.workers[1]
        os.kill(stopped, signal.SIGSTOP)
        paraf.kill(signal.SIGTERM)
        assert await paraf.ended(5) == 1
        assert not alive(stopped)
        assert [line["worker"] for line in paraf.told("worker killed")] == [1]


async def test_nobody_is_left_when_the_supervisor_is_killed(tmp_path):
    async with (
        provider(delay=0.4) as peer,
        serving(tmp_path, configuration(peer.url), "--workers", "3") as paraf,
        Callers(paraf.address) as callers,
    ):
        first = paraf.workers[0]
        os.kill(first, signal.SIGKILL)
        await paraf.until(lambda: paraf.workers[0] != first)
        await asyncio.sleep(0.3)  # the new one was forked with the lines of the others open
        assert [f"file://{path}" for path in tmp_path.glob("paraf-*")] == [paraf.told("store")[0]["store"]]
        pair = await callers.connect()
        asked = asyncio.create_task(ask(*pair))
        await peer.until(lambda peer: len(peer.requests) == 1)
        pids = list(paraf.workers.values())
        assert all(map(alive, pids))
        paraf.kill(signal.SIGKILL)
        assert (await asked)[0] == 200  # what is under way is finished
        before = time.monotonic()
        while any(map(alive, pids)):
            assert time.monotonic() - before < 15
            await asyncio.sleep(0.02)
        assert list(tmp_path.glob("paraf-*")) == []
        with socket.create_server(paraf.address):
            pass


async def test_workers_that_cannot_be_forked_end_it(tmp_path):
    full = patched(
        "import os, proxy.crew",
        "proxy.crew.FIRST_PAUSE = proxy.crew.LONGEST_PAUSE = 0.01",
        "def fork(): raise BlockingIOError(11, 'Resource temporarily unavailable')",
        "os.fork = fork",
    )
    async with serving(tmp_path, configuration("http://127.0.0.1:9"), "--workers", "2", command=full) as paraf:
        assert await paraf.ended() == 1
        assert paraf.other == ["paraf: a worker ended 5 times before it was ready\n"]
        assert paraf.told("worker not started")[0]["words"] == "Resource temporarily unavailable"


async def test_workers_that_cannot_start_end_it(tmp_path):
    unfit = patched(
        "import proxy.crew, proxy.worker",
        "proxy.crew.FIRST_PAUSE = proxy.crew.LONGEST_PAUSE = 0.01",
        "proxy.worker.work = lambda post: 3",
    )
    async with serving(tmp_path, configuration("http://127.0.0.1:9"), "--workers", "2", command=unfit) as paraf:
        assert await paraf.ended() == 1
        assert paraf.other == ["paraf: a worker ended 5 times before it was ready\n"]
        assert {line["by"] for line in paraf.told("worker ended")} == {"exit code 3"}
        assert paraf.told("ready") == []


async def test_a_worker_that_was_ready_once_is_started_again_for_ever_and_ever_slower(tmp_path):
    fragile = patched(
        "import os, proxy.worker, proxy.crew",
        "proxy.crew.FIRST_PAUSE, proxy.crew.LONGEST_PAUSE = 0.01, 0.04",
        "real = proxy.worker.work",
        f"def work(post):\n if post.number and os.path.exists({str(tmp_path / 'bad')!r}): return 3\n return real(post)",
        "proxy.worker.work = work",
    )
    async with serving(tmp_path, configuration("http://127.0.0.1:9"), "--workers", "2", command=fragile) as paraf:
        (tmp_path / "bad").touch()
        os.kill(paraf.workers[1], signal.SIGKILL)
        await paraf.until(lambda: len(paraf.told("worker ended")) > 8)
        assert (await paraf.probe("/readyz"))[0] == 200
        (tmp_path / "bad").unlink()
        ended = len(paraf.told("worker ended"))
        await asyncio.sleep(0.4)
        assert len(paraf.told("worker ended")) <= ended + 1
        assert alive(paraf.workers[1])


async def test_a_worker_that_does_not_answer_is_not_waited_for(tmp_path):
    async with (
        provider() as peer,
        serving(tmp_path, configuration(peer.url), "--workers", "2") as paraf,
        Callers(paraf.address) as callers,
    ):
        callers.start(4, kept=True)
        await answered(callers, 20)
        await callers.stop()
        counted = await paraf.metric("paraf_requests_total")
        assert counted == callers.count["200"] > 0
        os.kill(paraf.workers[0], signal.SIGSTOP)
        before = time.monotonic()
        assert await paraf.metric("paraf_requests_total") == counted  # its last known ones
        assert time.monotonic() - before < 5
        pairs = [await callers.connect() for _ in range(10)]
        others = [(await ask(*pair))[0] for pair in pairs]
        assert others == [200] * 10
        os.kill(paraf.workers[0], signal.SIGCONT)
        assert await paraf.metric("paraf_requests_total") == counted + 10


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_second_paraf_is_refused_with_a_sentence(tmp_path, workers):
    unix = f"unix:{tmp_path}/paraf.sock"
    async with serving(tmp_path, configuration("http://127.0.0.1:9", listen=unix), "--workers", workers) as first:
        for change, words in (
            ({"listen": unix}, f"{unix}: another process serves it and holds {tmp_path}/paraf.sock.lock"),
            (
                {"listen": "127.0.0.1:0", "admin": first.ready["admin"]},
                f"{first.ready['admin']}: Address already in use",
            ),
        ):
            second = configuration("http://127.0.0.1:9", **change)
            async with serving(tmp_path, second, "--workers", workers) as refused:
                assert await refused.ended() == 1
            assert refused.other == [f"paraf: cannot listen on {words}\n"]
            assert refused.lines == []
        async with Callers(first.address) as callers:
            assert (await ask(*await callers.connect()))[0] == 502


HAND = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="paraf.socket:admin")
callers, admin = os.dup2(int(sys.argv[1]), 103), os.dup2(int(sys.argv[2]), 104)
os.dup2(callers, 3), os.dup2(admin, 4)
os.execv(sys.executable, [sys.executable, "-m", "proxy", *sys.argv[3:]])
"""


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_callers_of_handed_over_sockets_wait_for_the_next_paraf(tmp_path, workers):
    with socket.create_server(("127.0.0.1", 0)) as callers, socket.create_server(("127.0.0.1", 0)) as admin:
        inherited = (callers, admin)
        command = ("-c", HAND, *(str(sock.fileno()) for sock in inherited))
        configured = configuration("", listen="127.0.0.1:1", admin="127.0.0.1:2")
        async with provider(delay=0.02) as peer, Callers(callers.getsockname()) as load:
            configured["routes"]["pay"]["upstream"] = peer.url
            load.start(8, kept=False)
            for last in (False, True):
                async with serving(
                    tmp_path, configured, "--workers", workers, command=command, inherited=inherited
                ) as paraf:
                    addresses = ["{}:{}".format(*sock.getsockname()) for sock in inherited]
                    assert [*paraf.ready["listen"], paraf.ready["admin"]] == addresses
                    await asyncio.sleep(0.4)
                    assert await paraf.metric("paraf_requests_total") > 0
                    if last:
                        await load.stop()
                    paraf.kill(signal.SIGTERM)
                    assert await paraf.ended() == 0
            measured("handed over:", dict(load.count))
            assert set(load.count) == {"200"}


async def test_the_memory_of_one_more_worker(tmp_path):
    used = {}
    for workers in (2, 4):
        async with serving(tmp_path, configuration("http://127.0.0.1:9"), "--workers", str(workers)) as paraf:
            used[workers] = sum(map(pss, [paraf.process.pid, *paraf.workers.values()])) / 1024
            # A thread in a process that forks could hold a lock that the child then waits for.
            assert threads(paraf.process.pid) == 1
    added = (used[4] - used[2]) / 2
    measured(f"memory: {used[2]:.1f} MiB with 2 workers, {used[4]:.1f} MiB with 4, {added:.1f} MiB for each more")
    assert added < 16
