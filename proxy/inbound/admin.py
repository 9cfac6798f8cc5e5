"""Probes and metrics, on a port of their own: nothing here tells a secret or changes anything."""

import socket
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from proxy.inbound.plain import PlainServer, reply

State = Literal["starting", "ready", "stopping"]

PATIENCE: Final = 10.0
"""Seconds for a whole connection."""

_PROBES: Final[dict[str, frozenset[State]]] = {
    "/startupz": frozenset({"ready", "stopping"}),
    "/livez": frozenset({"starting", "ready", "stopping"}),
    "/readyz": frozenset({"ready"}),
}


class AdminServer:
    """`render` gives the metrics page and its content type, `state` what the probes are about."""

    def __init__(self, render: Callable[[], Awaitable[tuple[bytes, str]]], state: Callable[[], State]) -> None:
        self._render = render
        self._state = state

    async def start(self, *listeners: socket.socket) -> None:
        """Serve on bound sockets, which are ours from here on."""
        self._server = PlainServer(self._answer, PATIENCE)
        await self._server.start(*listeners)

    async def stop(self) -> None:
        await self._server.stop()

    async def _answer(self, request: BaseRequest) -> Response:
        path = request.raw_path.partition("?")[0]
        if path != "/metrics" and path not in _PROBES:
            return reply(404, b"not found\n")
        if request.method not in {"GET", "HEAD"}:
            return reply(405, b"method not allowed\n", Allow="GET, HEAD")
        return self._probe(path) if path in _PROBES else reply(200, *await self._render())

    def _probe(self, path: str) -> Response:
        state = self._state()
        return reply(200, b"ok\n") if state in _PROBES[path] else reply(503, f"{state}\n".encode())
