"""aiohttp's connection pool, cleaned: a connection on which anything happened while it was idle is not used again.

aiohttp reuses one on which the server spoke unasked, and the next caller gets that answer (aio-libs/aiohttp issue
13656, measured on 3.14.5). Semi-private names are used here (`_get`, `_release`, `_conns`, `_factory`, `_parser`,
`_payload`, and `_ssl_protocol` of asyncio): aiohttp is pinned exactly, and tests with a rude peer hold each of them.
"""

import select
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from proxy.outbound.dial import Dial
from proxy.outbound.trust import Trust, half, promised

if TYPE_CHECKING:
    import asyncio

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.tracing import Trace

FOREVER: Final = 3600.0
_ENDED: Final = getattr(select, "POLLRDHUP", 0)
"""The other side has closed its direction. Where the system cannot say so, the loop finds out when it reads."""


class CleanPool(aiohttp.BaseConnector):
    """`keep`: the most seconds that an idle connection is used again after; 0 is never. `dial` makes them."""

    def __init__(self, *, dial: Dial, keep: float, **options: Any) -> None:
        super().__init__(keepalive_timeout=keep or None, force_close=not keep, **options)
        self._dial = dial
        self._keep = keep
        self._trusts: dict[ConnectionKey, Trust] = {}
        self._factory = cast("partial[ResponseHandler]", partial(Wire, loop=self._loop))

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: "list[Trace]",
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's
    ) -> ResponseHandler:
        """Raises ProxyError, which passes through aiohttp as it is."""
        del traces
        return await self._dial.open(str(req.url.origin()), self._factory, timeout.connect or FOREVER)

    async def _get(self, key: "ConnectionKey", traces: "list[Trace]") -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            wire = connection.protocol
            if isinstance(wire, Wire) and wire.wakes():
                return connection
            connection.close()
        return None

    def _release(self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        kept = self._conns.get(key)
        if kept and kept[-1][0] is protocol and isinstance(protocol, Wire):
            kept.rotate(1)  # taken from the left: the newest first, so that the others end by our clock
            protocol.rests(self._trusts.setdefault(key, Trust(self._keep)))


class Wire(ResponseHandler):
    """One connection to a provider.

    `_rested`: seconds that it was idle before its present use, while not a byte of the answer has come. `_below`: the
    transport that has the socket; that of TLS stands on it and hides its buffer and its end.
    """

    _trust: Trust | None = None
    _idle_since: float | None = None
    _rested: float | None = None
    _promised = float("inf")
    _below: "asyncio.Transport"

    def connection_made(self, transport: "asyncio.BaseTransport") -> None:
        super().connection_made(transport)
        tls = getattr(transport, "_ssl_protocol", None)
        self._below = cast("asyncio.Transport", transport if tls is None else tls._transport)  # noqa: SLF001

    def rests(self, trust: Trust) -> None:
        self._trust, self._idle_since = trust, self._loop.time()

    def wakes(self) -> bool:
        """False when it must not be used again: too old for this provider, or something happened meanwhile."""
        if self._idle_since is None or self._trust is None:
            return False
        now = self._loop.time()
        self._rested = now - self._idle_since
        if not self.is_clean():
            self._ended()
            return False
        self._idle_since = None
        return self._rested < min(self._trust.span(now), half(self._promised))

    def is_clean(self) -> bool:
        """Nothing unsent, nothing unread, and the parser stands between two answers.

        Bytes may wait in three places: as whole answers (`should_close`), as a piece of one inside the parser
        (`feed_eof` then returns it) and in the kernel, when the loop has not come to read them yet.
        """
        return (
            self._is_open()
            and not self._unsent()
            and (self._parser is None or self._parser.feed_eof() is None)
            and is_silent(self._fileno())
        )

    def takes(self, data: bytes) -> bool:
        """Write a request unless the connection has ended; False if for certain not a byte of it was written.

        The last look is taken here, for the provider may have spoken or ended the connection since it was made or
        woken. (What lies unread on a fresh one below TLS are session tickets.) An end that comes after the look shows
        only by there being no answer; after a reset the kernel refuses the bytes, and the transport closes at once.
        """
        fresh_tls = self._rested is None and self._below is not self.transport
        if self._is_open() and is_silent(self._fileno(), _ENDED if fresh_tls else _ENDED | select.POLLIN):
            cast("asyncio.Transport", self.transport).write(data)
            if not self._is_closing():
                return True
        self._ended()
        return False

    def data_received(self, data: bytes) -> None:
        if self._idle_since is not None and data:
            self._ended()
            self.abort()
            return
        self._rested = None
        super().data_received(data)
        if self.exception() is not None:
            # aiohttp tells those who wait for a head; after a broken chunk the reader of the body would wait for ever.
            self._break_off()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.transport is not None:  # else it was we who closed it
            self._ended()
        if exc is not None:
            # aiohttp takes a reset for the end of a body that lasts until the connection closes.
            self._break_off()
        super().connection_lost(exc)

    def close(self) -> None:
        """Without flushing: what is given up must not go on being sent."""
        if self._unsent():
            self.abort()
        else:
            super().close()

    def heard(self, keep_alive: str | None) -> None:
        """What the provider says of how long it keeps this connection."""
        self._promised = promised(keep_alive)

    def _ended(self) -> None:
        """By the provider, while idle or before a byte of the next answer: the others may be ending too."""
        now = self._loop.time()
        age = self._rested if self._idle_since is None else now - self._idle_since
        if age is not None and self._trust is not None:
            self._trust.ended(age, now)

    def _break_off(self) -> None:
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError())

    def _is_open(self) -> bool:
        return not self._is_closing() and not self.should_close

    def _is_closing(self) -> bool:
        return self.transport is None or self.transport.is_closing() or self._below.is_closing()

    def _unsent(self) -> int:
        """Bytes in this process."""
        if self.transport is None:
            return 0
        return self.transport.get_write_buffer_size() + self._below.get_write_buffer_size()

    def _fileno(self) -> int:
        return int(cast("asyncio.Transport", self.transport).get_extra_info("socket").fileno())


def is_silent(fileno: int, events: int = select.POLLIN) -> bool:
    """Has the kernel nothing of this kind for a socket? A reset is told of always."""
    poll = select.poll()
    poll.register(fileno, events)
    return not poll.poll(0)
