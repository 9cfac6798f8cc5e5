"""A small server for operators: one short request a connection, and silent about what it was sent.

Probes, metrics and control stand on it; callers' requests have a server of their own.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

Answering = Callable[[BaseRequest], Awaitable[Response]]

TEXT: Final = "text/plain; charset=utf-8"


class PlainServer:
    """`patience`: seconds for a whole connection, one request long, so that nobody can hold the port."""

    def __init__(self, answering: Answering, patience: float) -> None:
        self._answering = answering
        self._patience = patience
        self._listening: list[asyncio.Server] = []

    async def start(self, *listeners: socket.socket) -> None:
        """Serve on bound sockets, which are ours from here on."""
        self._server = _Server(
            self._answering, patience=self._patience, access_log=None, auto_decompress=False, lingering_time=0
        )
        loop = asyncio.get_running_loop()
        self._listening = [await loop.create_server(self._server, sock=listener) for listener in listeners]

    async def stop(self) -> None:
        """Whoever is being answered gets a second."""
        for listening in self._listening:
            listening.close()
        self._server.pre_shutdown()  # else an idle connection is waited for
        await self._server.shutdown(1.0)


def reply(status: int, body: bytes, content_type: str = TEXT, **headers: str) -> Response:
    fixed = {"Content-Type": content_type, "Cache-Control": "no-store", "Server": "paraf"}
    answer = Response(status=status, body=body, headers=fixed | headers)
    answer.force_close()
    return answer


class _Server(Server):
    def __init__(self, answering: Answering, *, patience: float, **options: Any) -> None:
        super().__init__(answering, **options)
        self._patience = patience

    def __call__(self) -> RequestHandler:
        return _Connection(self, patience=self._patience, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """aiohttp's own, but silent: its error path repeats and logs the caller's bytes (measured, 3.14.5)."""

    def __init__(self, server: Server, *, patience: float, **options: Any) -> None:
        super().__init__(server, **options)
        self._patience = patience

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._end = self._loop.call_later(self._patience, cast("asyncio.Transport", transport).abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - aiohttp's signature
        message: str | None = None,  # noqa: ARG002
    ) -> StreamResponse:
        if request.writer.output_size:
            raise ConnectionError
        return reply(status, b"bad request\n" if status < 500 else b"internal\n")

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Nothing: what aiohttp would say holds the caller's bytes."""
