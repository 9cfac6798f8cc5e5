"""A caller who leaves: before the first byte to the provider the call stops, after it the outcome is awaited."""

import asyncio
import socket

import pytest
from rawpeer import RESET, hang_up
from serving import BROKEN, House, Reply, get, post, sending, whole

from proxy.errors import ProxyError


class Slow:
    """A way in two halves, that tells where it is."""

    def __init__(self, *, sent, outcome=None):
        self.sent = sent
        self.outcome = outcome or whole(b"paid")
        self.reached = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request, story):
        await request.hold(100)
        if self.sent:
            sending(story)
        self.reached.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        story.outcome = "forwarded"
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture(params=["close", "reset"])
def leave(request):
    def leave(caller):
        if request.param == "reset":
            hang_up(caller.writer, RESET)
        else:
            caller.writer.close()

    return leave


async def test_before_the_first_byte_the_call_is_cancelled_at_once(leave):
    way = Slow(sent=False)
    async with House(way) as house, house.caller() as caller:
        caller.send(post(b"a"))
        await way.reached.wait()
        leave(caller)
        async with asyncio.timeout(1):
            await way.cancelled.wait()
        (story,) = await house.told()
        assert (story.outcome, story.status, story.error) == ("abandoned", 0, None)


async def test_after_the_first_byte_the_outcome_is_awaited_and_the_answer_closed(leave):
    way = Slow(sent=True)
    async with House(way) as house, house.caller() as caller:
        caller.send(post(b"a"))
        await way.reached.wait()
        leave(caller)
        await asyncio.sleep(0.05)
        assert (way.cancelled.is_set(), house.stories) == (False, [])
        way.release.set()
        (story,) = await house.told()
        assert (story.outcome, story.status) == ("abandoned", 0)
        assert way.outcome.closed


async def test_after_the_first_byte_an_error_is_an_outcome_too(leave):
    way = Slow(sent=True, outcome=ProxyError("upstream_timeout", "slow", sent="maybe"))
    async with House(way) as house, house.caller() as caller:
        caller.send(post(b"a"))
        await way.reached.wait()
        leave(caller)
        await asyncio.sleep(0.05)
        way.release.set()
        (story,) = await house.told()
        assert (story.outcome, story.status, story.error) == ("abandoned", 0, "upstream_timeout")


async def test_in_the_middle_of_an_answer_the_rest_is_given_up_at_once(leave):
    reply = Reply((b"a", asyncio.Event()))

    async def way(request, story):
        sending(story)
        return reply

    async with House(way) as house, house.caller() as caller:
        caller.send(get())
        await caller.reader.readuntil(b"\r\n1\r\na\r\n")
        leave(caller)
        (story,) = await house.told()
        assert (story.outcome, story.status, reply.closed) == ("abandoned", 200, True)
        assert not house.server._connections  # else so many who leave like this would fill the house for ever


async def test_behind_an_answer_that_was_broken_off_no_further_request_is_taken():
    """Its caller would never hear of it."""
    reply = Reply((b"half", BROKEN), headers=(("Content-Length", "9"),))
    async with House(reply) as house, house.caller() as caller:
        caller.send(post(b"1") + post(b"2"))
        await caller.closed()
        await house.told()
        assert house.bodies == [b"1"]


async def test_in_the_middle_of_a_body_nothing_is_left_behind(leave):
    async with House() as house, house.caller() as caller:
        caller.send(post(bytes(10_000))[:5_000])
        await asyncio.sleep(0.02)
        leave(caller)
        (story,) = await house.told()
        assert (story.outcome, house.bodies, house.complaints) == ("abandoned", [], [])


async def test_a_caller_who_pipelines_and_leaves_gets_no_more_called():
    way = Slow(sent=True)
    async with House(way) as house, house.caller() as caller:
        caller.send(post(b"a") + post(b"b"))
        await way.reached.wait()
        caller.writer.close()
        await asyncio.sleep(0.02)
        way.release.set()
        await house.told(1)
        assert len(house.requests) == 1


@pytest.mark.both_loops
async def test_an_answer_that_ends_with_the_connection_is_not_cut_off_cleanly():
    """The caller has shut its side and still reads: a FIN behind half of it would be its end."""
    full, release = asyncio.Event(), asyncio.Event()

    async def way(request, story):
        sending(story)
        return Unread(request.connection, full, release)

    async with House(way) as house, house.caller() as caller:
        caller.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        caller.writer.transport.pause_reading()
        caller.send(get(version="HTTP/1.0"))
        async with asyncio.timeout(5):
            await full.wait()
        caller.writer.write_eof()
        await asyncio.sleep(0.1)
        release.set()
        await house.told()
        caller.writer.transport.resume_reading()
        with pytest.raises(ConnectionResetError):
            await caller.reader.read()


class Unread(Reply):
    """Until the caller's socket takes no more; the rest when it is released."""

    def __init__(self, connection, full, release):
        super().__init__()
        self.connection = connection
        self.full = full
        self.release = release

    async def chunks(self):
        while not self.connection.transport.get_write_buffer_size():
            yield b"x" * 16_384
            await asyncio.sleep(0.001)
        self.full.set()
        await self.release.wait()
        yield b"the rest"


async def test_no_task_is_left_when_callers_have_left():
    before = len(asyncio.all_tasks())
    async with House(Slow(sent=False)) as house:
        for _ in range(20):
            async with house.caller() as caller:
                caller.send(get())
                await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == before
