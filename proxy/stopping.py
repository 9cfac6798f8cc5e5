"""How a process is told to end: by signals, or by hand."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any


class Stop:
    """Set by the first SIGTERM or Ctrl-C, or by hand; a second signal does not wait for what is in flight."""

    def __init__(self, task: "asyncio.Task[Any] | None") -> None:
        self._task = task
        self._asked = asyncio.Event()
        self._first: signal.Signals | None = None

    def __call__(self, number: signal.Signals) -> None:
        if self._first is not None:
            self.hurry()
        self._first = self._first or number
        self.ask()

    def ask(self) -> None:
        """By hand, however often. The first signal after it hurries nobody: it may come of itself, as in a pod."""
        self._asked.set()

    def hurry(self) -> None:
        if self._task:
            self._task.cancel()

    async def wait(self) -> None:
        await self._asked.wait()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    @property
    def exit_code(self) -> int:
        return 128 + signal.SIGINT if self._first == signal.SIGINT else 0


@contextmanager
def stoppable() -> Iterator[Stop]:
    """What was asked to end and is then hurried ends the block without an error."""
    stop = Stop(asyncio.current_task())
    try:
        yield stop
    except asyncio.CancelledError:
        if not stop.asked:
            raise


@asynccontextmanager
async def until_signalled() -> AsyncIterator[Stop]:
    loop = asyncio.get_running_loop()
    with stoppable() as stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        try:
            yield stop
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
