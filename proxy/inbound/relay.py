"""The answer's way back to the caller: the provider's bytes, chunk by chunk, at the pace at which they are read."""

from typing import Final

from proxy.errors import ProxyError
from proxy.headers import BODILESS, answer_lines, without_length
from proxy.inbound.call import Call
from proxy.inbound.problem import reason
from proxy.inbound.terms import CallerLeft
from proxy.model import Headers, UpstreamResponse

_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
_LAST: Final = b"0\r\n\r\n"
"""The chunk that ends a chunked body (RFC 9112 section 7.1)."""


def relayed(call: Call, answer: UpstreamResponse, marks: bytes) -> bool:
    """In one write, if all of it is here, as it mostly is; `marks` are our own lines. Raises CallerLeft."""
    status, whole = answer.status, answer.whole()
    if whole is None or call.left or call.method == "HEAD" or status in BODILESS:
        return False
    lines, length, chunked = _framed(call, answer)
    if length not in (None, len(whole)):
        return False
    keeps = (chunked or length is not None) and call.may_keep()
    data = _head(status, answer.reason, lines + marks, keeps=keeps)
    call.give(status, data + (_chunk(whole) + _LAST if chunked else whole), keeps=keeps)
    return True


async def relay(call: Call, answer: UpstreamResponse, marks: bytes) -> None:
    """Status, reason, header and body as they come.

    Raises CallerLeft, or ProxyError when the body breaks off; the answer is freed in every case.
    """
    try:
        status = answer.status
        if call.left:
            raise CallerLeft  # noqa: TRY301  one way out
        if call.method == "HEAD" or status in BODILESS:
            await _bodiless(call, answer, marks)
            return
        lines, length, chunked = _framed(call, answer)
        keeps = (chunked or length is not None) and call.may_keep()
        call.begin(status, _head(status, answer.reason, lines + marks, keeps=keeps), keeps=keeps)
        await _pour(call, answer, length, chunked=chunked)
    except BaseException:
        await answer.close()
        raise


def _framed(call: Call, answer: UpstreamResponse) -> tuple[bytes, int | None, bool]:
    """The lines that go back, the length of the body if it was announced, and whether it goes in chunks."""
    lines, announced = answer_lines(answer.fields)
    if announced is not None:
        return lines, int(announced), False
    return (lines + _CHUNKED, None, True) if call.is_http11 else (lines, None, False)


async def _bodiless(call: Call, answer: UpstreamResponse, marks: bytes) -> None:
    """A 204 has no length (RFC 9110 section 8.6)."""
    keeps, status, fields = call.may_keep(), answer.status, answer.fields
    lines, _ = answer_lines(without_length(fields) if status == 204 else fields)
    call.begin(status, _head(status, answer.reason, lines + marks, keeps=keeps), keeps=keeps)
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


def write_own(call: Call, status: int, lines: bytes, body: bytes, phrase: str | None = None) -> None:
    """An answer of Paraf's own, in one write. Raises CallerLeft."""
    keeps, lines = call.may_keep(), b"%bContent-Length: %d\r\n" % (lines, len(body))
    data = _head(status, (phrase or reason(status)).encode(), lines, keeps=keeps)
    call.give(status, data if call.method == "HEAD" else data + body, keeps=keeps)


def lines_of(headers: Headers) -> bytes:
    """Of our own."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode()


def _head(status: int, phrase: bytes, lines: bytes, *, keeps: bool) -> bytes:
    return b"HTTP/1.1 %d %b\r\n%b%b" % (status, phrase, lines, b"\r\n" if keeps else b"Connection: close\r\n\r\n")
