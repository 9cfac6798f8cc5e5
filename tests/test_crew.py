import asyncio
import os
import signal
import socket

import pytest

from proxy.crew import FIRST_PAUSE, HUNG, LONGEST_PAUSE, SILENT, Member, pause
from proxy.line import Line
from proxy.telemetry.merge import to_json

COUNTED = {"paraf_requests_total": {("pay", "POST", "2xx", "forwarded"): [3]}}
TOLD = to_json({**COUNTED, "paraf_inflight_requests": {("pay",): [1]}})


def test_pauses_double_and_begin_anew_after_a_steady_life():
    pauses = [0.0]
    for _ in range(9):
        pauses.append(pause(0.01, pauses[-1]))
    assert pauses[1:5] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE
    assert pause(30.0, LONGEST_PAUSE) == FIRST_PAUSE
    assert pause(29.9, LONGEST_PAUSE) == LONGEST_PAUSE


class Life:
    """A process that does nothing, whose line the test has in its own hand."""

    def __init__(self, member):
        self.member = member

    async def __aenter__(self):
        ours, theirs = socket.socketpair()
        self.pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})  # noqa: ASYNC221
        await self.member.begin(self.pid, ours)
        self.line = await Line.over(theirs)
        self.task = asyncio.create_task(self.member.live())
        return self

    async def __aexit__(self, *_):
        await self.line.close()
        await asyncio.wait_for(self.task, 5)


async def told(line):
    return await asyncio.wait_for(anext(line.heard()), 5)


@pytest.fixture
def changes():
    return []


@pytest.fixture
def member(changes):
    return Member(0, lambda: changes.append(1))


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_life_from_ready_to_its_end(member, changes):
    async with Life(member) as life:
        asking = [asyncio.create_task(member.ask()) for _ in range(2)]
        assert await told(life.line) == ("numbers", "")
        assert member.starting
        assert not member.ready
        life.line.say("ready")
        await until(lambda: member.ready)
        assert not member.starting
        assert changes == [1]
        life.line.say("numbers", TOLD)
        await asyncio.gather(*asking)
        assert member.numbers["paraf_inflight_requests"] == {("pay",): (1,)}
        os.kill(life.pid, signal.SIGKILL)
    assert (member.pid, member.ready, member.exit_code, member.false_starts) == (None, False, -9, 0)
    assert changes == [1, 1]
    assert member.numbers["paraf_requests_total"] == {("pay", "POST", "2xx", "forwarded"): (3,)}
    assert member.numbers["paraf_inflight_requests"] == {}


async def test_counters_go_on_over_lives(member):
    for total in (3, 6):
        async with Life(member) as life:
            life.line.say("ready")
            life.line.say("numbers", TOLD)
            await until(lambda: member.numbers["paraf_inflight_requests"])
            assert member.numbers["paraf_requests_total"] == {("pay", "POST", "2xx", "forwarded"): (total,)}
            os.kill(life.pid, signal.SIGTERM)


async def test_false_starts_are_counted_in_a_row(member):
    for expected in (1, 2):
        async with Life(member) as life:
            os.kill(life.pid, signal.SIGTERM)
        assert member.false_starts == expected
    async with Life(member) as life:
        life.line.say("ready")
        await until(lambda: member.ready)
        os.kill(life.pid, signal.SIGTERM)
    assert member.false_starts == 0


async def asked_when_ready(life, member):
    """The pulse that waits for its numbers."""
    life.line.say("ready")
    await until(lambda: member.ready)
    pulse = asyncio.create_task(member.ask())
    assert await told(life.line) == ("numbers", "")
    return pulse


async def test_who_asks_is_not_left_waiting_by_a_crash(member):
    async with Life(member) as life:
        asking = await asked_when_ready(life, member)
        os.kill(life.pid, signal.SIGKILL)
    await asyncio.wait_for(asking, 1)
    member.say("stop")  # to nobody


async def test_one_that_leaves_its_pulses_unanswered_is_silent_until_it_says_a_word(member, changes):
    await member.ask()  # it has not begun: nothing to wait for
    async with Life(member) as life:
        life.line.say("ready")
        await until(lambda: member.ready)
        asked = asyncio.create_task(member.inquire("tokens", None))
        assert await told(life.line) == ("ask", '[0, "tokens", null]')
        for _ in range(2 * SILENT):
            member.count_silence()  # nothing was asked
        assert member.ready
        pulse = asyncio.create_task(member.ask())
        assert await told(life.line) == ("numbers", "")
        for missed in range(SILENT):
            assert (member.unanswered, member.ready) == (missed, True)
            member.count_silence()
        assert (member.ready, member.starting, member.silent) == (False, False, True)
        assert await asyncio.wait_for(asked, 1) == []  # who waits for it is let go
        assert await member.inquire("look again", None) == []
        assert changes == [1, 1]
        assert await told(life.line) == ("ask", '[1, "look again", null]')  # yet it hears of it when it wakes
        life.line.say("answer", "[0, 1]")
        await until(lambda: member.ready)
        assert changes == [1, 1, 1]
        life.line.say("numbers", TOLD)
        await asyncio.wait_for(pulse, 1)
        os.kill(life.pid, signal.SIGKILL)
    assert (member.silent, member.false_starts) == (False, 0)


async def test_one_that_was_killed_for_its_silence_had_begun(member):
    async with Life(member) as life:
        pulse = await asked_when_ready(life, member)
        for _ in range(HUNG):
            member.count_silence()
        assert member.unanswered == HUNG
        os.kill(life.pid, signal.SIGKILL)
    await asyncio.wait_for(pulse, 1)
    assert (member.unanswered, member.false_starts) == (0, 0)


async def test_one_that_ended_its_line_and_lives_on_is_killed(member, monkeypatch):
    monkeypatch.setattr("proxy.crew._DEAD", 0.1)
    async with Life(member):
        pass
    assert member.exit_code == -signal.SIGKILL
