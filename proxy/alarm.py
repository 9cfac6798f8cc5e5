"""A deadline that moves with every request and is hardly ever reached."""

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Calls `ring` at the moment set last. Moving it later costs an assignment: its one timer is set anew when it
    comes too early, not for each request.
    """

    __slots__ = ("_armed", "_loop", "_ring", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf
        self._when = math.inf

    def at(self, when: float) -> None:
        """`when`: of the loop's clock, seconds."""
        self._when = when
        if when < self._armed:
            self._arm(when)

    def off(self) -> None:
        self._when = math.inf

    def end(self) -> None:
        """Off for good, with its timer."""
        self.off()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = when
        self._timer = self._loop.call_at(when, self._due)

    def _due(self) -> None:
        self._timer, self._armed = None, math.inf
        if self._loop.time() >= self._when:
            self.off()
            self._ring()
        elif self._when < math.inf:
            self._arm(self._when)
