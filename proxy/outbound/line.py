"""One kept connection to a provider: a message is written, one answer read, and in between nothing may come.

httptools (llhttp, strict) reads the framing; limits, deadlines and what an answer may hold are ours.
"""

import asyncio
import re
import select
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.errors import ProxyError
from proxy.headers import decoded, names_of, places
from proxy.model import Headers
from proxy.outbound.alarm import Alarm
from proxy.outbound.message import Message
from proxy.outbound.transport import Patience

READ: Final = 64 * 1024
"""Bytes of one read of the socket, and of an answer that wait for a slow caller before reading pauses."""
_PIECE: Final = 64 * 1024
"""A longer body is written piece by piece, as the connection takes it."""
_HEAD: Final = 64 * 1024
_HEAD_LINE: Final = 8190
_HEAD_LINES: Final = 128

_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Unfit(Exception):
    """A head that may not be passed on."""


class Answer:
    """An UpstreamResponse. Bytes of a header that are not UTF-8 are kept as surrogates."""

    __slots__ = ("_fault", "_line", "_pieces", "_wanted", "ended", "headers", "lasts", "reason", "size", "status")

    def __init__(self, line: "Line", status: int, reason: str, headers: Headers, *, lasts: bool) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.lasts = lasts
        """The body lasts until the connection closes."""
        self.ended = False
        self.size = 0
        """Bytes that have come and were not taken yet."""
        self._line = line
        self._pieces: deque[bytes] = deque()
        self._fault: ProxyError | None = None
        self._wanted: asyncio.Future[None] | None = None

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)
        self._wake()

    def end(self, fault: ProxyError | None = None) -> None:
        self.ended = fault is None
        self._fault = fault
        self._wake()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def whole(self) -> bytes | None:
        if not self.ended:
            return None
        if len(self._pieces) != 1:
            self._pieces = deque([b"".join(self._pieces)])
        return self._pieces[0]

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            if self._pieces:
                yield self._taken()
            elif self.ended:
                return
            elif self._fault is not None:
                raise self._fault
            else:
                self._wanted = asyncio.get_running_loop().create_future()
                await self._wanted

    def _taken(self) -> bytes:
        pieces, self._pieces, self.size = self._pieces, deque(), 0
        if not self.ended:
            self._line.read_on()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def close(self) -> None:
        self._pieces.clear()
        if not self.ended:
            self._line.abort()


class Pool(Protocol):
    """What lines belong to."""

    def freed(self, line: "Line", *, reusable: bool) -> None:
        """Called once for each `ask`, when its answer has ended or was given up."""
        ...

    def lost(self, line: "Line") -> None:
        """Its connection is gone."""
        ...


