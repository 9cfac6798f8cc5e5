"""Drills about tokens with real processes. What must hold is asserted in each, for as long as it is asked to run.

Each says what it counted: at the provider (the sandbox's journal) and at the callers (their own log), which must agree.
"""

import asyncio
import itertools
import json
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from drilling import Call, Load, World
from redis_server import RedisServer
from token_bench import DOKU, NETZME, Bench
from virtual_time import in_virtual_time

from proxy.stores import LEASE

Counts = dict[str, Any]
PAIR = ("netzme", "doku")
"""An account whose new token kills the old, and one whose does not."""


def _told(world: World, load: Load, before: Counter[str], **more: Any) -> Counts:
    """What every drill counts, and what must hold in all of them."""
    assert load.agree, "journal and callers' log differ"
    assert load.most_sends <= 2, "a request was sent more than twice"
    fetched = world.fetched() - before
    return {
        "requests": len(load.calls),
        "failed": load.failed,
        "healed": load.healed,
        "most sends": load.most_sends,
        "token calls": "+".join(str(fetched[profile]) for profile in sorted(world.profiles)) or "0",
        **more,
    }


def _most(counts: Counts) -> int:
    return max(map(int, counts["token calls"].split("+")))


async def cold(world: World, each: int) -> Counts:
    """Every process for every account at once, and nobody has a token."""
    before = world.fetched()
    world.sandbox.faults.token_delay = 0.3
    counts = _told(world, await world.burst(each), before)
    world.sandbox.faults.token_delay = 0
    assert counts["token calls"] == "+".join("1" * len(world.profiles))
    assert counts["failed"] == counts["healed"] == 0
    return counts


async def warm(world: World, server: RedisServer, each: int) -> Counts:
    """What a token in memory costs at Redis: nothing."""
    before, commands = world.fetched(), server.commands()
    load = await world.burst(each)
    counts = _told(world, load, before, **{"Redis commands": server.commands() - commands})
    assert counts["Redis commands"] == counts["failed"] == _most(counts) == 0
    return counts


async def expired(world: World, seconds: float) -> Counts:
    """The provider ends all tokens while requests are under way."""
    await world.burst(1)
    before = world.fetched()
    async with world.under_load() as calls:
        await asyncio.sleep(seconds / 2)
        world.expire()
        await asyncio.sleep(seconds / 2)
    counts = _told(world, world.looked_at(calls), before)
    assert counts["token calls"] == "+".join("1" * len(world.profiles))
    assert counts["failed"] == 0
    assert counts["healed"] > 0
    return counts


async def _in_its_call(pid_of_holder: Callable[[str], Awaitable[int]], profile: str) -> int:
    """Whoever fetches, a while after it got the lease: so its token call is out."""
    pid = await pid_of_holder(profile)
    await asyncio.sleep(0.4)
    return pid


async def holder_killed(
    world: World, pid_of_holder: Callable[[str], Awaitable[int]], profiles: Iterable[str] = PAIR
) -> Counts:
    """SIGKILL for whoever fetches, in the middle of a slow token call."""
    await world.burst(1, profiles)
    counts: Counts = {}
    for profile in profiles:
        await asyncio.sleep(5 if profile == "netzme" else 1)  # the gap, so that it is no part of what is measured
        before = world.fetched()
        world.sandbox.faults.token_delay = 2.5
        world.expire([profile])
        asked = [asyncio.create_task(world.ask(replica, profile)) for replica in world.replicas for _ in range(5)]
        pid = await _in_its_call(pid_of_holder, profile)
        await world.lose(pid)
        killed, world.sandbox.faults.token_delay = time.monotonic(), 0
        calls = [call for call in await asyncio.gather(*asked, return_exceptions=True) if isinstance(call, Call)]
        recovered = time.monotonic() - killed
        await world.start(1)
        load = world.looked_at(calls)
        counts[profile] = _told(world, load, before, **{"recovered s": round(recovered, 2)})
        assert 1 <= (world.fetched() - before)[profile] <= 2
        assert load.failed == 0
        assert recovered < LEASE + 1
    return joined(counts)


