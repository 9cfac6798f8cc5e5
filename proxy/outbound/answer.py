"""An answer as it comes over a line: its head here, its body as far as it has come and was not taken yet."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from proxy.errors import ProxyError
from proxy.model import Fields


class Source(Protocol):
    """What the body comes from."""

    def read_on(self) -> None:
        """All that had come was taken."""
        ...

    def abort(self) -> None:
        """Nobody wants the rest."""
        ...


class Answer:
    """An UpstreamResponse from `head` on."""

    __slots__ = ("_fault", "_line", "_pieces", "_wanted", "ended", "fields", "head", "reason", "size", "status")
    reason: bytes
    fields: Fields

    def __init__(self, line: Source, head: "asyncio.Future[None]") -> None:
        self.head = head
        """Done when the head has come, or will not."""
        self.status = 0
        """0 until then."""
        self.ended = False
        self.size = 0
        """Bytes that have come and were not taken yet."""
        self._line = line
        self._pieces: list[bytes] = []
        self._fault: ProxyError | None = None
        self._wanted: asyncio.Future[None] | None = None

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)
        if self._wanted is not None:
            _wake(self._wanted)

    def end(self) -> None:
        """All of it has come."""
        self.ended = True
        if self._wanted is not None:
            _wake(self._wanted)

    def fail(self, fault: ProxyError) -> None:
        """The rest will not come."""
        self._fault = fault
        if not self.head.done():
            self.head.set_exception(fault)
        elif self._wanted is not None:
            _wake(self._wanted)

    def whole(self) -> bytes | None:
        return b"".join(self._pieces) if self.ended else None

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            if self._pieces:
                yield self._taken()
            elif self.ended:
                return
            elif (fault := self._fault) is not None:
                # Another one each time: its traceback holds its readers, and they hold this answer.
                raise ProxyError(fault.code, fault.detail, sent=fault.sent)
            else:
                self._wanted = asyncio.get_running_loop().create_future()
                await self._wanted

    def _taken(self) -> bytes:
        pieces, self._pieces, self.size = self._pieces, [], 0
        if not self.ended:
            self._line.read_on()
        return b"".join(pieces)  # of one it is the piece itself

    async def close(self) -> None:
        self._pieces.clear()
        if not self.ended:
            self._line.abort()


def _wake(wanted: "asyncio.Future[None]") -> None:
    if not wanted.done():
        wanted.set_result(None)
