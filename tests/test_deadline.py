import asyncio
from contextlib import suppress

import pytest
from virtual_time import in_virtual_time

from proxy.deadline import Deadline


async def waiting(deadline, seconds, told):
    try:
        with deadline.within():
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
    with deadline.within():
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
    with pytest.raises(ValueError, match="own"), Deadline(5).within():
        raise ValueError("own")


@in_virtual_time
async def test_lifted_nothing_ends_it_and_resumed_it_ends_as_before():
    deadline, told, start = Deadline(5), [], asyncio.get_running_loop().time()

    async def two_steps(first, second):
        try:
            with deadline.within() as limit:
                limit.lift()
                await asyncio.sleep(first)
                limit.resume()
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
