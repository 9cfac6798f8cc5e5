import asyncio
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import in_virtual_time

from proxy.errors import ProxyError
from proxy.gate import Gate


class Visitors:
    """Requests at a gate, told apart by number."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.leave: dict[int, asyncio.Event] = {}
        self.inside: list[int] = []
        self.entered: list[int] = []
        self.stood_in_line: set[int] = set()
        self.turned_away: list[tuple[int, ProxyError]] = []

    async def come(self) -> int:
        number = len(self.tasks)
        self.leave[number] = asyncio.Event()
        self.tasks[number] = asyncio.create_task(self._visit(number))
        await settle()
        if number not in self.entered:
            self.stood_in_line.add(number)
        return number

    async def _visit(self, number: int) -> None:
        try:
            await self.gate.enter()
        except ProxyError as error:
            self.turned_away.append((number, error))
            return
        self.inside.append(number)
        self.entered.append(number)
        try:
            await self.leave[number].wait()
        finally:
            self.inside.remove(number)
            self.gate.leave()

    async def go(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@in_virtual_time
async def test_lets_as_many_in_as_told_and_the_rest_wait_in_order() -> None:
    visitors = Visitors(Gate(2, 3, wait=60))
    for _ in range(5):
        await visitors.come()
    assert visitors.inside == [0, 1]
    assert visitors.gate.waiting == 3
    visitors.leave[1].set()
    await settle()
    assert visitors.inside == [0, 2]
    visitors.leave[0].set()
    visitors.leave[2].set()
    await settle()
    assert visitors.entered == [0, 1, 2, 3, 4]
    assert visitors.turned_away == []
    await visitors.go()
    assert (visitors.gate.free, visitors.gate.waiting) == (2, 0)


@in_virtual_time
async def test_a_full_line_turns_away_at_once() -> None:
    visitors = Visitors(Gate(1, 1, wait=60))
    for _ in range(3):
        await visitors.come()
    ((number, error),) = visitors.turned_away
    assert (number, error.code, error.sent, error.retry_after) == (2, "overloaded", "no", 1)
    await visitors.go()


@in_virtual_time
async def test_without_a_line_only_the_places_count() -> None:
    visitors = Visitors(Gate(1, 0, wait=60))
    await visitors.come()
    await visitors.come()
    assert [number for number, _ in visitors.turned_away] == [1]
    visitors.leave[0].set()
    await settle()
    await visitors.come()
    assert visitors.inside == [2]
    await visitors.go()


@in_virtual_time
async def test_who_waits_too_long_is_turned_away_and_keeps_nobody_waiting() -> None:
    visitors = Visitors(Gate(1, 5, wait=3))
    await visitors.come()
    await visitors.come()
    await asyncio.sleep(2)
    await visitors.come()
    await asyncio.sleep(1.5)
    ((number, error),) = visitors.turned_away
    assert (number, error.code, error.retry_after) == (1, "overloaded", 1)
    visitors.leave[0].set()
    await settle()
    assert visitors.inside == [2]
    await visitors.go()
    assert (visitors.gate.free, visitors.gate.waiting) == (1, 0)


@pytest.mark.parametrize("first", ["leave", "cancel"])
@in_virtual_time
async def test_a_place_handed_to_one_who_leaves_in_that_moment_goes_on(first: str) -> None:
    visitors = Visitors(Gate(1, 5, wait=60))
    for _ in range(3):
        await visitors.come()
    steps = [visitors.leave[0].set, visitors.tasks[1].cancel]
    for step in steps if first == "leave" else reversed(steps):
        step()
    await settle()
    assert visitors.inside == [2]
    await visitors.go()
    assert (visitors.gate.free, visitors.gate.waiting) == (1, 0)


@in_virtual_time
async def test_a_place_handed_over_in_the_moment_the_wait_ends_is_not_lost() -> None:
    gate = Gate(1, 5, wait=3)
    visitors = Visitors(gate)
    await visitors.come()
    await visitors.come()
    asyncio.get_running_loop().call_later(3, visitors.leave[0].set)
    await asyncio.sleep(4)
    visitors.leave[1].set()
    await settle()
    assert visitors.inside == []
    assert (gate.free, gate.waiting) == (1, 0)
    await visitors.go()


@pytest.mark.parametrize("first", ["leave", "cancel"])
@in_virtual_time
async def test_a_place_is_given_to_the_next_when_the_first_in_line_is_cancelled_in_the_same_step(first: str) -> None:
    """Before its task has run again to say so."""
    visitors = Visitors(Gate(1, 5, wait=60))
    await visitors.gate.enter()
    for _ in range(2):
        await visitors.come()
    steps = [visitors.gate.leave, visitors.tasks[0].cancel]
    for step in steps if first == "leave" else reversed(steps):
        step()
    await settle()
    assert visitors.inside == [1]
    await visitors.go()
    assert (visitors.gate.free, visitors.gate.waiting) == (1, 0)


@in_virtual_time
async def test_without_a_limit_all_come_in() -> None:
    visitors = Visitors(Gate(math.inf, 0, wait=60))
    for _ in range(100):
        await visitors.come()
    assert len(visitors.inside) == 100
    await visitors.go()
    assert (visitors.gate.free, visitors.gate.waiting) == (math.inf, 0)


STEPS = st.lists(st.sampled_from(["come", "come", "leave", "cancel", "cancel in line", "time"]), max_size=60)


@given(concurrency=st.integers(1, 4), queue=st.integers(0, 4), steps=STEPS, seed=st.integers(0, 2**32))
def test_counts_hold_whatever_happens(concurrency: int, queue: int, steps: list[str], seed: int) -> None:
    in_virtual_time(_walk)(concurrency, queue, steps, random.Random(seed))


async def _walk(concurrency: int, queue: int, steps: list[str], chance: random.Random) -> None:
    gate = Gate(concurrency, queue, wait=5)
    visitors = Visitors(gate)
    for step in steps:
        waiting = [number for number, task in visitors.tasks.items() if not task.done()]
        waiting = [number for number in waiting if number not in visitors.inside]
        if step == "come":
            await visitors.come()
        elif step == "time":
            await asyncio.sleep(chance.choice([0.5, 2, 5]))
        elif step == "leave" and visitors.inside:
            visitors.leave[chance.choice(visitors.inside)].set()
        elif step == "cancel" and visitors.inside:
            visitors.tasks[chance.choice(visitors.inside)].cancel()
        elif step == "cancel in line" and waiting:
            visitors.tasks[chance.choice(waiting)].cancel()
        if chance.random() < 0.7:  # else the next step falls into the same moment
            await settle()
            assert len(visitors.inside) + gate.free == concurrency
            assert gate.waiting == 0 or gate.free == 0
        assert len(visitors.inside) <= concurrency
        assert gate.waiting <= queue
        served = [number for number in visitors.entered if number in visitors.stood_in_line]
        assert served == sorted(served)
    await visitors.go()
    assert (gate.free, gate.waiting) == (concurrency, 0)


async def test_a_place_goes_past_one_who_is_just_leaving():
    """The cancelled waiter has not run yet when the place is handed on: neither it nor the giver may stumble."""
    gate = Gate(1, 5, 10)
    await gate.enter()
    leaving, staying = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    leaving.cancel()
    gate.leave()
    await asyncio.gather(leaving, staying, return_exceptions=True)
    assert (leaving.cancelled(), staying.exception(), gate.free, gate.waiting) == (True, None, 0, 0)
