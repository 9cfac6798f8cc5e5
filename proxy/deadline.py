"""A limit on waiting that many tasks have at once: `asyncio.timeout`, with one timer for all of them."""

import asyncio
from types import TracebackType
from typing import Any, Final, Self

SLACK: Final = 0.01
"""Seconds by which a deadline may come early, with one that is due now: what the one leaves behind, the other would
take and could not use."""


class Deadline:
    """`with deadline.within() as limit: ...` raises TimeoutError in there after `seconds`.

    All have the same limit, so they come due in the order in which they entered, and only the first is watched.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._inside: dict[Limit, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.leave = self._inside.pop

    def within(self) -> "Limit":
        return Limit(self)

    def enter(self, one: "Limit", loop: asyncio.AbstractEventLoop) -> float:
        """Returns when it comes due."""
        due = loop.time() + self._seconds
        self._inside[one] = None
        if self._timer is None:
            self._timer = loop.call_at(due, self._ring)
        return due

    def _ring(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while first := next(iter(self._inside), None):
            if first.due > loop.time() + SLACK:
                self._timer = loop.call_at(first.due, self._ring)
                return
            del self._inside[first]
            first.end()


class Limit:
    """One task inside. As with `asyncio.timeout`, a cancellation by somebody else stays one.

    `due`: when it ends, on the loop's clock.
    """

    __slots__ = ("_cancelled", "_deadline", "_over", "_own", "_task", "due")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._over = False
        self._own: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task: asyncio.Task[Any] | None = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a deadline is for tasks")
        self._task, self._cancelled = task, task.cancelling()
        self.due = self._deadline.enter(self, loop)
        return self

    def expired(self) -> bool:
        return self._over

    def lift(self) -> None:
        """Nothing ends it until `resume`."""
        self._deadline.leave(self, None)

    def resume(self) -> None:
        """It comes due as before, with a timer of its own: the others have gone on without it."""
        self._own = asyncio.get_running_loop().call_at(self.due, self.end)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._deadline.leave(self, None)
        if self._own is not None:
            self._own.cancel()
        if self._over and self._task.uncancel() <= self._cancelled and kind is asyncio.CancelledError:
            raise TimeoutError from fault

    def end(self) -> None:
        self._over = True
        self._task.cancel()
