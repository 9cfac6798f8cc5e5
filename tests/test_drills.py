"""The short forms of the drills, one after another over the same four processes; each also runs alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import token_drills as drills
from drilling import World, world
from redis_server import RedisServer, redis_server

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def four(tmp_path_factory, server: RedisServer) -> AsyncIterator[World]:
    """Over Redis, every account."""
    async with world(tmp_path_factory.mktemp("four"), server.url) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory) -> AsyncIterator[World]:
    """Over a directory, an exclusive account and one that is not."""
    folder = tmp_path_factory.mktemp("two")
    async with world(folder, f"file://{folder}/tokens", processes=2, profiles=drills.PAIR) as running:
        yield running


async def test_cold(four: World) -> None:
    await drills.cold(four, each=4)


async def test_warm(four: World, server: RedisServer) -> None:
    await drills.warm(four, server, each=3)


async def test_the_provider_expires_all_tokens(four: World) -> None:
    await drills.expired(four, seconds=1)


async def test_restart_of_all(four: World) -> None:
    await drills.restarted(four)


async def test_redis_asleep(four: World, server: RedisServer) -> None:
    await drills.redis_asleep(four, server, seconds=1)


async def test_redis_down(four: World, server: RedisServer) -> None:
    await drills.redis_down(four, server, seconds=1)


async def test_redis_emptied(four: World, server: RedisServer) -> None:
    await drills.redis_emptied(four, server, seconds=0.3)


async def test_redis_down_and_tokens_refused(four: World, server: RedisServer) -> None:
    await drills.redis_down_and_refused(four, server, seconds=2)


async def test_the_holder_of_a_lease_is_stopped(four: World, server: RedisServer) -> None:
    await drills.holder_stopped(four, drills.pid_in_redis(server), past=0.5, profiles=["netzme"])


async def test_a_fight(four: World, server: RedisServer) -> None:
    await drills.fight(four, server, seconds=11)


async def test_cold_with_files(two: World) -> None:
    await drills.cold(two, each=50)


async def test_restart_of_all_with_files(two: World) -> None:
    await drills.restarted(two)


async def test_the_holder_of_a_lease_is_killed(two: World) -> None:
    await drills.holder_killed(two, drills.pid_in_files(two.configuration.parent / "tokens"), ["netzme"])


async def test_ten_minutes_of_clock_jumping() -> None:
    await asyncio.to_thread(drills.clock_jumps)
