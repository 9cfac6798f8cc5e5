"""One caller's connection: aiohttp's parser and flow control; the turns, the deadlines and the silence are ours.

aiohttp's own RequestHandler makes a task, a writer and two futures for each request, and repeats and logs the caller's
bytes when something fails (measured, 3.14.5). The names of aiohttp that this leans on are held by tests, and aiohttp is
pinned.
"""

import asyncio
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import TimerNoop
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.tcp_helpers import tcp_keepalive

from proxy.alarm import Alarm
from proxy.inbound.reading import left_of
from proxy.inbound.terms import BrokenBody, CallerLeft, ServerLimits
from proxy.model import Tunnel
from proxy.outbox import Outbox

_READ_BUFFER: Final = 64 * 1024
_MOST_WAITING: Final = 32
"""Requests that were sent ahead of their turn; then no more is read until half of them are answered."""
_LINGER: Final = 5.0
"""Seconds that the rest of a refused body is read and thrown away: closing at once would reset the connection, and
the caller, still sending, might never see why."""
_LINGER_LATE: Final = 1.0
"""The same for a body that did not come in time: more of it would make the deadline a lie."""
_RESET: Final = struct.pack("ii", 1, 0)
_NO_TIMER: Final = TimerNoop()


class Leaving(Protocol):
    """What is being answered. `keeps`: may another request follow?"""

    keeps: bool

    def leave(self) -> None:
        """The caller has gone."""
        ...


class Reception(Protocol):
    """Where connections are answered."""

    limits: ServerLimits
    outbox: Outbox

    def came(self, connection: "CallerConnection") -> bool:
        """False if there is no room for it."""
        ...

    def lost(self, connection: "CallerConnection") -> None:
        """Called once for each that came or found no room."""
        ...

    def ended(self, connection: "CallerConnection") -> None:
        """Nothing is done on it any more; of those that came."""
        ...

    async def answer(
        self, connection: "CallerConnection", message: RawRequestMessage, payload: StreamReader
    ) -> Leaving: ...

    def refuse(self, connection: "CallerConnection", fault: BaseException) -> None:
        """Answer what the parser could not read."""
        ...

    def complain_of(self, fault: BaseException) -> None:
        """A fault of ours."""
        ...


