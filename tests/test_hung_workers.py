"""A worker that hangs: nobody waits for it, it is replaced, and it takes no part in two configurations."""

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager

import pytest
from operating import operate
from processes import Callers, ask, configuration, measured, serving
from test_supervisor import patched, provider

PULSE = 0.2
"""Seconds, as shortened here; 1.5 in service."""


def quick(*, silent=5, hung=1000, more=()):
    """Pulses in a row until a worker is silent, and until it is killed: most tests want no help from that."""
    return patched(
        "import proxy.crew",
        f"proxy.crew.SILENT, proxy.crew.HUNG = {silent}, {hung}",
        "import proxy.supervisor",
        f"proxy.supervisor.PULSE = proxy.supervisor.SCRAPE = {PULSE / 2}",
        *more,
    )


@asynccontextmanager
async def served(folder, command, workers=2):
    async with provider() as peer:
        made = configuration(peer.url, control=f"unix:{folder}/control.sock")
        async with serving(folder, made, "--workers", str(workers), command=command) as paraf:
            yield paraf


async def status_of_a_call(paraf):
    async with Callers(paraf.address) as callers:
        return (await ask(*await callers.connect(), keep=False))[0]


async def turns(paraf, status):
    """Seconds until `/readyz` has this status."""
    began = time.monotonic()
    async with asyncio.timeout(20):
        while (await paraf.probe("/readyz"))[0] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def stop(paraf, *numbers):
    for number in numbers:
        os.kill(paraf.workers[number], signal.SIGSTOP)


async def test_one_that_hangs_is_killed_and_replaced(tmp_path):
    async with served(tmp_path, quick(hung=10)) as paraf:
        hung, other = paraf.workers.values()
        stop(paraf, 0)
        (line,) = await paraf.until(lambda: paraf.told("worker killed"))
        assert (line["worker"], line["words"]) == (0, "it hangs: no answer for 2 s")
        await paraf.until(lambda: paraf.workers[0] != hung)
        assert [line["by"] for line in paraf.told("worker ended")] == ["SIGKILL"]
        assert (await paraf.probe("/readyz"))[0] == 200
        assert await status_of_a_call(paraf) == 200
        await asyncio.sleep(12 * PULSE)
        assert paraf.workers[1] == other
        assert len(paraf.told("worker killed")) == 1
        paraf.kill(signal.SIGTERM)
        assert await paraf.ended() == 0


async def test_not_ready_while_all_hang_and_again_when_one_wakes(tmp_path):
    async with served(tmp_path, quick()) as paraf:
        stop(paraf, 0)
        await asyncio.sleep(8 * PULSE)
        assert (await paraf.probe("/readyz"))[0] == 200
        stop(paraf, 1)
        measured(f"not ready after {await turns(paraf, 503):.2f} s")
        os.kill(paraf.workers[0], signal.SIGCONT)
        measured(f"ready after {await turns(paraf, 200):.2f} s")
        assert await status_of_a_call(paraf) == 200
        assert paraf.told("worker killed") == []


async def test_all_that_hang_are_replaced(tmp_path):
    async with served(tmp_path, quick(hung=10)) as paraf:
        hung = set(paraf.workers.values())
        stop(paraf, 0, 1)
        await turns(paraf, 503)
        await turns(paraf, 200)
        assert await status_of_a_call(paraf) == 200
        await paraf.until(lambda: hung.isdisjoint(paraf.workers.values()))


async def test_one_that_hangs_before_it_is_ready_is_killed_too(tmp_path):
    stuck = (
        "import os, time, proxy.worker",
        "real = proxy.worker.work",
        f"def work(post):\n if os.path.exists({str(tmp_path / 'stuck')!r}): time.sleep(60)\n return real(post)",
        "proxy.worker.work = work",
    )
    async with served(tmp_path, quick(hung=10, more=stuck)) as paraf:
        (tmp_path / "stuck").touch()
        os.kill(paraf.workers[0], signal.SIGKILL)
        await paraf.until(lambda: paraf.told("worker killed", worker=0))
        (tmp_path / "stuck").unlink()
        await paraf.until(lambda: len(paraf.told("worker ended")) == 2)
        stop(paraf, 1)
        await paraf.until(lambda: paraf.told("worker killed", worker=1))
        assert await status_of_a_call(paraf) == 200


@pytest.mark.parametrize("whole", [True, False])
async def test_a_machine_or_a_supervisor_that_slept_kills_nobody(tmp_path, whole):
    async with served(tmp_path, quick(hung=10)) as paraf:
        pids = [paraf.process.pid, *(paraf.workers.values() if whole else ())]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                os.kill(pid, number)
            await asyncio.sleep(15 * PULSE)
        assert (await paraf.probe("/readyz"))[0] == 200
        assert paraf.told("worker killed") == paraf.told("worker ended") == []


async def test_operators_do_not_wait_for_one_that_hangs(tmp_path):
    async with served(tmp_path, quick()) as paraf:
        stop(paraf, 0)
        for _ in range(2):  # asked before it is known to hang, and after
            for path in ("/tokens", "/debug/refusals", "/"):
                began = time.monotonic()
                assert (await operate(paraf.ready["control"], "GET", path))[0] == 200
                measured(path, f"{time.monotonic() - began:.2f} s")
                assert time.monotonic() - began < 3
        stop(paraf, 1)
        assert (await operate(paraf.ready["control"], "GET", "/tokens"))[0] == 503


async def test_a_reload_goes_on_without_one_that_hangs(tmp_path):
    async with served(tmp_path, quick(), workers=3) as paraf:
        hung, *others = paraf.workers.values()
        stop(paraf, 0)
        began = time.monotonic()
        assert (await operate(paraf.ready["control"], "POST", "/-/reload"))[::2] == (200, {"generation": 2})
        measured(f"reloaded in {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 4
        (line,) = await paraf.until(lambda: paraf.told("worker killed"))
        assert (line["worker"], line["words"]) == (0, "it did not turn to the new configuration")
        await paraf.until(lambda: paraf.workers[0] != hung)
        assert [paraf.workers[1], paraf.workers[2]] == others
        await all_serve(paraf, 2)


async def test_a_crashed_worker_is_started_while_a_reload_waits_for_one_that_hangs(tmp_path):
    async with served(tmp_path, quick(silent=20)) as paraf:
        crashed = paraf.workers[1]
        stop(paraf, 0)
        reload = asyncio.create_task(operate(paraf.ready["control"], "POST", "/-/reload"))
        await asyncio.sleep(0.5)
        os.kill(crashed, signal.SIGKILL)
        began = time.monotonic()
        async with asyncio.timeout(3):
            assert await status_of_a_call(paraf) == 200
        measured(f"answered {time.monotonic() - began:.2f} s after the crash")
        assert not reload.done()
        begun = paraf.workers[1]
        assert begun != crashed
        assert (await reload)[0] == 200
        await paraf.until(lambda: len(paraf.told("worker started")) == 4)
        assert paraf.workers[1] == begun  # it turned with the reload that it was born in
        await all_serve(paraf, 2)


async def all_serve(paraf, generation):
    """Until every worker has, and none served another one."""
    mark = len(paraf.lines)
    async with Callers(paraf.address) as callers:
        callers.start(6, kept=False)

        def new():
            return [line for line in paraf.lines[mark:] if line["event"] == "request"]

        await paraf.until(lambda: {line["worker"] for line in new()} == set(paraf.workers))
        await callers.stop()
        assert {line["generation"] for line in new()} == {generation}
        assert set(callers.count) == {"200"}
