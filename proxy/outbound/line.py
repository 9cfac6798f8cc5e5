"""One kept connection to a provider: a message is written, one answer read, and in between nothing may come.

httptools (llhttp, strict) reads the framing; limits, deadlines and what an answer may hold are ours.
"""

import asyncio
import select
import ssl
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.alarm import Alarm
from proxy.errors import ProxyError
from proxy.outbound.answer import Answer
from proxy.outbound.heads import LINE, REASONS, Unfit, lasts, read
from proxy.outbound.transport import Patience
from proxy.outbox import Outbox

READ: Final = 64 * 1024
"""Bytes of one read of the socket, and of an answer that wait for a slow caller before reading pauses."""
_PIECE: Final = 64 * 1024
"""A longer body is written piece by piece, as the connection takes it."""
_HEAD: Final = 64 * 1024

_ENDED: Final = getattr(select, "POLLRDHUP", 0)
"""The other side has closed its direction. Where the system cannot say so, the loop finds out when it reads."""
_VERSIONS: Final = ("1.1", "1.0")
_INTERIM: Final = frozenset(range(100, 200)) - {101}
_FINAL: Final = range(200, 600)


class Pool(Protocol):
    """What the lines to one origin belong to. `keep`: the most seconds that one may be idle."""

    @property
    def keep(self) -> float: ...
    @property
    def outbox(self) -> Outbox: ...
    def freed(self, line: "Line", *, reusable: bool) -> None:
        """Called once for each `ask`, when its answer has ended or was given up."""
        ...

    def ended(self, age: float) -> None:
        """By the provider: while idle for this long, or before a byte of the answer that was asked for then."""
        ...

    def lost(self, line: "Line") -> None:
        """Its connection is gone."""
        ...