async def holder_stopped(
    world: World, pid_of_holder: Callable[[str], Awaitable[int]], past: float, profiles: Iterable[str] = PAIR
) -> Counts:
    """SIGSTOP for whoever fetches, for `past` seconds longer than its lease; then it goes on with its answer."""
    counts: Counts = {}
    for profile in profiles:
        await world.burst(1, [profile])
        await asyncio.sleep(5 if profile == "netzme" else 1)
        before = world.fetched()
        world.sandbox.faults.token_delay = 2
        world.expire([profile])
        asked = [asyncio.create_task(world.ask(replica, profile)) for replica in world.replicas]
        pid = await _in_its_call(pid_of_holder, profile)
        (holder,) = [replica for replica in world.replicas if replica.pid == pid]
        holder.send(signal.SIGSTOP)
        stopped, world.sandbox.faults.token_delay = time.monotonic(), 0
        others = [task for task, replica in zip(asked, world.replicas, strict=True) if replica is not holder]
        await asyncio.gather(*others)
        recovered = time.monotonic() - stopped
        await asyncio.sleep(max(0.0, LEASE + past - recovered))
        holder.send(signal.SIGCONT)
        calls = await asyncio.gather(*asked)
        async with world.under_load([profile]) as after:
            await asyncio.sleep(1)
        first, later = world.looked_at(calls), world.looked_at(after)
        both = world.looked_at([*calls, *after])
        counts[profile] = _told(
            world, both, before, **{"healed after": later.healed, "recovered s": round(recovered, 2)}
        )
        assert 1 <= (world.fetched() - before)[profile] <= 2
        assert recovered < LEASE + 1
        assert later.failed == 0
        assert [call for call in first.calls if call.pid != pid and call.status != 200] == []
    return joined(counts)


async def redis_down(world: World, server: RedisServer, seconds: float) -> Counts:
    """Redis is gone under load; it comes back empty."""
    await world.burst(1)
    before, errors = world.fetched(), await world.metric("paraf_store_errors_total")
    async with world.under_load() as calls:
        server.kill()
        await asyncio.sleep(seconds)
        server.start()
        await asyncio.sleep(1)
    counts = _told(world, world.looked_at(calls), before, slowest=round(world.looked_at(calls).slowest, 2))
    assert counts["failed"] == counts["healed"] == _most(counts) == 0
    assert await world.metric("paraf_store_errors_total") == errors  # nobody asked it
    return counts


async def redis_down_and_refused(world: World, server: RedisServer, seconds: float) -> Counts:
    """Tokens end while Redis is gone: nobody fetches, and when it is back one does for all."""
    await world.burst(1, PAIR)
    await asyncio.sleep(5)
    before = world.fetched()
    async with world.under_load(PAIR) as calls:
        server.kill()
        world.expire(PAIR)
        await asyncio.sleep(seconds)
        while_down = world.fetched() - before
        server.start()
        back = time.monotonic()
        await asyncio.sleep(3)
    failed = [call for call in calls if call.status != 200]
    load = world.looked_at(calls)
    errors = Counter(call.error or "the provider's refusal" for call in failed)
    recovered = max(call.started + call.seconds for call in failed) - back
    counts = _told(world, load, before, errors=dict(errors), **{"recovered s": round(recovered, 2)})
    assert not while_down
    assert {name: (world.fetched() - before)[name] for name in PAIR} == {"netzme": 1, "doku": 1}
    assert recovered < 2.5
    assert errors["store_unavailable"] > 0
    assert set(errors) <= {"store_unavailable", "the provider's refusal"}
    assert len({call.pid for call in failed}) == len(world.replicas)
    lines = [line for replica in world.replicas for line in replica.lines if line["event"] == "store"]
    assert Counter(line["state"] for line in lines if line["state"] != "unreadable").keys() == {"down", "up"}
    return counts


async def redis_asleep(world: World, server: RedisServer, seconds: float) -> Counts:
    """Redis is there and answers nobody: who has a token does not notice."""
    await world.burst(1)
    before = world.fetched()
    async with world.under_load() as calls:
        with server.asleep():
            await asyncio.sleep(seconds)
        await asyncio.sleep(0.5)
    load = world.looked_at(calls)
    counts = _told(world, load, before, slowest=round(load.slowest, 2))
    assert counts["failed"] == counts["healed"] == _most(counts) == 0
    return counts


async def redis_emptied(world: World, server: RedisServer, seconds: float) -> Counts:
    """FLUSHALL under load, and a replica that starts right after it knows no token."""
    await world.burst(1)
    before = world.fetched()
    async with world.under_load() as calls:
        server.flush()
        await world.start(1)
        calls.extend((await world.burst(1)).calls)
        await asyncio.sleep(seconds)
    await world.lose(world.replicas[-1].pid)
    counts = _told(world, world.looked_at(calls), before)
    assert counts["token calls"] == "+".join("1" * len(world.profiles))
    assert counts["failed"] == 0
    return counts


