"""Whose turn it is to take a caller, among workers that accept from the same sockets.

The kernel wakes all of them and the quickest takes the caller, who then stays for as long as the connection is kept:
with four workers one got 168 of 200 connections and another 1 (measured).
"""

import mmap
from dataclasses import dataclass
from typing import Final

_ABSENT: Final = 1 << 62


class Turns:
    """What every worker has open and ever took, in memory that all see and each writes its own part of."""

    def __init__(self, workers: int) -> None:
        self._page = memoryview(mmap.mmap(-1, workers * 16)).cast("q")
        for number in range(workers):
            self.vacate(number)

    def seat(self, number: int) -> "Seat":
        """For the worker of this number, counted from 0. One that comes later has no past to catch up with."""
        taken = max((self._page[i + 1] for i in range(0, len(self._page), 2) if self._page[i] != _ABSENT), default=0)
        self._page[2 * number + 1] = taken
        self._page[2 * number] = 0
        return Seat(self._page, number)

    def vacate(self, number: int) -> None:
        """Nobody waits for one that has ended."""
        self._page[2 * number] = _ABSENT


@dataclass(frozen=True, slots=True)
class Seat:
    page: memoryview
    number: int

    @property
    def at(self) -> int:
        return 2 * self.number

    def lead(self) -> int:
        """By how many connections this worker is ahead of the one whose turn it is; 0: it is this one's.

        At least 1 if the other has as many and took fewer.
        """
        mine, (least, took, _) = (self.page[self.at], self.page[self.at + 1]), self._next()
        return 0 if mine <= (least, took) else max(1, mine[0] - least)

    def awaited(self) -> tuple[int, int]:
        """The worker whose turn it is, and how many callers it ever took: the same for as long as it takes none."""
        _, took, number = self._next()
        return number, took

    def _next(self) -> tuple[int, int, int]:
        """What the worker whose turn it is has open and ever took, and its number."""
        return min((self.page[i], self.page[i + 1], i // 2) for i in range(0, len(self.page), 2))

    def took(self) -> None:
        self.page[self.at] += 1
        self.page[self.at + 1] += 1

    def lost(self) -> None:
        self.page[self.at] -= 1
