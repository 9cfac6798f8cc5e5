"""One caller's connection: aiohttp's parser and keep-alive rules; the deadlines, the silence and the errors are ours.

No `web.Request` or `web.Response` is made: `request_factory` gives a Call, and the answer's bytes go straight to the
transport. The semi-private names this leans on are held by tests, and aiohttp is pinned.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from proxy.model import Tunnel

_READ_BUFFER: Final = 64 * 1024
_LINGER: Final = 5.0
"""Seconds that the rest of a refused body is read and thrown away: closing at once would reset the connection, and
the caller, still sending, might never see why."""
_LINGER_LATE: Final = 1.0
"""The same for a body that did not come in time: more of it would make the deadline a lie."""
_RESET: Final = struct.pack("ii", 1, 0)
_SILENT: Final = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 -- outside the tree: none can wake it
"""aiohttp logs header lines and tracebacks (measured, 3.14.5)."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one caller may take. `line` in bytes, of the request line and of each header; `headers` counts them."""

    header_seconds: float = 10
    body_seconds: float = 15
    idle_seconds: float = 75
    line: int = 8190
    headers: int = 128
    connections: int = 4096


class CallerLeft(Exception):
    """Nobody is there to write to."""


class BrokenBody(Exception):
    """What follows the head is no body."""


class CallerConnection(RequestHandler):
    """`refuse` answers what the parser could not read; `complain` is told where a fault of ours lies, `lost` when it
    is over, with whether a request ever came. `tunnel`: through which it came, if it did.
    """

    __slots__ = ("_complain", "_head_timer", "_lost", "_refuse", "limits", "loopback", "retiring", "task", "tunnel")

    def __init__(
        self,
        server: web.Server,
        limits: ServerLimits,
        *,
        loopback: bool,
        retiring: bool,
        lost: Callable[[bool], None],
        refuse: Callable[[Any, BaseException | None], Any],
        complain: Callable[[BaseException], None],
        tunnel: Tunnel | None = None,
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.idle_seconds,
            lingering_time=_LINGER,
            max_line_size=limits.line,
            max_field_size=limits.line,
            max_headers=limits.headers,
            read_bufsize=_READ_BUFFER,
            auto_decompress=False,
            logger=_SILENT,
            access_log=_SILENT,
        )
        self.limits = limits
        self.tunnel = tunnel
        self._lost = lost
        self._refuse = refuse
        self._complain = complain
        self._head_timer: asyncio.TimerHandle | None = None
        self.loopback = loopback
        self.retiring = retiring
        self.task: asyncio.Task[None] | None = None

    @property
    def call(self) -> Any:
        """The Call that is being answered, or None."""
        return self._current_request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._manager is not None and len(self._manager.connections) >= self.limits.connections:
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        self.task = self._task_handler
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost(self._request_count > 0)
        self._stop_awaiting_head()
        lingers = self.call is None
        super().connection_lost(exc)
        if lingers and self.task is not None:
            self.task.cancel()  # aiohttp would wait on for the rest of a refused body

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception as fault:  # noqa: BLE001 -- else asyncio logs it with a traceback
            self._complain(fault)
            self.force_close()
            return
        call = self.call
        if self._messages:
            self._stop_awaiting_head()
            if call is not None and self.is_broken(call.payload):
                call.payload.set_exception(BrokenBody())
                call.payload.feed_eof()
        elif call is None and data:
            self._await_head()

    def is_broken(self, payload: StreamReader) -> bool:
        """Something is queued behind a body that has not ended: it can only be the parser's error.

        aiohttp does not tell the reader of that body, who would wait until its deadline.
        """
        return bool(self._messages) and not payload.is_eof()

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> Any:
        """What aiohttp does here repeats the caller's bytes in its answer and in the log."""
        del status, message
        return self._refuse(request, exc)

    def log_exception(self, *_args: Any, exc_info: BaseException | None = None, **_kwargs: Any) -> None:
        if exc_info is not None:
            self._complain(exc_info)

    def write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise CallerLeft
        self.transport.write(data)

    async def drained(self) -> None:
        """Wait while the caller reads slower than we write. One that reads nothing for `idle_seconds` has left."""
        if not self.writing_paused:
            return
        try:
            async with asyncio.timeout(self.limits.idle_seconds):
                await self._drain_helper()
        except (TimeoutError, ConnectionError):
            raise CallerLeft from None

    def linger_briefly(self) -> None:
        self._lingering_time = _LINGER_LATE

    def reset(self) -> None:
        """End with RST, so that a broken answer cannot be taken for a whole one, even if it lasts until the end."""
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def retire(self) -> None:
        """Take no further request: close now if none is there, else after its answer."""
        self.retiring = True
        if self.call is None and not self._messages:
            self.force_close()

    @property
    def raw_transport(self) -> asyncio.Transport:
        """Raises CallerLeft."""
        if self.transport is None or self.transport.is_closing():
            raise CallerLeft
        return self.transport

    def early(self) -> bytes:
        """What came behind a CONNECT."""
        return self._message_tail

    def hand_over(self, *, ended: bool) -> None:
        """The transport is another's now, or has `ended`; no more is done with it here."""
        if ended:
            self._lost(True)
        self._stop_awaiting_head()
        # aiohttp counts a connection for as long as its task runs; this one's has nothing left to do.
        self._current_request = self.transport = self._task_handler = None
        super().connection_lost(None)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self.limits.header_seconds, self._head_overdue)

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        self._head_timer = None
        self.force_close()
