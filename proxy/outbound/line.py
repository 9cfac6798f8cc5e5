"""One kept connection to a provider: a message is written, one answer read, and in between nothing may come.

httptools (llhttp, strict) reads the framing; limits, deadlines and what an answer may hold are ours.
"""

import asyncio
import math
import re
import select
import ssl
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.errors import ProxyError
from proxy.headers import PLACES, decoded, names_of, value_of
from proxy.outbound.alarm import Alarm
from proxy.outbound.answer import Answer
from proxy.outbound.message import Message
from proxy.outbound.transport import Patience
from proxy.outbound.trust import half, promised
from proxy.remembered import Remembered

READ: Final = 64 * 1024
"""Bytes of one read of the socket, and of an answer that wait for a slow caller before reading pauses."""
_PIECE: Final = 64 * 1024
"""A longer body is written piece by piece, as the connection takes it."""
_HEAD: Final = 64 * 1024
_HEAD_LINE: Final = 8190
_HEAD_LINES: Final = 128

_ENDED: Final = getattr(select, "POLLRDHUP", 0)
"""The other side has closed its direction. Where the system cannot say so, the loop finds out when it reads."""
_VERSIONS: Final = ("1.1", "1.0")
_BODILESS: Final = (204, 304)
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Unfit(Exception):
    """A head that may not be passed on."""


def _reason(pieces: tuple[bytes, ...]) -> str:
    sent = b"".join(pieces)
    if len(sent) > _HEAD_LINE or _CONTROLS.search(sent):
        raise Unfit
    return sent.decode("utf-8", "surrogateescape")


_REASONS: Final = Remembered(_reason)


class Pool(Protocol):
    """What lines belong to."""

    def freed(self, line: "Line", *, reusable: bool) -> None:
        """Called once for each `ask`, when its answer has ended or was given up."""
        ...

    def ended(self, line: "Line", age: float) -> None:
        """By the provider: while idle for this long, or before a byte of the answer that was asked for then."""
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
        self._idle_since: float | None = None
        self._rested: float | None = None
        """How long it was idle before it was asked, while not a byte of the answer has come."""
        self.born = self._loop.time()
        self.keep = math.inf
        """Seconds that it may be idle, by what the provider says of it."""
        self.origin = origin
        self.fresh = True
        """No answer was read from it yet."""
        self._fields: list[tuple[bytes, bytes]] = []
        self._reason: tuple[bytes, ...] = ()
        self._unsent: memoryview | None = None
        self._clear()

    def _clear(self) -> None:
        self._head: asyncio.Future[Answer] | None = None
        self._answer: Answer | None = None
        self._mute = 0
        self._whole = False
        self._more = False

    # What the pool asks

    @property
    def is_open(self) -> bool:
        return not self._closed and not self.transport.is_closing()

    def is_silent(self) -> bool:
        """Has nothing come, no word and no end, not even to the kernel while the loop was busy?

        What lies unread on a fresh connection below TLS are session tickets.
        """
        events = self._poll.poll(0)
        return not events or (self.fresh and self._secure and events[0][1] == select.POLLIN)

    def wakes(self, now: float, trusted: float) -> bool:
        """Can it be used again? `trusted`: the age up to which idle connections to this provider are."""
        if self._closed or self.transport.is_closing() or not self.is_silent():
            self._tell_end()
            return False
        if self._idle_since is not None:
            self._rested, self._idle_since = now - self._idle_since, None
        return self._rested is None or self._rested < trusted

    def ask(self, message: Message, patience: Patience) -> "asyncio.Future[Answer] | None":
        """Write the message. The answer comes at its head; `abort` when it is not wanted any more.

        None if for certain not a byte was written: after a reset the kernel refuses, and the transport closes at once.
        """
        _, text, body = message
        self._busy = True
        self._to_head = text.startswith(b"HEAD ")
        self._idle_seconds = patience.idle
        self._head = head = self._loop.create_future()
        self._alarm.at(self._loop.time() + patience.first_byte)
        if len(body) <= _PIECE:
            self.transport.write(text + body)
        else:
            self.transport.write(text)
            self._unsent = memoryview(body)
            self._pump()
        if self._below.is_closing():
            self._tell_end()
            self.abort()
            return None
        return head

    def rest(self, seconds: float) -> None:
        """Wait to be used again, not longer than this."""
        self._idle_since = now = self._loop.time()
        self._alarm.at(now + seconds)

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
        self._secure = transport.get_extra_info("ssl_object") is not None
        tls = getattr(transport, "_ssl_protocol", None)
        # The one that has the socket: asyncio's TLS stands on it, and hides its buffer and its end.
        self._below: asyncio.Transport = self.transport if tls is None else tls._transport  # noqa: SLF001
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | _ENDED)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._busy:
            self._tell_end()
            self._closed = True
            self.transport.abort()
            return
        self._rested = None
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
        self._tell_end()
        if self._answer is not None and self._answer.lasts and _has_ended(self.transport):
            self._more = True
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._tell_end()
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
            self._fields, self._reason = [], ()

    def on_status(self, reason: bytes) -> None:
        self._reason += (reason,)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value.rstrip(b" \t")))  # a trailer ends here

    def on_headers_complete(self) -> None:
        status, head = self._parser.get_status_code(), self._head
        if self._whole or head is None or (100 <= status < 200 and status != 101):
            return
        self._answer = answer = self._fit(status)
        if not head.done():
            head.set_result(answer)
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
        fields, parser = self._fields, self._parser
        if not 200 <= status < 600 or parser.get_http_version() not in _VERSIONS or len(fields) > _HEAD_LINES:
            raise Unfit
        if self._mute > _HEAD_LINE and any(len(name) + len(value) > _HEAD_LINE for name, value in fields):
            raise Unfit
        headers = decoded(fields, "surrogateescape")
        where = PLACES[names_of(headers)]
        framed = "content-length" in where or status in _BODILESS
        if "transfer-encoding" in where:
            framed = True
            if any(headers[place][1].lower() != "chunked" for place in where["transfer-encoding"]):
                raise Unfit
        if "keep-alive" in where:
            self.keep = half(promised(value_of(headers, "Keep-Alive")))
        return Answer(self, status, _REASONS[self._reason], headers, lasts=not framed)

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
        if self._answer is not None:
            self._answer.end()
        reusable = not (self._more or self._unsent or self._closed or self._waiting_to_leave())
        if self._unsent:
            self.abort()
        else:
            self._left(reusable=reusable)
            if not reusable:
                self._closed = True
                self.transport.close()

    def _waiting_to_leave(self) -> int:
        """Bytes of the request that this process still holds."""
        above = 0 if self._below is self.transport else self.transport.get_write_buffer_size()
        return above + self._below.get_write_buffer_size()

    def _tell_end(self) -> None:
        """To be called where the connection may have been ended, in time to know who did."""
        age = self._rested if self._idle_since is None else self._loop.time() - self._idle_since
        self._rested = self._idle_since = None
        if age is not None and not self._closed:
            self._pool.ended(self, age)

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
            self._unsent = None
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
