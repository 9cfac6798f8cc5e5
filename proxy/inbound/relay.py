"""The answer's way back to the caller: the provider's bytes, chunk by chunk, at the pace at which they are read."""

from collections.abc import Iterable
from typing import Final

from proxy.errors import ProxyError
from proxy.headers import BODILESS, answer_headers
from proxy.inbound.call import Call
from proxy.inbound.problem import reason
from proxy.inbound.terms import CallerLeft
from proxy.model import Headers, UpstreamResponse

_CHUNKED: Final = (("Transfer-Encoding", "chunked"),)
_LAST: Final = b"0\r\n\r\n"
"""The chunk that ends a chunked body (RFC 9112 section 7.1)."""


def relayed(call: Call, answer: UpstreamResponse, marks: Headers) -> bool:
    """In one write, if all of it is here, as it mostly is. Raises CallerLeft."""
    status, whole = answer.status, answer.whole()
    if whole is None or call.left or call.method == "HEAD" or status in BODILESS:
        return False
    headers, length, chunked = _framed(call, answer)
    if length not in (None, len(whole)):
        return False
    keeps = (chunked or length is not None) and call.may_keep()
    data = head(status, answer.reason, headers + marks, keeps=keeps)
    call.give(status, data + (_chunk(whole) + _LAST if chunked else whole), keeps=keeps)
    return True


async def relay(call: Call, answer: UpstreamResponse, marks: Headers) -> None:
    """Status, reason, headers and body as they come; `marks` are our own headers.

    Raises CallerLeft, or ProxyError when the body breaks off; the answer is freed in every case.
    """
    try:
        status = answer.status
        if call.left:
            raise CallerLeft  # noqa: TRY301  one way out
        if call.method == "HEAD" or status in BODILESS:
            await _bodiless(call, answer, marks)
            return
        headers, length, chunked = _framed(call, answer)
        keeps = (chunked or length is not None) and call.may_keep()
        call.begin(status, head(status, answer.reason, headers + marks, keeps=keeps), keeps=keeps)
        await _pour(call, answer, length, chunked=chunked)
    except BaseException:
        await answer.close()
        raise


def _framed(call: Call, answer: UpstreamResponse) -> tuple[Headers, int | None, bool]:
    """The headers that go back, the length of the body if it was announced, and whether it goes in chunks."""
    headers, announced = answer_headers(answer.headers)
    if announced is not None:
        return headers, int(announced), False
    return (headers + _CHUNKED, None, True) if call.is_http11 else (headers, None, False)


async def _bodiless(call: Call, answer: UpstreamResponse, marks: Headers) -> None:
    """A 204 has no length (RFC 9110 section 8.6)."""
    keeps, (headers, _) = call.may_keep(), answer_headers(answer.headers)
    if answer.status == 204:
        headers = tuple([row for row in headers if row[0].lower() != "content-length"])
    call.begin(answer.status, head(answer.status, answer.reason, headers + marks, keeps=keeps), keeps=keeps)
    async for _ in answer.chunks():
        pass


async def _pour(call: Call, answer: UpstreamResponse, length: int | None, *, chunked: bool) -> None:
    connection, poured = call.connection, 0
    async for chunk in answer.chunks():
        if not chunk:
            continue
        poured += len(chunk)
        if length is not None and poured > length:
            break
        connection.write(_chunk(chunk) if chunked else chunk)
        await connection.drained()
    if length not in (None, poured):
        raise ProxyError("upstream_protocol", "the provider's body is not as long as announced", sent="maybe")
    if chunked:
        connection.write(_LAST)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def write_own(call: Call, status: int, headers: Headers, body: bytes, phrase: str | None = None) -> None:
    """An answer of Paraf's own, in one write. Raises CallerLeft."""
    keeps = call.may_keep()
    data = head(status, phrase or reason(status), (*headers, ("Content-Length", str(len(body)))), keeps=keeps)
    call.give(status, data if call.method == "HEAD" else data + body, keeps=keeps)


def head(status: int, phrase: str, headers: Iterable[tuple[str, str]], *, keeps: bool) -> bytes:
    """Surrogates become again the bytes that were not UTF-8."""
    lines = [f"HTTP/1.1 {status} {phrase}", *map(": ".join, headers)]
    if not keeps:
        lines.append("Connection: close")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")
