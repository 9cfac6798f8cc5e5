"""The control listener: what changes Paraf or shows more of it than its numbers, for operators alone.

A unix socket is guarded by its mode. On a loopback port a page in the developer's browser could reach it: so a Host
must be this machine's own name, and a request that a browser marks as coming from a page is refused.
"""

import hmac
import json
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from proxy.addresses import host_and_port, is_loopback
from proxy.errors import Finding
from proxy.inbound.plain import PlainServer, reply
from proxy.model import Secret

PATIENCE: Final = 90.0
"""Seconds for a whole connection: a reload reads every file, and a token call may take `timeouts.token`."""

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Status:
    """Of the configuration that serves. Moments in epoch milliseconds, 0 for never; `refused`: why the newest reload
    was, until another one succeeds.
    """

    generation: int
    loaded_at_ms: int
    refused_at_ms: int = 0
    refused: tuple[Finding, ...] = ()


class Reloads(Protocol):
    @property
    def status(self) -> Status: ...
    async def reload(self, why: Literal["control"]) -> object:
        """Raises ConfigError: then nothing has changed."""
        ...


class Controlled(Protocol):
    """What is controlled: a process that serves alone, or a supervisor and its workers."""

    @property
    def reloading(self) -> Reloads:
        """How its configuration is loaded again."""
        ...

    def quit(self) -> None:
        """Begin to end, as SIGTERM does."""
        ...

    async def ask(self, word: str, value: Any = None, *, one: bool = False) -> list[Any]:
        """What each process that serves answers to a word, in JSON's types; `one`: any one of them is enough.

        A process that is not ready, or ends meanwhile, gives no answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """`names`: the parts of the path in braces, `query`: its first value by name."""

    names: Mapping[str, str]
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] | None = None


Answer = Callable[[Controlled, Asked], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that can be asked for. `path` may have parts in braces: `/tokens/{account}/purge`."""

    method: Literal["GET", "POST"]
    path: str
    answer: Answer

    def names_in(self, path: str) -> dict[str, str] | None:
        """The parts in braces, if the path is this one's."""
        mine, theirs = self.path.split("/"), path.split("/")
        if len(mine) != len(theirs) or any(a != b and not _is_name(a) for a, b in zip(mine, theirs, strict=True)):
            return None
        return {a[1:-1]: b for a, b in zip(mine, theirs, strict=True) if _is_name(a)}


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may come in: `hosts` beside the names of this machine, and `token`. Both are asked for each time, since a
    reload changes them.

    `remote`: other machines reach the door, so that nobody comes in without a token, whatever a reload took away.
    """

    hosts: Callable[[], Collection[str]]
    token: Callable[[], Secret | None]
    remote: bool = False


class ControlServer:
    def __init__(self, endpoints: Sequence[Endpoint], controlled: Controlled, doors: Doors) -> None:
        self._endpoints = endpoints
        self._controlled = controlled
        self._doors = doors
        self._server = PlainServer(self._answer, PATIENCE)

    async def start(self, *listeners: socket.socket) -> None:
        """Serve on bound sockets, which are ours from here on."""
        await self._server.start(*listeners)

    async def stop(self) -> None:
        await self._server.stop()

    async def _answer(self, request: BaseRequest) -> Response:
        answer = _refused(request, self._doors) or await self._found(request)
        return reply(answer.status, answer.body, answer.content_type, **(answer.headers or {}))

    async def _found(self, request: BaseRequest) -> Reply:
        path = request.raw_path.partition("?")[0]
        named = [(each, names) for each in self._endpoints if (names := each.names_in(path)) is not None]
        if not named:
            return problem(404, "nothing is here")
        for endpoint, names in named:
            if request.method == endpoint.method or (request.method == "HEAD" and endpoint.method == "GET"):
                return await endpoint.answer(self._controlled, Asked(names, dict(request.query)))
        allowed = ", ".join(sorted({each.method for each, _ in named}))
        return problem(405, f"this takes {allowed}", headers={"Allow": allowed})


def shown(value: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value, indent=1).encode() + b"\n")


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """RFC 9457. `detail` is ours alone: nothing of what was asked is repeated."""
    members = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return Reply(status, json.dumps(members, indent=1).encode() + b"\n", PROBLEM, headers)


def _is_name(part: str) -> bool:
    return part.startswith("{")


def _refused(request: BaseRequest, doors: Doors) -> Reply | None:
    """Before anything is looked for: a stranger does not learn what is here."""
    if not _knows_host(request, doors.hosts()):
        return problem(421, "the Host is not a name of this machine: use localhost or its address")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return problem(403, "requests from web pages are refused")
    if not _shows(request, doors):
        return problem(401, "control_token is asked for", headers={"WWW-Authenticate": "Bearer"})
    return None


def _knows_host(request: BaseRequest, hosts: Collection[str]) -> bool:
    """No browser reaches a socket in the file system."""
    transport = request.transport
    if transport is not None and transport.get_extra_info("socket").family == socket.AF_UNIX:
        return True
    written = request.headers.getall("Host", [])
    try:
        host, _ = host_and_port(written[0].lower()) if len(written) == 1 else ("", None)
    except ValueError:
        return False
    return is_loopback(host) or host in hosts


def _shows(request: BaseRequest, doors: Doors) -> bool:
    token = doors.token()
    if token is None:
        return not doors.remote
    written = request.headers.getall("Authorization", [])
    kind, _, value = written[0].partition(" ") if len(written) == 1 else ("", "", "")
    right = hmac.compare_digest(value.strip().encode("utf-8", "surrogateescape"), token.reveal().encode())
    return right and kind.lower() == "bearer"
