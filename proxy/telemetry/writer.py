"""Where log lines go. A pipe that nobody reads, a slow terminal or a full disk must stop no payment.

What can stall is written by a thread of its own, from a buffer with a bound. The file is not made non-blocking
instead: that would be so for every process that shares it, the shell included.
"""

import atexit
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Final, Protocol, TextIO

MOST: Final = 4 << 20
"""Bytes that wait to be written; some 10,000 requests."""
WHOLE: Final = 4096
"""Bytes that a pipe takes as one, so that lines of several processes do not cut each other (POSIX's PIPE_BUF)."""
FAREWELL: Final = 2.0
"""Seconds that the end of a process waits for its last lines."""


class Writer(Protocol):
    def put(self, text: str) -> bool:
        """Whole lines. False if there was no room: they are lost."""
        ...

    def drain(self) -> None:
        """Wait until all is written, at most FAREWELL."""
        ...


def alone(stream: TextIO) -> Writer:
    """Of the one process that writes to `stream`."""
    return _writer(stream, Aside)


def among_others(stream: TextIO) -> Writer:
    """Of one of several that do."""
    return _writer(stream, lambda descriptor: Aside(descriptor, WHOLE))


def without_thread(stream: TextIO) -> Writer:
    """Of a process that forks: a thread could hold a lock that the child then waits for."""
    return _writer(stream, Polled)


def _writer(stream: TextIO, careful: Callable[[int], Writer]) -> Writer:
    try:
        descriptor = stream.fileno()
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except (OSError, ValueError, AttributeError):
        return Direct(stream)
    return Direct(stream) if is_file else careful(descriptor)


class Direct:
    """Memory and ordinary files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def put(self, text: str) -> bool:
        with suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
        return True

    def drain(self) -> None:
        """All is."""


class Polled:
    """Written if there is room for it now. Should others fill that very room, one piece waits for the reader."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)

    def put(self, text: str) -> bool:
        for piece in pieces(text.encode("utf-8", "backslashreplace"), WHOLE):
            if not self._room.poll(0):
                return False
            with suppress(OSError):
                os.write(self._descriptor, piece)
        return True

    def drain(self) -> None:
        """All is, or lost."""


class Aside:
    """Written by a thread, at most `piece` bytes at once. Each of two counters has one writer, so there is no lock.

    The thread starts with the first line; a forked process needs its own.
    """

    def __init__(self, descriptor: int, piece: int = MOST, most: int = MOST) -> None:
        self._descriptor = descriptor
        self._piece = piece
        self._most = most
        self._process = 0

    def put(self, text: str) -> bool:
        if self._process != os.getpid():
            self._start()
        data = text.encode("utf-8", "backslashreplace")
        if self._handed - self._written + len(data) > self._most:
            return False
        self._handed += len(data)
        self._queue.put(data)
        return True

    def drain(self) -> None:
        until = time.monotonic() + FAREWELL
        while self._process == os.getpid() and self._handed > self._written and time.monotonic() < until:
            time.sleep(0.001)

    def _start(self) -> None:
        self._process = os.getpid()
        self._handed = self._written = 0
        self._queue = SimpleQueue[bytes]()
        Thread(target=self._write_on, args=(self._queue,), daemon=True, name="log").start()
        atexit.register(self.drain)

    def _write_on(self, queue: "SimpleQueue[bytes]") -> None:
        while True:
            data = queue.get()
            with suppress(OSError):
                for piece in pieces(data, self._piece):
                    self._write(piece)
            self._written += len(data)

    def _write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever started us made it so
                select.select([], [self._descriptor], [])


def pieces(data: bytes, most: int) -> Iterator[bytes]:
    """Cut behind lines; a longer line is a piece of its own."""
    start = 0
    while len(data) - start > most:
        end = data.rfind(b"\n", start, start + most) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]
