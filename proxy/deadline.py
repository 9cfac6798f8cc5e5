"""A limit on waiting that many tasks have at once: `asyncio.timeout`, with one timer for all of them."""

import asyncio
from typing import Any, Final

SLACK: Final = 0.01
"""Seconds by which a deadline may come early, with one that is due now: what the one leaves behind, the other would
take and could not use."""

Task = asyncio.Task[Any]


class Deadline:
    """From `begin` to `end` a task has `seconds`; then it is cancelled, and has `passed` its deadline.

    All have the same limit, so they come due in the order in which they began, and only the first is watched. Times
    are of the loop's clock. Nothing is made for a task but a row of a table: there is one with every request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[Task, tuple[float, int]] = {}
        """When each comes due, and how often it had been cancelled before."""
        self._lifted: dict[Task, tuple[float, int]] = {}
        self._own: dict[Task, asyncio.TimerHandle] = {}
        self._over: dict[Task, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The one that all tasks run in."""

    def begin(self) -> Task:
        """The running task, which is to `end`."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a deadline is for tasks")
        due = loop.time() + self._seconds
        self._running[task] = due, task.cancelling()
        if self._timer is None:
            self._timer = loop.call_at(due, self._ring)
        return task

    def end(self, task: Task) -> None:
        if self._running.pop(task, None) is None:
            self._lifted.pop(task, None)
            if task in self._own:
                self._own.pop(task).cancel()
            if self._over.pop(task, None) is not None:
                task.uncancel()

    def is_over(self, task: Task) -> bool:
        """Has it been cancelled from here?"""
        return task in self._over

    def passed(self, task: Task) -> bool:
        """Is this why it is cancelled? As with `asyncio.timeout`, a cancellation by somebody else stays one."""
        return task in self._over and task.cancelling() - 1 <= self._over[task]

    def lift(self, task: Task) -> float:
        """Nothing ends it until `resume`. Returns when it would have come due."""
        self._lifted[task] = self._running.pop(task)
        return self._lifted[task][0]

    def resume(self, task: Task) -> None:
        """It comes due as before, with a timer of its own: the others have gone on without it."""
        due, before = self._lifted.pop(task)
        self._own[task] = asyncio.get_running_loop().call_at(due, self._cancel, task, before)

    def _ring(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._running:
            task, (due, before) = next(iter(self._running.items()))
            if due > loop.time() + SLACK:
                self._timer = loop.call_at(due, self._ring)
                return
            del self._running[task]
            self._cancel(task, before)

    def _cancel(self, task: Task, before: int) -> None:
        self._over[task] = before
        task.cancel()
