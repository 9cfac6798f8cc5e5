"""The head of a caller's request: is it one that is served?"""

import math
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from proxy.errors import ProxyError
from proxy.headers import PLACES, decoded
from proxy.inbound.problem import METHODS
from proxy.model import Headers
from proxy.remembered import Remembered


def headers_of(message: RawRequestMessage) -> tuple[tuple[str, ...], Headers]:
    """Their names, and they. Raises ProxyError for a head that is well-formed but not served."""
    names, headers = decoded(message.raw_headers)
    if _ARE_RARE[names] or message.version != HttpVersion11 or message.method not in METHODS:
        for is_flaw, code, words in _FLAWS:
            if is_flaw(message):
                raise ProxyError(code, words)
    return names, headers


def left_of(message: RawRequestMessage, data: bytes) -> float:
    """How much of a request has yet to come, if its head is the first thing in `data`; else nobody knows."""
    end = data.find(b"\r\n\r\n") + 4
    if "Transfer-Encoding" in message.headers or not data.startswith(message.method.encode()) or end < 4:
        return math.nan
    return end + int(message.headers.get("Content-Length", "0")) - len(data)


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


def _are_rare(names: tuple[str, ...]) -> bool:
    """Is there a header among them that could be a flaw?"""
    return not {"upgrade", "transfer-encoding", "expect"}.isdisjoint(PLACES[names])


_ARE_RARE: Final = Remembered(_are_rare)
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
