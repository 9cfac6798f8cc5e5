"""What is written in one turn of the event loop leaves together at its end.

A write to a peer that sleeps wakes it, and between two writes that are a request apart it falls asleep again: the
system's part of a request was a third less with this (measured, 32 connections).
"""

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary


class Outbox:
    def __init__(self) -> None:
        self._leaving: list[Callable[[], None]] = []

    def put(self, leave: Callable[[], None]) -> None:
        """`leave` is called at the end of this turn. It must not raise."""
        self._leaving.append(leave)
        if len(self._leaving) == 1:
            asyncio.get_running_loop().call_soon(self._empty)

    def _empty(self) -> None:
        leaving, self._leaving = iter(self._leaving), []
        try:
            for leave in leaving:
                leave()
        finally:  # should one break its word, the others still leave
            for leave in leaving:
                self.put(leave)


_OUTBOXES: "WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox]" = WeakKeyDictionary()


def outbox() -> Outbox:
    """The one of the running loop: answers and requests of a turn leave together."""
    return _OUTBOXES.setdefault(asyncio.get_running_loop(), Outbox())
