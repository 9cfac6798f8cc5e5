"""`python tests/drills.py` runs the long forms of all drills, some ten minutes, and prints the table of their counts.

tests/test_drills.py runs the short forms.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import token_drills as drill
from drilling import WITH_TOKEN, World, world
from redis_server import RedisServer, redis_server

FAILED: list[str] = []


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def row(name: str, counting: Awaitable[drill.Counts]) -> None:
    """One line of the table; a drill that does not hold is one too, and the others go on."""
    try:
        counts = await counting
        said = "; ".join(f"{key} {value}" for key, value in counts.items())
    except AssertionError as broken:
        FAILED.append(name)
        said = f"DOES NOT HOLD: {broken}"
    say(f"| {name} | {said} |")


@asynccontextmanager
async def stage(store: str, processes: int = 4, **ways: object) -> AsyncIterator[tuple[World, RedisServer, Path]]:
    """`store`: memory, file or redis."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redis_server(folder) as server:
            url = {"memory": "memory", "file": f"file://{folder}/tokens", "redis": server.url}[store]
            async with world(folder, url, processes=processes, **ways) as running:
                yield running, server, folder / "tokens"


SLOW_SANDBOX = {"connect": "30s"}
"""3,200 requests at once: the sandbox, which shares its process with their callers, takes that long to accept them."""


async def over_redis() -> None:
    async with stage("redis", timeouts=SLOW_SANDBOX) as (four, server, _):
        holder = drill.pid_in_redis(server)
        await row("cold, 4 processes x 100 requests an account", drill.cold(four, each=100))
        await row("warm: what Redis is asked", drill.warm(four, server, each=50))
        await row("provider expires all tokens under load", drill.expired(four, seconds=20))
        await row("restart of all replicas", drill.restarted(four))
        await row("Redis asleep under load", drill.redis_asleep(four, server, seconds=10))
        await row("Redis down under load, tokens valid", drill.redis_down(four, server, seconds=30))
        await row("Redis emptied under load, one replica new", drill.redis_emptied(four, server, seconds=10))
        await row("Redis down, tokens refused", drill.redis_down_and_refused(four, server, seconds=30))
        await row("lease holder killed (netzme, doku)", drill.holder_killed(four, holder))
        await row("lease holder stopped past its lease (netzme, doku)", drill.holder_stopped(four, holder, past=4))
        await row("fight over one Netzme client", drill.fight(four, server, seconds=60))


async def over_files() -> None:
    async with stage("file", timeouts=SLOW_SANDBOX) as (four, _, folder):
        holder = drill.pid_in_files(folder)
        await row("file: cold, 4 processes x 100 requests an account", drill.cold(four, each=100))
        await row("file: provider expires all tokens under load", drill.expired(four, seconds=20))
        await row("file: restart of all replicas", drill.restarted(four))
        await row("file: lease holder killed (netzme, doku)", drill.holder_killed(four, holder))
        await row("file: lease holder stopped past its lease", drill.holder_stopped(four, holder, past=4))


async def waits() -> None:
    for store, processes in (("memory", 1), ("file", 2), ("redis", 2)):
        async with stage(store, processes, profiles=["doku"]) as (running, _, _):
            await row(f"{store}: wait at a cold start, {processes} processes", drill.cold_wait(running, delay=0.5))


async def main() -> None:
    say(f"Token calls are those of {', '.join(sorted(WITH_TOKEN))}.\n\n| drill | counted |\n|---|---|")
    for part in (over_redis, over_files, waits):
        await part()
    await row("10 min of a wall clock that jumps by hours (netzme, doku)", asyncio.to_thread(drill.clock_jumps))


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(1 if FAILED else 0)
