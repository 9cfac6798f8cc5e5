"""The caller's request as the pipeline sees it: its head checked, its body held on demand."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.errors import ProxyError
from proxy.headers import decoded
from proxy.inbound.bodies import Bodies
from proxy.inbound.call import Call
from proxy.inbound.connection import BrokenBody
from proxy.inbound.problem import METHODS
from proxy.model import Headers

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class CallerRequest:
    """An InboundRequest over a Call."""

    __slots__ = ("_bodies", "_body_seconds", "_call", "headers", "loopback", "method", "target", "tunnel")

    def __init__(self, call: Call, headers: Headers, body_seconds: float, bodies: Bodies) -> None:
        self.method: str = call.message.method
        self.target: str = call.message.path
        self.headers = headers
        self.loopback = call.connection.loopback
        self.tunnel = call.connection.tunnel
        self._call = call
        self._body_seconds = body_seconds
        self._bodies = bodies

    async def hold(self, limit: int) -> bytes:
        call, payload = self._call, self._call.payload
        if payload.is_eof() and payload.exception() is None:
            whole = _all(payload, limit)
            self._take(len(whole))
            return whole
        announced = int(call.message.headers.get("Content-Length", "0"))
        if announced > limit:
            raise _too_large()
        self._take(announced)
        if not payload.is_eof() and "Expect" in call.message.headers and call.message.version == HttpVersion11:
            call.connection.write(_CONTINUE)
        try:
            return await self._whole(limit)
        except TimeoutError:
            raise ProxyError("request_timeout", "the body did not arrive in time") from None
        except BrokenBody:
            raise ProxyError("bad_request", "the framing of the body is broken") from None

    async def _whole(self, limit: int) -> bytes:
        payload = self._call.payload
        if self._call.connection.is_broken(payload):
            raise BrokenBody
        async with asyncio.timeout(self._body_seconds):
            return await self._read(payload, limit)

    async def _read(self, payload: StreamReader, limit: int) -> bytes:
        pieces, size = [], 0
        while piece := await payload.readany():
            size += len(piece)
            if size > limit:
                raise _too_large()
            if size > self._call.held:
                self._take(size - self._call.held)
            pieces.append(piece)
        return b"".join(pieces)

    def _take(self, size: int) -> None:
        self._bodies.take(size)
        self._call.held += size


def _all(payload: StreamReader, limit: int) -> bytes:
    """Of a body that came with its head. From under its reader, who would have the connection look for more."""
    if payload is EMPTY_PAYLOAD:
        return b""
    pieces = payload._buffer  # noqa: SLF001
    whole = b"".join(pieces)
    pieces.clear()
    if len(whole) > limit:
        raise _too_large()
    return whole


def _too_large() -> ProxyError:
    return ProxyError("body_too_large", "the body is over the route's limit")


def read(call: Call, body_seconds: float, bodies: Bodies) -> CallerRequest:
    """Raises ProxyError for a head that is well-formed but not served."""
    message = call.message
    if not _is_plain(message):
        for is_flaw, code, words in _FLAWS:
            if is_flaw(message):
                raise ProxyError(code, words)
    try:
        headers = decoded(message.raw_headers)
    except ValueError:
        raise ProxyError("bad_request", "a header is not UTF-8") from None
    return CallerRequest(call, headers, body_seconds, bodies)


def unreadable(fault: BaseException | None) -> ProxyError:
    """What to answer when aiohttp's parser refused the bytes."""
    if isinstance(fault, LineTooLong) or getattr(fault, "message", "") == "Too many headers received":
        return ProxyError("headers_too_large", "the request line, a header or their number is over the limit")
    return ProxyError("bad_request", "the request is not proper HTTP/1.1")


def _is_upgrade(message: RawRequestMessage) -> bool:
    """`h2c` is an offer that stock Java makes with its first request; it may be ignored (RFC 9110 section 7.8)."""
    offers = ",".join(message.headers.getall("Upgrade", ())).split(",")
    return any(offer.strip().lower() not in ("", "h2c") for offer in offers)


def _is_coded(message: RawRequestMessage) -> bool:
    """A coding under `chunked` would go on unnamed; in HTTP/1.0 it hides a second request (RFC 9112 section 6.1)."""
    codings = [value.lower() for value in message.headers.getall("Transfer-Encoding", ())]
    return bool(codings) and (codings != ["chunked"] or message.version == HttpVersion10)


def _is_odd_expectation(message: RawRequestMessage) -> bool:
    return any(value.lower() != "100-continue" for value in message.headers.getall("Expect", ()))


def _is_plain(message: RawRequestMessage) -> bool:
    """Has it nothing at all that could be a flaw?"""
    headers = message.headers
    rare = "Upgrade" in headers or "Transfer-Encoding" in headers or "Expect" in headers
    return not rare and message.version == HttpVersion11 and message.method in METHODS


_FLAWS: Final[tuple[tuple[Callable[[RawRequestMessage], bool], str, str], ...]] = (
    (lambda message: message.method not in METHODS, "method_not_allowed", "this method is not passed on"),
    (
        lambda message: message.version not in (HttpVersion10, HttpVersion11),
        "bad_request",
        "only HTTP/1.0 and HTTP/1.1 are served",
    ),
    (_is_upgrade, "upgrade_refused", "only HTTP/1.1 is spoken here"),
    (_is_coded, "bad_request", "only chunked is understood, and only in HTTP/1.1"),
    (_is_odd_expectation, "bad_request", "only 100-continue can be expected"),
)
