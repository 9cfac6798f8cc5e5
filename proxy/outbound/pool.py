"""aiohttp's connection pool, cleaned: a connection on which anything happened while it was idle is not used again.

aiohttp reuses one on which the server spoke unasked, and the next caller gets that answer (aio-libs/aiohttp issue
13656, measured on 3.14.5). Semi-private names are used here (`_get`, `_release`, `_factory`, `_parser`, `_payload`):
aiohttp is pinned exactly, and tests with a rude peer hold each of them.
"""

import select
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

if TYPE_CHECKING:
    import asyncio

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.tracing import Trace


class CleanPool(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(_Wire, loop=self._loop))

    async def _get(self, key: "ConnectionKey", traces: "list[Trace]") -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            wire = connection.protocol
            if isinstance(wire, _Wire) and wire.is_clean():
                wire.idle = False
                return connection
            connection.close()
        return None

    def _release(self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, _Wire):
            protocol.idle = True
        super()._release(key, protocol, should_close=should_close)


class _Wire(ResponseHandler):
    """One connection to a provider. `idle` while it lies in the pool."""

    idle = False

    def is_clean(self) -> bool:
        """Nothing unsent, nothing unread, and the parser stands between two answers.

        Bytes may wait in three places: as whole answers (`should_close`), as a piece of one inside the parser
        (`feed_eof` then returns it) and in the kernel, when the loop has not come to read them yet.
        """
        return (
            self.transport is not None
            and not self.should_close
            and not self.transport.is_closing()
            and self.transport.get_write_buffer_size() == 0
            and (self._parser is None or self._parser.feed_eof() is None)
            and _is_silent(self.transport)
        )

    def data_received(self, data: bytes) -> None:
        if self.idle and data:
            self.abort()
            return
        super().data_received(data)
        if self.exception() is not None:
            # aiohttp tells those who wait for a head; after a broken chunk the reader of the body would wait for ever.
            self._break_off()

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None:
            # aiohttp takes a reset for the end of a body that lasts until the connection closes.
            self._break_off()
        super().connection_lost(exc)

    def _break_off(self) -> None:
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError())

    def close(self) -> None:
        """Without flushing: what is given up must not go on being sent."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()


def _is_silent(transport: "asyncio.Transport") -> bool:
    """Has the kernel nothing for this socket: no bytes, no end?"""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not poll.poll(0)
