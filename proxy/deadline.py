"""A limit on waiting that many tasks have at once: `asyncio.timeout`, with one timer for all of them."""

import asyncio
from types import TracebackType
from typing import Any


class Deadline:
    """`with deadline.within(): ...` raises TimeoutError in there after `seconds`.

    All have the same limit, so they come due in the order in which they entered, and only the first is watched.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._inside: dict[_Within, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def within(self) -> "_Within":
        return _Within(self)

    def enter(self, one: "_Within") -> None:
        loop = asyncio.get_running_loop()
        one.due = loop.time() + self._seconds
        self._inside[one] = None
        if self._timer is None:
            self._timer = loop.call_at(one.due, self._ring)

    def leave(self, one: "_Within") -> None:
        self._inside.pop(one, None)

    def _ring(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while first := next(iter(self._inside), None):
            if first.due > loop.time():
                self._timer = loop.call_at(first.due, self._ring)
                return
            del self._inside[first]
            first.end()


class _Within:
    """One task inside. As with `asyncio.timeout`, a cancellation by somebody else stays one."""

    __slots__ = ("_cancelled", "_deadline", "_over", "_task", "due")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._over = False
        self.due = 0.0

    def __enter__(self) -> None:
        task: asyncio.Task[Any] | None = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for tasks")
        self._task, self._cancelled = task, task.cancelling()
        self._deadline.enter(self)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._deadline.leave(self)
        if self._over and self._task.uncancel() <= self._cancelled and kind is asyncio.CancelledError:
            raise TimeoutError from fault

    def end(self) -> None:
        self._over = True
        self._task.cancel()