class CallerConnection(BaseProtocol):
    """Requests are answered one after the other, by one task for as long as it lasts.

    `call` is what is being answered. `tunnel`: through which it came, if it did. `retiring`: it takes no further one.
    """

    __slots__ = (
        "_alarm",
        "_deaf",
        "_done",
        "_early",
        "_fault",
        "_feed",
        "_head_begun",
        "_leaving",
        "_linger_seconds",
        "_offered",
        "_payload",
        "_reception",
        "_waiting",
        "_wanted",
        "call",
        "limits",
        "loopback",
        "retiring",
        "task",
        "tunnel",
    )

    def __init__(
        self, reception: Reception, *, loopback: bool, retiring: bool = False, tunnel: Tunnel | None = None
    ) -> None:
        loop, limits = asyncio.get_running_loop(), reception.limits
        parser = HttpRequestParser(
            self,
            loop,
            _READ_BUFFER,
            max_line_size=limits.line,
            max_field_size=limits.line,
            max_headers=limits.headers,
            timer=_NO_TIMER,  # else the reader of each body makes its own
            auto_decompress=False,
            # One more, for it may count the request that is being answered, if its body ended behind its beginning:
            # were the parser full before the queue, nobody would know of what it has kept.
            max_msg_queue_size=_MOST_WAITING + 1,
        )
        super().__init__(loop, parser)
        self._feed: Any = parser.feed_data
        self._reception = reception
        self._waiting: deque[tuple[RawRequestMessage, StreamReader]] = deque()
        self._wanted: asyncio.Future[None] | None = None
        """A request is waited for."""
        self._payload: StreamReader | None = None
        """Of the newest request: its end may be still to come."""
        self._fault: BaseException | None = None
        """What the parser said of the bytes behind the requests that wait."""
        self._alarm = Alarm(loop, self._overdue)
        self._head_begun = True
        self._deaf = self._done = False
        self._early = b""
        self._leaving = b""
        """What leaves at the end of this turn of the loop."""
        self._linger_seconds = _LINGER
        self._offered: float | None = None
        """Bytes that are still to come of a request that offers another protocol; below 0 it was not the last."""
        self.call: Leaving | None = None
        self.task: asyncio.Task[None] | None = None
        self.limits = limits
        self.loopback = loopback
        self.retiring = retiring
        self.tunnel = tunnel

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._reception.came(self):
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        tcp_keepalive(cast("asyncio.Transport", transport))
        self._alarm.at(self._loop.time() + self.limits.header_seconds)
        self.task = self._loop.create_task(self._converse())
        self.task.add_done_callback(self._over)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._upgraded:
            self._keep(data)
            return
        try:
            messages, upgraded, tail = self._feed(data)
        except HttpProcessingError as fault:
            self._refuse(fault)
            return
        except Exception as fault:  # noqa: BLE001 -- else asyncio logs it with a traceback
            self._reception.complain_of(fault)
            self.shut()
            return
        if self._offered is not None:
            self._offered -= len(data)
        if messages:
            self._take(messages, data)
        elif not self._head_begun and self.call is None and data:
            self._head_begun = True
            self._alarm.at(self._loop.time() + self.limits.header_seconds)
        if upgraded:
            self._upgraded = True
            self._keep(tail)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 -- as aiohttp has it
        """Asked at the end of every body, where as a rule nothing was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._reception.lost(self)
        self._alarm.end()
        self._deaf = True
        super().connection_lost(exc)
        if self.call is not None:
            self.call.leave()
        else:
            self.stop()
        if self._done:
            self._reception.ended(self)

    # What an answer needs

    @property
    def lost_nothing(self) -> bool:
        """Behind an offer that was ignored. aiohttp 3.14.5 drops what came in the same read (measured)."""
        return self._offered == 0 and not self._upgraded

    @property
    def used(self) -> bool:
        """Has a request come, or what was meant for one?"""
        return self._payload is not None or self._fault is not None

    def open_transport(self) -> asyncio.Transport:
        """Raises CallerLeft."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise CallerLeft
        return transport

    def write(self, data: bytes) -> None:
        """At once. Raises CallerLeft."""
        transport = self.open_transport()
        self._leave()
        transport.write(data)

    def write_last(self, data: bytes) -> None:
        """The end of an answer: it leaves with those of other callers. Raises CallerLeft."""
        self.open_transport()
        if not self._leaving:
            self._reception.outbox.put(self._leave)
        self._leaving += data

    def _leave(self) -> None:
        leaving, self._leaving = self._leaving, b""
        if leaving and self.transport is not None and not self.transport.is_closing():
            self.transport.write(leaving)

    async def drained(self) -> None:
        """Wait while the caller reads slower than we write. One that reads nothing for `idle_seconds` has left."""
        if not self.writing_paused:
            return
        try:
            async with asyncio.timeout(self.limits.idle_seconds):
                await self._drain_helper()
        except (TimeoutError, ConnectionError):
            raise CallerLeft from None

    async def caught_up(self) -> bool:
        """No further request is taken up while answers to earlier ones pile up unread. False: it has left."""
        try:
            await self.drained()
        except CallerLeft:
            self.reset()
            return False
        return True

    def linger_briefly(self) -> None:
        self._linger_seconds = _LINGER_LATE

    # How it ends

    def reset(self) -> None:
        """End with RST, so that a broken answer cannot be taken for a whole one, even if it lasts until the end."""
        self._leave()
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            if sock is not None:  # of a TLS transport that has just lost it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def stop(self) -> None:
        """Give up what is being answered."""
        if self.task is not None:
            self.task.cancel()

    def retire(self) -> None:
        """Take no further request: close now if none is there, else after its answer."""
        self.retiring = True
        if self.call is None and not self._waiting:
            self.shut()

    def shut(self) -> None:
        """Hear no more, and close when all is written, or is not read in `idle_seconds`."""
        self._deaf = True
        self._leave()
        if self.transport is not None:
            self.transport.close()
            self._alarm.at(self._loop.time() + self.limits.idle_seconds)

    def early(self) -> bytes:
        """What came behind a CONNECT."""
        return self._early

    def hand_over(self, *, ended: bool) -> None:
        """The transport is another's now, or has `ended`; no more is done with it here."""
        if ended and self.transport is not None and self.transport.get_protocol() is not self:  # else we shall be told
            self._reception.lost(self)
        self._alarm.end()
        self.transport = None
        self._reception.ended(self)

    # Turn by turn

    async def _converse(self) -> None:
        try:
            await self._take_turns()
        except Exception as fault:  # noqa: BLE001 -- else asyncio logs it with a traceback
            self._reception.complain_of(fault)
        finally:
            self.call = None
            self.shut()

    def _over(self, _task: "asyncio.Task[None]") -> None:
        self._done = True
        if self.transport is None:
            self._reception.ended(self)

    async def _take_turns(self) -> None:
        loop, waiting, parser, answer = self._loop, self._waiting, cast("Any", self._parser), self._reception.answer
        while True:
            while not waiting:
                if self._fault is not None:
                    self._reception.refuse(self, self._fault)
                    return
                self._wanted = loop.create_future()
                await self._wanted
            if self._paused and not await self.caught_up():
                return
            message, payload = waiting.popleft()
            parser.message_consumed()
            if self._buffer_paused and len(waiting) <= _MOST_WAITING // 2:
                self._read_on()
            answered = await answer(self, message, payload)
            if self._paused:
                await self.caught_up()
            if self.retiring or not answered.keeps:
                break
            self.call = None
            if waiting:
                await asyncio.sleep(0)  # other callers come first, and this answer leaves
            else:
                del message, payload, answered  # nothing of a caller is held while it rests
                self._head_begun, self._payload = False, EMPTY_PAYLOAD
                self._alarm.at(loop.time() + self.limits.idle_seconds)
        self.call = None
        await self._linger(payload)

    def _take(self, messages: list[tuple[RawRequestMessage, StreamReader]], data: bytes) -> None:
        self._waiting.extend(messages)
        message, self._payload = messages[-1]
        self._offered = left_of(message, data) if message.upgrade else None
        self._go_on()
        if len(self._waiting) >= _MOST_WAITING and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _refuse(self, fault: BaseException) -> None:
        """The reader of a body must hear that its framing is broken: aiohttp lets him wait for his deadline."""
        if self._payload is None or self._payload.is_eof():
            self._fault = fault
            self._go_on()
        else:
            self._payload.set_exception(BrokenBody())
            self._payload.feed_eof()
        self._deaf = True

    def _overdue(self) -> None:
        """Of the next head; while something is answered nothing is. When all is said, of the last that is written."""
        if self._deaf and self.transport is not None and self.transport.is_closing():
            self.reset()
        elif self.call is None and not self._waiting:
            self.shut()

    def _go_on(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _keep(self, data: bytes) -> None:
        """What follows a CONNECT is for who takes the transport."""
        self._early += data
        if len(self._early) >= _READ_BUFFER and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _read_on(self) -> None:
        if not self._upgraded:
            self.data_received(b"")  # what the parser has kept
        if len(self._waiting) < _MOST_WAITING and len(self._early) < _READ_BUFFER:
            self._resume_reading_for_buffer()

    async def _linger(self, payload: StreamReader) -> None:
        self._alarm.off()
        with suppress(TimeoutError, BrokenBody):
            async with asyncio.timeout(self._linger_seconds):
                while not (payload.is_eof() or self.transport is None or self.transport.is_closing()):
                    await payload.readany()
