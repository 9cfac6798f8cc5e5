"""The transport over aiohttp's ClientSession: its connector, TLS and answer parser; the request's bytes are ours."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final, cast

import aiohttp
from aiohttp import ClientHandlerType, http
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from yarl import URL

from proxy.errors import ProxyError, StartError
from proxy.model import Attempt, Fields, SignedRequest
from proxy.outbound.dial import Dial, Road, verified_tls
from proxy.outbound.message import written
from proxy.outbound.pool import CleanPool, Wire
from proxy.outbound.transport import Patience

_READ_BUFFER: Final = 64 * 1024
"""What waits of one answer for a slow caller is at most twice this and one read of the socket (256 KiB)."""
_HEAD_LINE: Final = 8190
_HEAD_LINES: Final = 128

_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_FAULTS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (aiohttp.ConnectionTimeoutError, "upstream_timeout", "no connection to the provider in time"),
    (TimeoutError, "upstream_timeout", "the provider's answer did not come in time"),
)
"""Beside those of `Dial`; first match wins. The rest is `upstream_unreachable` before the first byte and
`upstream_protocol` after it."""


def require_compiled_aiohttp() -> None:
    """Raise StartError when aiohttp would read HTTP with its pure Python parsers: they are laxer (measured, 3.14.5)."""
    parsers = (http.HttpRequestParser, http.HttpResponseParser)
    if any(parser.__module__ != "aiohttp._http_parser" for parser in parsers):
        raise StartError(
            "aiohttp's compiled HTTP parser is missing or switched off: "
            "install aiohttp from a wheel for this platform and unset AIOHTTP_NO_EXTENSIONS"
        )


class SessionTransport:
    """A Transport with one pool and one TLS context. Build it inside the running loop.

    `connections`: most at once, over all hosts; 0 is no limit. `keep`: the most seconds that an idle one is kept; 0 is
    never. A provider that keeps them shorter is learned from: see `proxy.outbound.trust`.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        road: Road | None = None,
        connections: int = 1024,
        keep: float = 15.0,
    ) -> None:
        require_compiled_aiohttp()
        self._session = aiohttp.ClientSession(
            connector=CleanPool(dial=Dial(tls or verified_tls(), road), limit=connections, limit_per_host=0, keep=keep),
            request_class=_ExactRequest,
            response_class=_TimedResponse,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BUFFER,
            max_line_size=_HEAD_LINE,
            max_field_size=_HEAD_LINE,
            max_headers=_HEAD_LINES,
        )

    async def send(self, request: SignedRequest, patience: Patience, attempt: Attempt) -> "_Answer":
        origin, head = written(request)
        if self._session.closed:
            raise ProxyError("shutting_down", "the connections to the provider are closed", sent=attempt.sent)
        response = await self._session.request(
            request.method,
            URL(origin),
            allow_redirects=False,
            # No `total`: aiohttp pays for it with a timer and a context around every read.
            timeout=aiohttp.ClientTimeout(connect=patience.connect, sock_read=patience.idle),
            middlewares=(_Sending(head + request.body, patience.first_byte, attempt),),
        )
        return _Answer(cast("_TimedResponse", response))

    async def close(self) -> None:
        await self._session.close()


@dataclass(frozen=True, slots=True)
class _Sending:
    """One sending, as a middleware of aiohttp: inside the loop in which aiohttp repeats idempotent requests.

    That loop repeats on aiohttp's own errors when a kept connection was closed, and a PUT or DELETE would go out
    twice. A ProxyError raised in here passes through it, for every method.
    """

    message: bytes = field(repr=False)
    first_byte: float
    attempt: Attempt

    async def __call__(self, request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
        cast("_ExactRequest", request).sending = self
        try:
            return await handler(request)
        except (aiohttp.ClientError, OSError) as fault:
            raise _translated(fault, self.attempt) from None


class _ExactRequest(aiohttp.ClientRequest):
    """Writes the message it is given; aiohttp's own head, with headers and quoting of its choice, is never used."""

    sending: _Sending

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        wire, attempt = cast("Wire", conn.protocol), self.sending.attempt
        attempt.sent = "maybe"
        if not wire.takes(self.sending.message):
            attempt.sent = "no"
            raise aiohttp.ServerDisconnectedError
        response = _TimedResponse(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self.session,
            stream_writer=StreamWriter(wire, self.loop),
        )
        response.sending = self.sending
        return response


class _TimedResponse(aiohttp.ClientResponse):
    """An answer whose whole head, 1xx answers before it included, has one deadline and must be fit to pass on."""

    sending: _Sending

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        wire = cast("Wire", connection.protocol)
        async with asyncio.timeout(self.sending.first_byte):
            await super().start(connection)
        if not _is_fit(self):
            wire.abort()  # after an answer without a body it lies in the pool already
            raise aiohttp.ClientPayloadError
        wire.heard(self.headers.get("Keep-Alive"))
        return self


def _is_fit(response: aiohttp.ClientResponse) -> bool:
    """The lenient parser of answers lets through control characters, HTTP/0.9 and 2.0, odd statuses and codings.

    A transfer coding besides chunked is hop-by-hop: it would be stripped, and the coded bytes passed for plain.
    """
    return (
        response.version in (aiohttp.HttpVersion10, aiohttp.HttpVersion11)
        and 200 <= response.status < 600
        and not _CONTROLS.search((response.reason or "").encode("utf-8", "surrogateescape"))
        and not any(_CONTROLS.search(value) for _, value in response.raw_headers)
        and all(coding.lower() == "chunked" for coding in response.headers.getall("Transfer-Encoding", ()))
    )


class _Answer:
    """UpstreamResponse over aiohttp's."""

    __slots__ = ("_response", "fields", "reason", "status")

    def __init__(self, response: _TimedResponse) -> None:
        self.status = response.status
        self.reason = (response.reason or "").encode("utf-8", "surrogateescape")
        raw = response.raw_headers
        self.fields: Fields = tuple([name for name, _ in raw]), tuple([value for _, value in raw])
        self._response = response

    def whole(self) -> bytes | None:
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._response.content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError) as fault:
            await self.close()
            raise _translated(fault, self._response.sending.attempt) from None

    async def close(self) -> None:
        self._response.close()


def _translated(fault: Exception, attempt: Attempt) -> ProxyError:
    for kind, code, words in _FAULTS:
        if isinstance(fault, kind):
            return ProxyError(code, words, sent=attempt.sent)
    if attempt.sent == "no":
        return ProxyError("upstream_unreachable", "the connection to the provider was lost", sent="no")
    return ProxyError("upstream_protocol", "the provider's answer is missing, broken or cut off", sent="maybe")
