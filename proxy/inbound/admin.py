"""Probes and metrics, on a port of their own: nothing here tells a secret or changes anything."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

State = Literal["starting", "ready", "stopping"]

PATIENCE: Final = 10.0
"""Seconds for a whole connection, one request long: nobody can hold the port."""

_PROBES: Final[dict[str, frozenset[State]]] = {
    "/startupz": frozenset({"ready", "stopping"}),
    "/livez": frozenset({"starting", "ready", "stopping"}),
    "/readyz": frozenset({"ready"}),
}
_TEXT: Final = "text/plain; charset=utf-8"


class AdminServer:
    """`render` gives the metrics page and its content type, `state` what the probes are about."""

    def __init__(self, render: Callable[[], Awaitable[tuple[bytes, str]]], state: Callable[[], State]) -> None:
        self._render = render
        self._state = state

    async def start(self, *listeners: socket.socket) -> None:
        """Serve on bound sockets, which are ours from here on."""
        self._server = _Server(self._answer, access_log=None, auto_decompress=False, lingering_time=0)
        loop = asyncio.get_running_loop()
        self._listening = [await loop.create_server(self._server, sock=listener) for listener in listeners]

    async def stop(self) -> None:
        for listening in self._listening:
            listening.close()
        self._server.pre_shutdown()  # else an idle connection is waited for
        await self._server.shutdown(1.0)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if path != "/metrics" and path not in _PROBES:
            return _reply(404, b"not found\n")
        if request.method not in {"GET", "HEAD"}:
            return _reply(405, b"method not allowed\n", Allow="GET, HEAD")
        return self._probe(path) if path in _PROBES else _reply(200, *await self._render())

    def _probe(self, path: str) -> web.Response:
        state = self._state()
        return _reply(200, b"ok\n") if state in _PROBES[path] else _reply(503, f"{state}\n".encode())


def _reply(status: int, body: bytes, content_type: str = _TEXT, **headers: str) -> web.Response:
    fixed = {"Content-Type": content_type, "Cache-Control": "no-store", "Server": "paraf"}
    reply = web.Response(status=status, body=body, headers=fixed | headers)
    reply.force_close()
    return reply


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """aiohttp's own, but silent: its error path repeats and logs the caller's bytes (measured, 3.14.5)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._end = self._loop.call_later(PATIENCE, cast("asyncio.Transport", transport).abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - aiohttp's signature
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        if request.writer.output_size:
            raise ConnectionError
        return _reply(status, b"bad request\n" if status < 500 else b"internal\n")

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Nothing: what aiohttp would say holds the caller's bytes."""
