"""What the checks that are run by hand share: commands, a table of what was tried, a load that loses nothing."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
IMAGE = os.environ.get("IMAGE", "localhost/paraf:0.1.0")

from processes import Callers  # noqa: E402 -- beside the path

table: list[tuple[str, str, float]] = []


def run(*command, check=True, stdin=None, timeout=900, **env):
    done = subprocess.run(
        [str(each) for each in command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, **env},
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done


def said(*command, **more):
    return run(*command, **more).stdout.strip()


@contextmanager
def check(name):
    """A row of the table; what the block puts into the list is told there."""
    told: list[str] = []
    begun = time.monotonic()
    try:
        yield told
    except BaseException as error:
        table.append((name, f"FAILED {str(error)[:300]}", time.monotonic() - begun))
        print(f"FAILED  {name}: {error}", file=sys.stderr, flush=True)
        if not isinstance(error, Exception):
            raise
    else:
        table.append((name, "; ".join(told) or "ok", time.monotonic() - begun))
        print(f"ok  {name}  {'; '.join(told)}  {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)


def finish():
    print("| check | result | seconds |\n|---|---|---|")
    for name, result, seconds in table:
        print(f"| {name} | {' '.join(result.split())} | {seconds:.1f} |")
    sys.exit(any(result.startswith("FAILED") for _, result, _ in table))


def until(condition: Callable, seconds=60.0, what=""):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return found


def answers(url, timeout=2.0):
    """The status of a GET, 0 for none."""
    done = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", timeout, url, check=False)
    return int(done.stdout or 0)


async def under_load(address, deed, *, kept=12, fresh=4, before=1.5):
    """Callers of `/pay` while `deed` is done in a thread: what became of their requests, once all have ended."""
    async with Callers(address) as callers:
        callers.start(kept, kept=True)
        callers.start(fresh, kept=False)
        await asyncio.sleep(before)
        await asyncio.to_thread(deed)
        await callers.stop(60)
        return dict(callers.count), callers.lost_at
