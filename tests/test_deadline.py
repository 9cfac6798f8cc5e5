import asyncio
from contextlib import contextmanager, suppress

import pytest
from virtual_time import in_virtual_time

from proxy.deadline import Deadline


@contextmanager
def within(deadline):
    task = deadline.begin()
    try:
        yield task
    except asyncio.CancelledError:
        if deadline.passed(task):
            raise TimeoutError from None
        raise
    finally:
        deadline.end(task)


async def waiting(deadline, seconds, told):
    try:
        with within(deadline):
            await asyncio.sleep(seconds)
            told.append("in time")
    except TimeoutError:
        told.append(round(asyncio.get_running_loop().time(), 3))


@in_virtual_time
async def test_each_task_has_its_own_end():
    deadline, told, start = Deadline(10), [], asyncio.get_running_loop().time()
    tasks = []
    for seconds in (30, 1, 30, 30):
        tasks.append(asyncio.create_task(waiting(deadline, seconds, told)))
        await asyncio.sleep(2)
    await asyncio.gather(*tasks)
    assert told == ["in time", start + 10, start + 14, start + 16]


@in_virtual_time
async def test_who_left_in_time_is_left_alone():
    deadline = Deadline(1)
    with within(deadline):
        await asyncio.sleep(0.5)
    await asyncio.sleep(5)


@in_virtual_time
async def test_a_cancellation_by_somebody_else_stays_one():
    deadline = Deadline(5)
    task = asyncio.create_task(waiting(deadline, 30, []))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_virtual_time
async def test_both_at_once_is_a_cancellation():
    deadline, told = Deadline(5), []
    task = asyncio.create_task(waiting(deadline, 30, told))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + 5, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert told == []


@in_virtual_time
async def test_a_fault_of_its_own_passes():
    with pytest.raises(ValueError, match="own"), within(Deadline(5)):
        raise ValueError("own")


@in_virtual_time
async def test_lifted_nothing_ends_it_and_resumed_it_ends_as_before():
    deadline, told, start = Deadline(5), [], asyncio.get_running_loop().time()

    async def two_steps(first, second):
        try:
            with within(deadline) as task:
                assert deadline.lift(task) == start + 5
                await asyncio.sleep(first)
                deadline.resume(task)
                await asyncio.sleep(second)
                told.append("in time")
        except TimeoutError:
            told.append(asyncio.get_running_loop().time() - start)

    await asyncio.gather(two_steps(2, 1), two_steps(2, 30), two_steps(9, 30))
    assert told == ["in time", 5, 9]


async def test_what_is_due_at_nearly_the_same_time_ends_together():
    deadline, told = Deadline(0.05), []
    tasks = [asyncio.create_task(waiting(deadline, 1, told)) for _ in range(3)]
    await asyncio.gather(*tasks)
    assert max(told) - min(told) < 0.01


@in_virtual_time
async def test_a_task_that_was_cancelled_before_has_a_deadline_too_and_no_count_stays_on_it():
    deadline, told = Deadline(5), []

    async def stubborn():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        await waiting(deadline, 30, told)
        return asyncio.current_task().cancelling()

    start, task = asyncio.get_running_loop().time(), asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == 1
    assert told == [start + 5]


@in_virtual_time
async def test_nothing_is_kept_of_those_that_ended():
    deadline = Deadline(5)

    async def lifted(resumed):
        with suppress(TimeoutError), within(deadline) as task:
            deadline.lift(task)
            if resumed:
                deadline.resume(task)
                await asyncio.sleep(30)

    await asyncio.gather(waiting(deadline, 1, []), waiting(deadline, 30, []), lifted(False), lifted(True))
    assert [table for table in vars(deadline).values() if isinstance(table, dict) and table] == []
