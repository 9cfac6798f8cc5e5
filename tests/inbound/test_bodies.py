"""Bodies of all requests together are bounded: who finds no room is told before the body is read."""

import asyncio

import pytest
from serving import House, get, post

from proxy.errors import ProxyError
from proxy.inbound.bodies import Bodies

ROOM = 100_000


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 -- nobody tells of it
            await asyncio.sleep(0.005)


@pytest.fixture
async def bodies():
    return Bodies(ROOM)


async def test_a_body_without_room_is_refused_before_it_is_read(bodies):
    """The first one trickles: what it announced counts, not what came of it."""
    async with House(room=bodies) as house, house.caller() as slow, house.caller() as other:
        slow.send(post(b"x" * 70_000)[:-1])
        await until(lambda: bodies.held == 70_000)
        other.send(get("/", "Content-Length: 40000", "Expect: 100-continue", method="POST"))
        refused = await other.answer()
        assert (refused.status, refused.value("X-Paraf-Error"), refused.value("Retry-After")) == (
            503,
            "overloaded",
            "1",
        )
        assert b"100 Continue" not in other.seen
        slow.send(b"x")
        assert (await slow.answer()).status == 200
        assert (await house.ask(post(b"y" * 40_000))).status == 200
        await until(lambda: bodies.held == 0)


async def test_a_chunked_body_is_counted_as_it_comes(bodies):
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    async with House(room=bodies, limit=10 * ROOM) as house, house.caller() as caller:
        caller.send(get("/", "Transfer-Encoding: chunked", method="POST") + chunk)
        await until(lambda: bodies.held == 0x4000)
        caller.send(6 * chunk)
        assert (await caller.answer()).status == 503
        await until(lambda: bodies.held == 0)


async def test_what_came_with_its_head_counts_too(bodies):
    bodies.most = 10
    async with House(room=bodies) as house:
        assert [(await house.ask(post(b"x" * size))).status for size in (10, 11, 0, 10)] == [200, 503, 200, 200]


@pytest.mark.parametrize("fault", [ProxyError("internal", "x"), RuntimeError("x")])
async def test_room_is_given_back_when_a_request_fails(bodies, fault):
    async def way(request, _story):
        await request.hold(ROOM)
        assert bodies.held == 9
        raise fault

    async with House(way, room=bodies) as house:
        for _ in range(3):
            assert (await house.ask(post(b"x" * 9))).status == 500
        assert bodies.held == 0


async def test_room_is_given_back_when_the_caller_leaves(bodies):
    async with House(room=bodies) as house:
        async with house.caller() as caller:
            caller.send(post(b"x" * 70_000)[:-1])
            await until(lambda: bodies.held == 70_000)
        await until(lambda: bodies.held == 0)
        await house.told()
