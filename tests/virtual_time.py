"""asyncio without waiting: when nothing is left to do, time jumps to the next timer.

Timeouts, pauses and lifetimes of minutes run in milliseconds and always in the same order. Not for real sockets.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self._elapsed = 0.0
        self._select = self._selector.select
        self._selector.select = self._jump

    def time(self) -> float:
        return self._elapsed

    def _jump(self, timeout: float | None) -> list[Any]:
        events = self._select(0)
        if not events and timeout is None:
            raise RuntimeError("everything waits and no timer is set")
        if not events:
            self._elapsed += timeout
        return events


class VirtualClock:
    """A model.Clock on the running loop's time; `wall_offset_ms` may be set to make the wall clock jump."""

    wall_offset_ms = 1_768_447_845_000

    def now_ms(self) -> int:
        return self.wall_offset_ms + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