class Line(asyncio.BufferedProtocol):
    """`buffer` is what the socket is read into; as reading it never waits, all lines of a loop can share one."""

    def __init__(self, pool: Pool, origin: str, buffer: memoryview) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = buffer
        self._pool = pool
        self._parser = HttpResponseParser(self)
        self._alarm = Alarm(self._loop, self._overdue)
        self._poll = select.poll()
        self._paused = False
        self._full = False
        self._closed = False
        self._busy = False
        self._to_head = False
        self._idle_seconds = 0.0
        self.born = self._loop.time()
        self.origin = origin
        self.fresh = True
        """No answer was read from it yet."""
        self._clear()

    def _clear(self) -> None:
        self._head: asyncio.Future[Answer] | None = None
        self._answer: Answer | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._unsent: memoryview | None = None
        self._mute = 0
        self._whole = False
        self._more = False

    # What the pool asks

    @property
    def is_open(self) -> bool:
        return not self._closed and not self.transport.is_closing()

    @property
    def is_clean(self) -> bool:
        """Open, and nothing has come, not even to the kernel while the loop was busy."""
        return self.is_open and not self._poll.poll(0)

    def ask(self, message: Message, patience: Patience) -> "asyncio.Future[Answer]":
        """Write the message. The answer comes at its head; `abort` when it is not wanted any more."""
        self._busy = True
        self._to_head = message.head.startswith(b"HEAD ")
        self._idle_seconds = patience.idle
        self._head = head = self._loop.create_future()
        self._alarm.at(self._loop.time() + patience.first_byte)
        if len(message.body) <= _PIECE:
            self.transport.write(message.head + message.body)
        else:
            self.transport.write(message.head)
            self._unsent = memoryview(message.body)
            self._pump()
        return head

    def rest(self, seconds: float) -> None:
        """Wait to be used again, not longer than this."""
        self._alarm.at(self._loop.time() + seconds)

    def abort(self) -> None:
        """End it at once and tell nobody; what was not sent yet stays unsent."""
        self._closed = True
        self.transport.abort()
        self._left(reusable=False)

    def end(self) -> None:
        """Close it; an answer still being read breaks off."""
        self._break(_broken())
        self._closed = True
        self.transport.close()

    def read_on(self) -> None:
        """The reader of the answer has taken what there was."""
        if self._paused:
            self._paused = False
            self._alarm.at(self._loop.time() + self._idle_seconds)
            self.transport.resume_reading()

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._busy:
            self._closed = True
            self.transport.abort()
            return
        self._mute += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (HttpParserError, HttpParserUpgrade):
            self._more = True
            if not self._whole:
                self._break(_broken())
                return
        if self._whole:
            if self._to_head:
                self._start_anew(bytes(self._buffer[max(0, nbytes - 4) : nbytes]))
            self._finish()
        elif self._mute > _HEAD:
            self._break(_broken())
        elif self._answer is not None:
            self._go_on(self._answer)

    def eof_received(self) -> None:
        """The end of a body without length, if it is said by who said the body: what ends otherwise was cut off."""
        if self._answer is not None and self._answer.lasts and _has_ended(self.transport):
            self._more = True
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._closed = True
        self._break(_broken())
        self._alarm.end()
        self._pool.lost(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._pump()

    # What the parser tells

    def on_message_begin(self) -> None:
        if self._whole:
            self._more = True  # behind the answer: nobody asked for it
        else:
            self._fields, self._reason = [], b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value.rstrip(b" \t")))  # a trailer ends here

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == 100 or 102 <= status < 200 or self._whole or self._head is None:
            return
        self._answer = answer = self._fit(status)
        if not self._head.done():
            self._head.set_result(answer)
        if self._to_head:
            self.on_message_complete()

    def on_body(self, piece: bytes) -> None:
        self._mute = 0
        if self._whole:
            self._more = True
        elif self._answer is not None:
            self._answer.add(piece)

    def on_chunk_header(self) -> None:
        self._more = self._more or self._whole

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._whole:
            self._whole = True
            self._more = not self._parser.should_keep_alive()

    def _fit(self, status: int) -> Answer:
        """The answer, if its head can be passed on.

        A transfer coding besides chunked is hop-by-hop: it would be stripped, and the coded bytes passed for plain.
        """
        if (
            not 200 <= status < 600
            or self._parser.get_http_version() not in ("1.1", "1.0")
            or len(self._fields) > _HEAD_LINES
            or len(self._reason) > _HEAD_LINE
            or _CONTROLS.search(self._reason)
        ):
            raise Unfit
        if self._mute > _HEAD_LINE and any(len(name) + len(value) > _HEAD_LINE for name, value in self._fields):
            raise Unfit
        headers = decoded(self._fields, "surrogateescape")
        where = places(names_of(headers))
        codings = where.get("transfer-encoding", ())
        if any(headers[place][1].lower() != "chunked" for place in codings):
            raise Unfit
        framed = codings or "content-length" in where or status in (204, 304)
        return Answer(self, status, self._reason.decode("utf-8", "surrogateescape"), headers, lasts=not framed)

    # How an answer goes on and ends

    def _go_on(self, answer: Answer) -> None:
        if answer.size >= READ:
            self._paused = True
            self._alarm.off()
            self.transport.pause_reading()
        else:
            self._alarm.at(self._loop.time() + self._idle_seconds)

    def _pump(self) -> None:
        """Write what is left of a long body, as far as the connection takes it."""
        while self._unsent and not self._full and not self._closed:
            piece, self._unsent = self._unsent[:_PIECE], self._unsent[_PIECE:]
            self.transport.write(piece)

    def _start_anew(self, end: bytes) -> None:
        """Behind the head of an answer to HEAD the parser would wait for the body: it cannot be told there is none."""
        self._parser = HttpResponseParser(self)
        self._more = self._more or end != b"\r\n\r\n"

    def _finish(self) -> None:
        """Kept only if both sides have said all: the rest of an upload would run into the next request."""
        answer = self._answer
        reusable = not (self._more or self._unsent or self._closed) and self.transport.get_write_buffer_size() == 0
        if answer is not None:
            answer.end()
        if self._unsent:
            self.abort()
        else:
            self._left(reusable=reusable)
            if not reusable:
                self._closed = True
                self.transport.close()

    def _overdue(self) -> None:
        if self._busy:
            self._break(ProxyError("upstream_timeout", "the provider's answer did not come in time", sent="maybe"))
        else:
            self.end()

    def _break(self, fault: ProxyError) -> None:
        if not self._busy:
            return
        head, answer = self._head, self._answer
        self.abort()
        if answer is not None:
            answer.end(fault)
        elif head is not None and not head.done():
            head.set_exception(fault)

    def _left(self, *, reusable: bool) -> None:
        if self._busy:
            self._busy = self._paused = False
            self._alarm.off()
            self._clear()
            self._pool.freed(self, reusable=reusable)
            self.fresh = False


def _has_ended(transport: asyncio.Transport) -> bool:
    """In TLS the provider says so itself (RFC 8446 section 6.1); asyncio takes the end of TCP for as good."""
    tls = transport.get_extra_info("ssl_object")
    try:
        return tls is None or not tls.read(1)
    except ssl.SSLError:
        return False


def _broken() -> ProxyError:
    return ProxyError("upstream_protocol", "the provider's answer is missing, broken or cut off", sent="maybe")