async def fight(world: World, server: RedisServer, seconds: float, every: float = 1.0) -> Counts:
    """Somebody else's system fetches with our client id, again and again."""
    await world.burst(1, ["netzme"])
    server.flush()  # what other drills refused early is no part of this fight
    advised = len(_advice(world))
    before, conflicts = world.fetched(), await world.metric("paraf_token_conflicts_total")
    theirs, started = 0, time.monotonic()
    async with world.under_load(["netzme"]) as calls:
        while time.monotonic() - started < seconds:
            await world.outsider("netzme")
            theirs += 1
            await asyncio.sleep(every)
    spent = time.monotonic() - started
    ours = (world.fetched() - before)["netzme"] - theirs
    told = await world.metric("paraf_token_conflicts_total") - conflicts
    said = len(_advice(world)) - advised
    load = world.looked_at(calls)
    more = {"theirs": theirs, "ours": ours, "seconds": round(spent), "conflicts": int(told), "advice": said}
    counts = {**_told(world, load, before), "token calls": str(ours), **more}
    assert ours <= spent / NETZME.min_gap + 1
    assert told >= 1
    assert said == 1
    assert {call.error for call in load.calls} <= {None}  # a refusal is the provider's own
    return counts


def _advice(world: World) -> list[dict[str, Any]]:
    return [line for replica in world.replicas for line in replica.lines if line["event"] == "conflict"]


async def restarted(world: World) -> Counts:
    """All replicas end and start again."""
    await world.burst(1)
    before = world.fetched()
    codes = await world.restart()
    counts = _told(world, await world.burst(3), before, **{"exit codes": "+".join(map(str, codes))})
    assert counts["failed"] == counts["healed"] == _most(counts) == 0
    assert set(codes) == {0}
    return counts


async def cold_wait(world: World, delay: float) -> Counts:
    """How long a request waits for its token at a cold start, against the token call itself."""
    world.sandbox.faults.token_delay = delay
    load = await world.burst(1)
    world.sandbox.faults.token_delay = 0
    await asyncio.sleep(0.1)  # the last log lines
    waits = sorted(line["token_ms"] for replica in world.replicas for line in replica.requests())
    assert load.failed == 0
    overhead = [wait - delay * 1000 for wait in waits]
    return {
        "requests": len(load.calls),
        "token call ms": round(delay * 1000),
        "wait ms (least, median, most)": "/".join(f"{each:.0f}" for each in _spread(waits)),
        "over the call ms (median)": round(statistics.median(overhead)),
    }


def _spread(values: list[float]) -> tuple[float, float, float]:
    return values[0], statistics.median(values), values[-1]


def clock_jumps(minutes: float = 10.0) -> Counts:
    """The wall clock jumps by an hour, to and fro, once a second; four processes, virtual time."""
    counted: Counts = {}

    @in_virtual_time
    async def jumping() -> None:
        for account in (NETZME, DOKU):
            bench, sent = Bench(processes=4, life=120.0), Counter[str]()
            ends = bench.clock.monotonic() + minutes * 60
            for step in itertools.count():
                if bench.clock.monotonic() >= ends:
                    break
                bench.clock.wall_offset_ms += 3_600_000 * (1, -1, -1, 1)[step % 4]
                each = await asyncio.gather(*(bench.request(account, process) for process in range(4)))
                sent.update(last for *_, last in each)
                await asyncio.sleep(0.97)
            lives = minutes * 60 / (120 if account.exclusive else 60)
            counted[account.name] = {"requests": sum(sent.values()), **sent, "token calls": bench.calls}
            assert set(sent) == {"accepted"}
            assert bench.calls <= lives + 1

    jumping()
    return joined(counted)


def joined(counts: dict[str, Counts]) -> Counts:
    """One row of several accounts' counts: `netzme/doku`."""
    names = list(dict.fromkeys(name for each in counts.values() for name in each))
    return {name: " | ".join(str(each.get(name, "")) for each in counts.values()) for name in names}


def pid_in_redis(server: RedisServer) -> Callable[[str], Awaitable[int]]:
    async def holder(profile: str) -> int:
        with server.client() as asking:
            while True:
                for name in asking.keys(f"paraf:{{{profile}:*:lease"):
                    if owner := asking.hget(name, "owner"):
                        return int(owner.decode().split("/")[-2])
                await asyncio.sleep(0.02)

    return holder


def pid_in_files(folder: Path) -> Callable[[str], Awaitable[int]]:
    async def holder(_: str) -> int:
        while not (owners := _owners(folder)):  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(0.02)
        return int(owners[0].split("/")[-2])

    return holder


def _owners(folder: Path) -> list[str]:
    pages = [json.loads(path.read_text()) for path in folder.glob("*.token")]
    return [page["slot"]["owner"] for page in pages if page["slot"]["owner"]]
