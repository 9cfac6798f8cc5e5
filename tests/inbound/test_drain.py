"""Stopping: nothing in flight is lost, nothing idle is waited for."""

import asyncio
import time

import pytest
from serving import House, Reply, get, post, sending, whole


class Gate:
    """A way that waits to be let through."""

    def __init__(self, *, sent=True):
        self.sent = sent
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, request, story):
        await request.hold(100)
        if self.sent:
            sending(story)
        self.reached.set()
        await self.open.wait()
        story.outcome = "forwarded"
        return whole(b"done")


async def test_in_flight_is_finished_and_told_to_close():
    gate = Gate()
    async with House(gate) as house, house.caller() as caller:
        caller.send(post(b"a"))
        await gate.reached.wait()
        drain = asyncio.create_task(house.server.drain(5))
        await asyncio.sleep(0.05)
        assert not drain.done()
        gate.open.set()
        answer = await caller.answer()
        assert (answer.status, answer.body, answer.value("Connection")) == (200, b"done", "close")
        assert await caller.closed() == b""
        async with asyncio.timeout(1):
            await drain
        assert (await house.told())[0].outcome == "forwarded"


async def test_an_answer_being_relayed_is_finished():
    release = asyncio.Event()
    async with House(Reply((b"a", release, b"b"))) as house, house.caller() as caller:
        caller.send(get())
        await caller.reader.readuntil(b"\r\na\r\n")
        drain = asyncio.create_task(house.server.drain(5))
        await asyncio.sleep(0.02)
        release.set()
        assert (await caller.closed()).endswith(b"1\r\nb\r\n0\r\n\r\n")
        await drain


async def test_idle_and_half_open_connections_are_not_waited_for():
    async with House() as house, house.caller() as idle, house.caller() as silent, house.caller() as half:
        idle.send(get())
        await idle.answer()
        half.send(b"GET / HT")
        await asyncio.sleep(0.02)
        start = time.monotonic()
        await house.server.drain(5)
        assert time.monotonic() - start < 4
        for caller in (idle, silent, half):
            assert await caller.closed() == b""


async def test_new_connections_are_refused():
    async with House() as house:
        await house.server.drain(1)
        with pytest.raises(ConnectionRefusedError):
            await house.ask(get())


async def test_the_rest_of_a_refused_body_is_not_waited_for():
    async with House(limit=1) as house, house.caller() as caller:
        caller.send(get("/", "Content-Length: 100", method="POST"))
        assert (await caller.answer()).status == 413
        start = time.monotonic()
        await house.server.drain(5)
        assert time.monotonic() - start < 4


async def test_the_outcome_for_a_caller_who_left_is_waited_for():
    gate = Gate()
    async with House(gate) as house:
        async with house.caller() as caller:
            caller.send(post(b"a"))
            await gate.reached.wait()
        drain = asyncio.create_task(house.server.drain(5))
        await asyncio.sleep(0.05)
        assert not drain.done()
        gate.open.set()
        await drain
        assert [story.outcome for story in house.stories] == ["abandoned"]


@pytest.mark.parametrize(("sent", "said"), [(True, "maybe"), (False, "no")])
async def test_what_is_still_in_flight_at_the_end_is_answered(sent, said):
    gate = Gate(sent=sent)
    async with House(gate) as house, house.caller() as caller:
        caller.send(post(b"a"))
        await gate.reached.wait()
        await house.server.drain(0.05)
        await house.server.close()
        answer = await caller.answer()
        assert (answer.status, answer.value("X-Paraf-Error")) == (503, "shutting_down")
        assert f'"sent": "{said}"'.encode() in answer.body
        assert await caller.closed() == b""
        (story,) = await house.told()
        assert (story.outcome, story.error, story.status) == ("error", "shutting_down", 503)


async def test_closing_leaves_no_task_behind():
    before = asyncio.all_tasks()
    house = House(Gate())
    async with house, house.caller() as one, house.caller() as two:
        one.send(post(b"a"))
        two.send(b"GET")
        await house.way.reached.wait()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert house.complaints == []
