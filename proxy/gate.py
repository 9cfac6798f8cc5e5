"""How many requests of one route are under way at once, and how many may wait for their turn."""

import asyncio
from collections import deque
from typing import Final

from proxy.errors import ProxyError

RETRY_AFTER: Final = 1.0


class Gate:
    """`concurrency` requests inside, `queue` more in line for at most `wait` seconds, first come first served.

    `math.inf` inside is no limit. A place that is left goes straight to the first in line, so nobody overtakes, and
    none is free while one waits.
    """

    def __init__(self, concurrency: float, queue: int, wait: float) -> None:
        self._free = concurrency
        self._queue = queue
        self._wait = wait
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> float:
        return self._free

    @property
    def waiting(self) -> int:
        return len(self._line)

    async def enter(self) -> None:
        """Take a place, to `leave` once. Raises ProxyError `overloaded` when the line is full or the wait too long."""
        if not self.taken():
            await self._turn()

    def taken(self) -> bool:
        """As `enter`, if a place is free now."""
        if self._free:
            self._free -= 1
            return True
        return False

    def leave(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():  # else its request was cancelled in this very moment
                turn.set_result(None)
                return
        self._free += 1

    async def _turn(self) -> None:
        if len(self._line) >= self._queue:
            raise _overloaded("the line for this route is full")
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout(self._wait):
                await turn
        except TimeoutError:
            self._give_up(turn)
            raise _overloaded("no turn came in time on this route") from None
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn in self._line:
            self._line.remove(turn)
        elif not turn.cancelled():  # the place was handed over in the very moment of giving up
            self.leave()


def _overloaded(detail: str) -> ProxyError:
    return ProxyError("overloaded", detail, sent="no", retry_after=RETRY_AFTER)