class Line(asyncio.BufferedProtocol):
    """`buffer` is what the socket is read into; as reading it never waits, all lines of a loop can share one."""

    def __init__(self, pool: Pool, buffer: memoryview) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = buffer
        self._pool = pool
        self._parser = HttpResponseParser(self)
        self._alarm = Alarm(self._loop, self._overdue)
        self._paused = False
        self._full = False
        self._closed = False
        self._to_head = False
        self._more = False
        """More has come than the answer, or is to be feared."""
        self._mute = 0
        """Bytes since it was asked or a piece of a body came: heads, trailers and the like."""
        self._idle_seconds = 0.0
        self._idle_since: float | None = None
        self._rested: float | None = None
        """How long it was idle before it was asked, while not a byte of the answer has come."""
        self.born = self._loop.time()
        self.keep = pool.keep
        """Seconds after which it ends when it is idle, by what the provider says of it too."""
        self.fresh = True
        """No answer was read from it yet."""
        self._fields: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._message: tuple[bytes, bytes] | None = None
        """What has yet to leave."""
        self._unsent: memoryview | None = None
        self._answer: Answer | None = None
        """What it is asked for; None while it is idle."""

    # What the pool asks

    @property
    def is_open(self) -> bool:
        return not self._closed and not self.transport.is_closing()

    def is_silent(self) -> bool:
        """Has nothing come, no word and no end, not even to the kernel while the loop was busy?

        What lies unread on a fresh connection below TLS are session tickets.
        """
        look = self._look
        events = look(0)
        return not events or (self.fresh and self._secure and events[0][1] == select.POLLIN)

    def wakes(self, now: float, trusted: float) -> bool:
        """Can it be used again? `trusted`: the age up to which idle connections to this provider are.

        It looks before others take theirs: where one has ended, those of its age are ending too.
        """
        since, look = self._idle_since, self._look
        if since is None or self._closed or self.transport.is_closing() or look(0):
            self._tell_end()
            return False
        self._idle_since = None
        self._rested = rested = now - since
        return rested < trusted

    def ask(self, head: bytes, body: bytes, patience: Patience) -> Answer:
        """Put a message into the outbox. Wait for the answer's `head`; `abort` when it is not wanted any more.

        It fails with `sent: no` if for certain not a byte was written.
        """
        self._answer = answer = Answer(self, self._loop.create_future())
        self._message = head, body
        self._mute = 0
        self._to_head = head.startswith(b"HEAD ")
        self._idle_seconds = patience.idle
        self._alarm.at(self._loop.time() + patience.first_byte)
        self._pool.outbox.put(self._leave)
        return answer

    def distrust(self, trusted: float) -> None:
        """Give up a message that has not left, if it was idle for longer than idle connections are `trusted` now."""
        if self._message is not None and self._rested is not None and self._rested >= trusted:
            self._break(_broken())

    def abort(self) -> None:
        """End it at once and tell nobody; what was not sent yet stays unsent."""
        self._closed = True
        self.transport.abort()
        if self._answer is not None:
            self._answer = self._message = self._unsent = None
            self._paused = False
            self._alarm.off()
            self._pool.freed(self, reusable=False)

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
        self._waiting = self._below.get_write_buffer_size if tls is None else self._waiting_under_tls
        events = select.poll()
        events.register(transport.get_extra_info("socket").fileno(), select.POLLIN | _ENDED)
        self._look = events.poll

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        answer = self._answer
        if answer is None or self._message is not None:
            self._refuse_to_leave()
            return
        self._rested = None
        self._mute += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (HttpParserError, HttpParserUpgrade):
            self._more = True
            if not answer.ended:
                self._break(_broken())
                return
        if answer.ended:
            if self._to_head:
                self._start_anew(bytes(self._buffer[max(0, nbytes - 4) : nbytes]))
            self._finish()
        elif self._mute > _HEAD:
            self._break(_broken())
        elif answer.status:
            self._go_on(answer)

    def eof_received(self) -> None:
        """The end of a body without length, if it is said by who said the body: what ends otherwise was cut off."""
        self._tell_end()
        answer = self._answer
        if answer is not None and answer.status and lasts(answer.status, answer.fields) and _has_ended(self.transport):
            self._more = True
            answer.end()
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
        if self._answer is not None and self._answer.ended:
            self._more = True  # behind the answer: nobody asked for it
        self._fields, self._reason = [], b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))  # a trailer ends here

    def on_headers_complete(self) -> None:
        answer, parser, fields = self._answer, self._parser, self._fields
        status = parser.get_status_code()
        if answer is None or answer.ended or status in _INTERIM:
            return
        if status not in _FINAL or parser.get_http_version() not in _VERSIONS:
            raise Unfit
        if self._mute > LINE and any(len(name) + len(value) > LINE for name, value in fields):
            raise Unfit
        answer.fields, keep = read(fields)
        if keep is not None:
            self.keep = min(self._pool.keep, keep)
        answer.reason, answer.status = REASONS[self._reason,], status
        if not answer.head.done():
            answer.head.set_result(None)
        if self._to_head:
            self.on_message_complete()

    def on_body(self, piece: bytes) -> None:
        self._mute = 0
        answer = self._answer
        if answer is not None and not answer.ended:
            answer.add(piece)
        else:
            self._more = True

    def on_chunk_header(self) -> None:
        if self._to_head:
            self._more = True

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is not None and answer.status and not answer.ended:
            answer.end()
            self._more = not self._parser.should_keep_alive()

    # How a message leaves

    def _leave(self) -> None:
        """At the end of the turn in which it was asked. What has come by now was said to somebody else."""
        if self._message is None:
            return
        (head, body), transport = self._message, self.transport
        if self._closed or transport.is_closing() or not self.is_silent():
            self._refuse_to_leave()
            return
        transport.write(head + body[:_PIECE])
        if self._below.is_closing():  # after a reset the kernel refuses, and the transport closes at once
            self._refuse_to_leave()
            return
        self._message = None
        if len(body) > _PIECE:
            self._unsent = memoryview(body)[_PIECE:]
            self._pump()

    def _refuse_to_leave(self) -> None:
        self._tell_end()
        if self._answer is None:
            self.abort()
        else:
            self._break(_broken())

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
        while self._unsent and not (self._full or self._closed or self._below.is_closing()):
            piece, self._unsent = self._unsent[:_PIECE], self._unsent[_PIECE:] or None
            self.transport.write(piece)

    def _start_anew(self, end: bytes) -> None:
        """Behind the head of an answer to HEAD the parser would wait for the body: it cannot be told there is none."""
        self._parser = HttpResponseParser(self)
        self._more = self._more or end != b"\r\n\r\n"

    def _finish(self) -> None:
        """Kept only if both sides have said all: the rest of an upload would run into the next request."""
        if self._unsent:
            self.abort()
            return
        self._answer = None
        if self._more or self._waiting():
            self._alarm.off()
            self._closed = True
            self._pool.freed(self, reusable=False)
            self.transport.close()
        else:
            self._idle_since = now = self._loop.time()
            self._alarm.at(now + self.keep)
            self._pool.freed(self, reusable=True)

    def _waiting_under_tls(self) -> int:
        """Bytes of the request that this process still holds."""
        return self.transport.get_write_buffer_size() + self._below.get_write_buffer_size()

    def _tell_end(self) -> None:
        """To be called where the connection may have been ended, in time to know who did."""
        age = self._rested if self._idle_since is None else self._loop.time() - self._idle_since
        self._rested = self._idle_since = None
        if age is not None and not self._closed:
            self._pool.ended(age)

    def _overdue(self) -> None:
        if self._answer is not None:
            self._break(ProxyError("upstream_timeout", "the provider's answer did not come in time", sent="maybe"))
        else:
            self.end()

    def _break(self, fault: ProxyError) -> None:
        """A message that has not left cannot have been acted on."""
        answer, message = self._answer, self._message
        if answer is not None:
            self.abort()
            answer.fail(fault if message is None else _unsent())


def _has_ended(transport: asyncio.Transport) -> bool:
    """In TLS the provider says so itself (RFC 8446 section 6.1); asyncio takes the end of TCP for as good."""
    tls = transport.get_extra_info("ssl_object")
    try:
        return tls is None or not tls.read(1)
    except ssl.SSLError:
        return False


def _broken() -> ProxyError:
    return ProxyError("upstream_protocol", "the provider's answer is missing, broken or cut off", sent="maybe")


def _unsent() -> ProxyError:
    return ProxyError("upstream_unreachable", "the connection to the provider had ended")
