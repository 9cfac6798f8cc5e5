"""The sandbox on a socket: each account at `/<its name>`, an only one at `/` too; a journal; knobs for faults."""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final, Literal

from aiohttp import web

from proxy.model import Clock, Headers
from proxy.sandbox.accounts import SandboxAccount
from proxy.sandbox.answers import Answer, failed
from proxy.sandbox.desk import Desk
from proxy.sandbox.get_signature import GET_SIGNATURE, get_signature
from proxy.sandbox.judge import RawRequest, Verdict
from proxy.sandbox.rules import TokenRule

EntryKind = Literal["token", "call", "other"]

BODY_LIMIT: Final = 16 * 1024 * 1024
JOURNAL_LIMIT: Final = 200_000
"""Entries kept; past it the older half goes, so that a sandbox may run for days."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request in the journal.

    `part` is what differed, None when it was accepted; `target` is without the mount; `token_fingerprint` is that of
    the token issued or presented.
    """

    kind: EntryKind
    account: str
    method: str
    target: str
    status: int
    part: str | None
    token_fingerprint: str
    external_id: str
    arrived_ms: int


@dataclass(slots=True)
class Faults:
    """Trouble to order, for all accounts; delays in seconds, `lifetimes` in seconds by account."""

    token_delay: float = 0
    call_delay: float = 0
    token_status: int | None = None
    retry_after: int | None = None
    """Goes out with `token_status`."""
    lifetimes: dict[str, int] = field(default_factory=dict)


def fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:12] if token else ""


class Sandbox:
    """All accounts on one listener. Its clock decides about windows, lifetimes and the Date header."""

    def __init__(
        self,
        accounts: Sequence[SandboxAccount],
        *,
        clock: Clock,
        faults: Faults | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.journal: list[Entry] = []
        self._clock = clock
        self._tls = tls
        self._desks = {account.name: Desk(account) for account in accounts}
        self._connections: web.Server | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """The address listened on; port 0 picks a free one."""
        self._connections = web.Server(
            self._respond, request_factory=_base_request, access_log=None, logger=_silent(), auto_decompress=False
        )
        self._listener = await asyncio.get_running_loop().create_server(self._connections, host, port, ssl=self._tls)
        address = self._listener.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def stop(self) -> None:
        """Ends the listener and every connection; answers under way have a second."""
        if self._listener and self._connections:
            self._listener.close()
            self._connections.pre_shutdown()
            await self._connections.shutdown(timeout=1)
            await self._listener.wait_closed()
            self._listener = self._connections = None

    def expire_tokens(self, account: str) -> None:
        self._desks[account].expire(self._clock.now_ms())

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        arrived_ms = self._clock.now_ms()
        account, raw = await _received(request, self._desks)
        desk = self._desks.get(account)
        kind, verdict = await self._judged(desk, raw) if desk else ("other", _nobody())
        self._note(kind, account if desk else "", raw, verdict, arrived_ms)
        return _response(verdict.answer, self._clock.now_ms())

    async def _judged(self, desk: Desk, request: RawRequest) -> tuple[EntryKind, Verdict]:
        rule = desk.judge.rule
        if rule.token and (request.method, request.path) == ("POST", rule.token.path):
            return "token", await self._token(desk, rule.token, request)
        if rule.style == "klikoo" and (request.method, request.path) == ("POST", GET_SIGNATURE):
            return "other", get_signature(desk.judge, request, self._clock.now_ms())
        await asyncio.sleep(self.faults.call_delay)
        return "call", desk.call(request, self._clock.now_ms())

    async def _token(self, desk: Desk, rule: TokenRule, request: RawRequest) -> Verdict:
        faults = self.faults
        await asyncio.sleep(faults.token_delay)
        if faults.token_status:
            answer = failed(desk.judge.rule.style, faults.token_status, request.target)
            pause: Headers = () if faults.retry_after is None else (("Retry-After", str(faults.retry_after)),)
            return Verdict(Answer(answer.status, answer.content, pause), None)
        lifetime = faults.lifetimes.get(desk.judge.account.name)
        return desk.token(rule, request, self._clock.now_ms(), lifetime)

    def _note(self, kind: EntryKind, account: str, raw: RawRequest, verdict: Verdict, arrived_ms: int) -> None:
        if len(self.journal) >= JOURNAL_LIMIT:
            del self.journal[: JOURNAL_LIMIT // 2]
        self.journal.append(
            Entry(
                kind,
                account,
                raw.method,
                raw.target,
                verdict.answer.status,
                verdict.part,
                fingerprint(verdict.token),
                verdict.external_id,
                arrived_ms,
            )
        )


class _Response(web.Response):
    """Without the banner that aiohttp writes."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


def _response(answer: Answer, now_ms: int) -> web.Response:
    headers = [
        ("Date", formatdate(now_ms / 1000, usegmt=True)),
        ("Content-Type", "application/json"),
        *answer.headers,
    ]
    response = _Response(status=answer.status, body=answer.body)
    for name, value in headers:
        response.headers[name] = value
    return response


async def _received(request: web.BaseRequest, accounts: Collection[str]) -> tuple[str, RawRequest]:
    """The account named by the first segment, and the rest of the request. Target and body are as on the wire.

    An only account has no mount if none was named: as the provider itself, for programs whose paths are fixed.
    """
    account, target = _unmounted(request.raw_path)
    mount = f"/{account}"
    if account not in accounts and len(accounts) == 1:
        account, target, mount = next(iter(accounts)), request.raw_path, ""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    raw = RawRequest(
        request.method,
        target,
        headers=tuple((_text(name), _text(value)) for name, value in request.raw_headers),
        body=await request.read(),
        mount=mount,
        origin=f"{request.scheme}://{request.headers.get('Host', '')}",
    )
    return account, raw


def _unmounted(target: str) -> tuple[str, str]:
    """`/doku/x?y` → `doku`, `/x?y`."""
    path, mark, query = target.partition("?")
    name, slash, rest = path.removeprefix("/").partition("/")
    return name, f"/{rest}{mark}{query}" if slash or mark else "/"


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _nobody() -> Verdict:
    return Verdict(Answer(404, {"error": "no account is mounted here"}), None)


def _base_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT)


def _silent() -> logging.Logger:
    """For aiohttp, which logs a malformed request with its bytes and a traceback; neither belongs into a log."""
    logger = logging.getLogger(__name__)
    logger.disabled = True
    return logger
