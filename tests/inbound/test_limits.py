"""Slow callers are ended by total deadlines, and honest ones do not notice them."""

import asyncio
import contextlib
import socket
import time

import pytest
from serving import House, Reply, get, open_callers, post, sending, whole

from proxy.errors import ProxyError
from proxy.inbound.server import ServerLimits

SHORT = ServerLimits(header_seconds=0.3, body_seconds=0.4, idle_seconds=60)
SOON = 9
"""Seconds in which a slow machine too has done what is due in less than one, and no other deadline is met."""


async def seconds_open(caller):
    caller.deadline = max(caller.deadline, 2 * SOON)
    start = time.monotonic()
    await caller.closed()
    return time.monotonic() - start


async def trickle(caller, data, pause=0.03):
    for byte in data:
        caller.send(bytes([byte]))
        await asyncio.sleep(pause)


@pytest.mark.parametrize("payload", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
async def test_a_head_that_does_not_come_ends_the_connection(payload):
    async with House(limits=SHORT) as house, house.caller() as caller:
        caller.send(payload)
        assert 0.2 < await seconds_open(caller) < SOON
        assert (caller.seen, house.requests, house.complaints) == (b"", [], [])


async def test_a_head_that_trickles_ends_the_connection():
    async with House(limits=SHORT) as house, house.caller() as caller:
        feed = asyncio.create_task(trickle(caller, get() * 3))
        assert 0.2 < await seconds_open(caller) < SOON
        assert house.requests == []
        feed.cancel()


@pytest.mark.parametrize("payload", [b"G", b"\r\nGET / HT"])
async def test_a_second_head_has_the_same_deadline_from_its_first_byte(payload):
    async with House(limits=SHORT) as house, house.caller() as caller:
        caller.send(get())
        await caller.answer()
        await asyncio.sleep(0.2)
        caller.send(payload)
        assert 0.2 < await seconds_open(caller) < SOON


async def test_a_head_in_time_is_served_whatever_its_pieces():
    async with House(limits=ServerLimits(header_seconds=1.0)) as house, house.caller() as caller:
        for _ in range(2):
            for piece in (b"GET / HT", b"TP/1.1\r\nHo", b"st: a\r\n\r\n"):
                caller.send(piece)
                await asyncio.sleep(0.02)
            assert (await caller.answer()).status == 200
        await asyncio.sleep(1.1)
        caller.send(get())
        assert (await caller.answer()).status == 200, "the deadline of a head does not outlive it"


async def test_an_idle_connection_is_kept_for_its_own_time():
    async with House(limits=ServerLimits(header_seconds=0.1, idle_seconds=0.8)) as house, house.caller() as caller:
        caller.send(get())
        await caller.answer()
        assert 0.6 < await seconds_open(caller) < SOON


@pytest.mark.parametrize("lines", [("Content-Length: 100",), ("Transfer-Encoding: chunked",)])
async def test_a_body_that_does_not_come_is_a_timeout(lines):
    async with House(limits=SHORT) as house, house.caller() as caller:
        caller.send(get("/", *lines, method="POST"))
        answer = await caller.answer()
        assert (answer.status, answer.value("X-Paraf-Error"), answer.value("Connection")) == (
            408,
            "request_timeout",
            "close",
        )
        (story,) = await house.told()
        assert (story.status, story.error) == (408, "request_timeout")


@pytest.mark.parametrize("lines", [("Content-Length: 100",), ("Transfer-Encoding: chunked",)])
async def test_a_body_that_trickles_is_a_timeout(lines):
    async with House(limits=SHORT) as house, house.caller() as caller:
        caller.send(get("/", *lines, method="POST"))
        feed = asyncio.create_task(trickle(caller, b"1\r\na\r\n" * 200))
        assert (await caller.answer()).status == 408
        assert await seconds_open(caller) < SOON
        feed.cancel()


async def test_a_way_may_take_longer_than_every_deadline_of_the_caller():
    async def slow(request, story):
        await request.hold(10)
        await asyncio.sleep(0.9)
        return whole(b"late")

    async with House(slow, limits=SHORT) as house, house.caller() as caller:
        caller.send(post(b"a"))
        assert (await caller.answer()).body == b"late"


ATTACKS = (
    (b"", b""),
    (b"GET / HTTP/1.1\r\nHost: a\r\n", b""),
    (b"G", b"X"),
    (post(bytes(100))[:-99], b"x"),
    (get("/", "Transfer-Encoding: chunked", method="POST"), b"1\r\na\r\n"),
    (get("/", "Content-Length: 99", "Expect: 100-continue", method="POST"), b""),
)
"""What is sent at once, and what then trickles, each second."""


@pytest.mark.slow
async def test_three_hundred_half_open_connections_are_closed_in_twenty_seconds_and_honest_calls_pass():
    """The real figures: 10 s for a head, 15 s for a body."""
    attacks = ATTACKS * 50
    async with House() as house, open_callers(house, [opening for opening, _ in attacks]) as callers:
        for caller in callers:
            caller.deadline = 25
        drips = [asyncio.create_task(drip(caller, more)) for caller, (_, more) in zip(callers, attacks, strict=True)]
        ends = [asyncio.create_task(seconds_open(caller)) for caller in callers]
        slowest = 0.0
        while not all(end.done() for end in ends):
            start = time.monotonic()
            assert (await house.ask(post(b"honest"))).status == 200
            slowest = max(slowest, time.monotonic() - start)
            await asyncio.wait(ends, timeout=1)
        for task in drips:
            task.cancel()
        assert max(end.result() for end in ends) < 20
        assert slowest < 2


async def drip(caller, data):
    while data:
        await asyncio.sleep(1)
        if caller.writer.is_closing():
            return
        caller.send(data)


async def test_answers_that_nobody_reads_do_not_pile_up():
    """A caller who pipelines and does not read gets no further request served, and in the end no connection."""

    async def refuse(_request, _story):
        raise ProxyError("no_route", "x" * 500)

    async with House(refuse, limits=ServerLimits(idle_seconds=0.5)) as house, house.caller() as caller:
        caller.writer.transport.pause_reading()
        with contextlib.suppress(ConnectionError):
            for _ in range(400):
                caller.send(get() * 100)
                await asyncio.sleep(0)
        async with asyncio.timeout(30):
            while house.server._connections:  # noqa: ASYNC110 -- nobody tells of a connection's end
                await asyncio.sleep(0.02)
        served = len(house.stories)
        assert served < 20_000
        await asyncio.sleep(0.1)
        assert len(house.stories) == served, "nothing is served once the connection is gone"


async def test_a_caller_who_stops_reading_loses_the_connection_not_the_framing():
    """What was pipelined behind is not carried out: its answer would stand in the middle of the first body."""
    chunk = b"x" * 65_536

    async def large(request, story):
        await request.hold(10)
        sending(story)
        story.outcome = "forwarded"
        return Reply((chunk,) * 400, headers=(("Content-Length", str(400 * len(chunk))),))

    async with House(large, limits=ServerLimits(idle_seconds=0.3)) as house, house.caller() as caller:
        caller.writer.transport.pause_reading()
        caller.send(get() + get())
        await house.told()
        assert [story.outcome for story in house.stories] == ["abandoned"]
        assert house.server._connections == {}


@pytest.mark.both_loops
async def test_what_one_caller_pipelines_does_not_keep_others_waiting():
    """A read of 256 KiB holds thousands of short requests, and what is refused is answered without a wait."""
    reached, begun = [], asyncio.Event()

    async def refuse(request, _story):
        reached.append(request.target)
        begun.set()
        raise ProxyError("no_route", "x")

    async with House(refuse) as house, house.caller() as caller, house.caller() as other:
        caller.send(get("/many") * 500)
        await begun.wait()
        other.send(get("/other"))
        await other.answer()
        assert reached.index("/other") < 100
        for _ in range(500):
            await caller.answer()


@pytest.mark.both_loops
async def test_whole_answers_do_not_pile_up_unread_though_they_leave_at_the_end_of_a_turn():
    """Each is at hand at once, as one of the provider often is: nothing but the caller's pace holds the next back."""
    body = b"x" * 60_000

    async def way(_request, story):
        sending(story)
        story.outcome = "forwarded"
        reply = whole(body)
        reply.whole = lambda: body
        return reply

    async with House(way, limits=ServerLimits(idle_seconds=0.3)) as house, house.caller() as caller:
        caller.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.writer.transport.pause_reading()
        (connection,) = house.server._connections
        most = 0
        caller.send(get() * 300)
        async with asyncio.timeout(SOON):
            while house.server._connections:
                if connection.transport is not None:
                    most = max(most, connection.transport.get_write_buffer_size())
                await asyncio.sleep(0)
        assert most < 4 * len(body)
        assert len(house.stories) < 300


@pytest.mark.both_loops
async def test_a_last_answer_that_nobody_reads_does_not_keep_its_connection():
    """What is left of it is too little for writing to be paused, and is not waited for by anybody."""

    async def way(request, story):
        sending(story)
        story.outcome = "forwarded"
        return Filling(request.connection)

    async with House(way, limits=ServerLimits(idle_seconds=0.3)) as house, house.caller() as caller:
        caller.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.writer.transport.pause_reading()
        caller.send(get("/", "Connection: close"))
        await house.told()
        async with asyncio.timeout(SOON):
            while house.server._connections:  # noqa: ASYNC110 -- nobody tells of a connection's end
                await asyncio.sleep(0.02)


class Filling(Reply):
    """Ends when the caller's socket takes no more."""

    def __init__(self, connection):
        super().__init__()
        self.connection = connection

    async def chunks(self):
        while not self.connection.transport.get_write_buffer_size():
            yield b"x" * 16_384
            await asyncio.sleep(0.001)


async def test_the_rest_of_a_refused_body_has_its_own_time():
    """Not what was left for the head: closing while the caller still sends could cost the answer."""
    async with House(limit=1, limits=ServerLimits(header_seconds=0.4)) as house, house.caller() as caller:
        await asyncio.sleep(0.2)
        caller.send(get("/", "Content-Length: 1000", method="POST"))
        assert (await caller.answer()).status == 413
        await asyncio.sleep(0.5)
        (connection,) = house.server._connections
        assert not connection.transport.is_closing()
