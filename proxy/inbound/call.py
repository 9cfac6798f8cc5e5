"""One request of a caller as the pipeline sees it, and how far its answer is."""

import asyncio
from typing import Final

from aiohttp import HttpVersion11
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.errors import ProxyError
from proxy.inbound.bodies import Bodies
from proxy.inbound.connection import CallerConnection
from proxy.inbound.terms import BrokenBody
from proxy.model import Headers, Tunnel
from proxy.telemetry.story import Story

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Call:
    """An InboundRequest, its body held on demand. `message` is its head, of which `names` and `headers` are read when
    it is found good; `bodies` is what the body is taken of.
    """

    __slots__ = (
        "_bodies",
        "_is_read",
        "begun",
        "connection",
        "headers",
        "held",
        "is_http11",
        "keeps",
        "left",
        "loopback",
        "message",
        "method",
        "names",
        "passed_on",
        "payload",
        "story",
        "target",
        "tunnel",
    )

    def __init__(
        self,
        connection: CallerConnection,
        message: RawRequestMessage,
        payload: StreamReader,
        story: Story,
        bodies: Bodies,
    ) -> None:
        self.connection = connection
        self.loopback: bool = connection.loopback
        self.tunnel: Tunnel | None = connection.tunnel
        self.message = message
        self.payload = payload
        self.story = story
        self.method: str = message.method
        self.target: str = message.path
        self.names: tuple[str, ...] = ()
        self.headers: Headers = ()
        self.is_http11: bool = message.version == HttpVersion11
        self._bodies = bodies
        self.held = 0
        """Bytes of its body that were taken of `bodies`."""
        self._is_read = False
        """The body has come to its end, and was taken."""
        self.begun = self.keeps = self.left = False
        self.passed_on = False
        """Its connection is a tunnel now: the requests inside are told, this one is not."""

    # Its body

    def whole(self, limit: int) -> bytes | None:
        """Taken from under its reader, who would have the connection look for more."""
        payload, body = self.payload, b""
        if payload is not EMPTY_PAYLOAD:
            if not payload.is_eof() or payload.exception() is not None:
                return None
            pieces = payload._buffer  # noqa: SLF001
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if len(body) > limit:
                raise _too_large()
            self._take(len(body))
        self._is_read = True
        return body

    async def hold(self, limit: int) -> bytes:
        whole = self.whole(limit)
        if whole is not None:
            return whole
        payload = self.payload
        announced = int(self.message.headers.get("Content-Length", "0"))
        if announced > limit:
            raise _too_large()
        self._take(announced)
        if not payload.is_eof() and "Expect" in self.message.headers and self.is_http11:
            self.connection.write(_CONTINUE)
        try:
            async with asyncio.timeout(self.connection.limits.body_seconds):
                return await self._read(payload, limit)
        except TimeoutError:
            raise ProxyError("request_timeout", "the body did not arrive in time") from None
        except BrokenBody:
            raise ProxyError("bad_request", "the framing of the body is broken") from None

    async def _read(self, payload: StreamReader, limit: int) -> bytes:
        pieces, size = [], 0
        while piece := await payload.readany():
            size += len(piece)
            if size > limit:
                raise _too_large()
            if size > self.held:
                self._take(size - self.held)
            pieces.append(piece)
        return b"".join(pieces)

    def _take(self, size: int) -> None:
        self._bodies.take(size)
        self.held += size

    # Its answer

    def may_keep(self) -> bool:
        """Can another request follow? Not behind an unread body, nor where one behind an ignored upgrade was lost."""
        message = self.message
        return (
            (self._is_read or (self.payload.is_eof() and self.payload.exception() is None))
            and self.is_http11
            and not (message.should_close or self.connection.retiring)
            and (not message.upgrade or self.connection.lost_nothing)
        )

    def begin(self, status: int, head: bytes, *, keeps: bool) -> None:
        """Write the head of the final answer. Raises CallerLeft."""
        self.connection.write(head)
        self.begun, self.keeps, self.story.status = True, keeps, status

    def give(self, status: int, data: bytes, *, keeps: bool) -> None:
        """Write the final answer, all of it. Raises CallerLeft."""
        if keeps:
            self.connection.write_last(data)
        else:  # at once: only then is it seen whether the caller reads it, before the connection is closed
            self.connection.write(data)
        self.begun, self.keeps, self.story.status = True, keeps, status

    def break_off(self) -> None:
        """What was begun must not be taken for whole, nor another answer follow in it."""
        self.keeps = False
        self.connection.reset()

    def leave(self) -> None:
        """The caller has gone. Before the first byte to the provider all stops; after it the outcome is awaited.

        What is only being relayed has its outcome.
        """
        self.left, self.keeps = True, False
        if self.begun or self.story.sent == "no":
            self.connection.stop()


def _too_large() -> ProxyError:
    return ProxyError("body_too_large", "the body is over the route's limit")
