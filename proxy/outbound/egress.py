"""The way through an egress proxy: HTTP CONNECT (RFC 9110 section 9.3.6), over TCP or TLS to the proxy itself."""

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any, Final, cast

from proxy.errors import ProxyError
from proxy.model import Secret

_HEAD: Final = 16 * 1024
_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")


@dataclass(frozen=True, slots=True)
class Egress:
    """`tls`: how its certificate is checked, if it is asked over TLS. `login`: of Proxy-Authorization."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    login: Secret | None = field(default=None, repr=False)


class Listening(asyncio.Protocol):
    """What is said on a connection until somebody else takes it over."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.ended = False
        self._heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.said += data
        if _END in self.said or len(self.said) > _HEAD:
            self._wake()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._end()

    def _end(self) -> None:
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        if not self._heard.done():
            self._heard.set_result(None)

    async def head(self) -> bytes:
        """All that was said by the end of a head, or of the connection."""
        await self._heard
        return bytes(self.said)


async def tunnel(sock: socket.socket, egress: Egress, authority: str) -> asyncio.Transport:
    """A connection to `authority` (host and port), of which nothing was read yet. Raises ProxyError or OSError."""
    loop = asyncio.get_running_loop()
    security: dict[str, Any] = {"ssl": egress.tls, "server_hostname": egress.host} if egress.tls else {}
    try:
        transport, listening = await loop.create_connection(Listening, sock=sock, **security)
    except ssl.SSLCertVerificationError:
        raise ProxyError("upstream_tls", "the egress proxy's certificate is not accepted") from None
    except ssl.SSLError:
        raise ProxyError("upstream_tls", "the TLS handshake with the egress proxy failed") from None
    if egress.tls and hasattr(transport, "__dict__"):
        # asyncio's own, before 3.12, does not take the fault of a TLS inside of it; uvloop's does.
        vars(transport)["_force_close"] = lambda _fault: transport.abort()
    try:
        transport.write(_request(authority, egress.login))
        _require_success(await listening.head())
    except BaseException:
        transport.abort()
        raise
    return transport


def _request(authority: str, login: Secret | None) -> bytes:
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if login is not None:
        lines.append(f"Proxy-Authorization: {login.reveal()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _require_success(said: bytes) -> None:
    """The proxy's word is no answer of the provider's: nothing of it but the status is told, and that as ours."""
    head, end, rest = said.partition(_END)
    status = _STATUS.match(head + b"\r\n")
    if not end or status is None:
        raise ProxyError("upstream_unreachable", "the egress proxy did not answer in proper HTTP")
    if status[1] == b"407":
        words = "the egress proxy asks for a login, or does not take the one in `egress_proxy` (status 407)"
        raise ProxyError("upstream_unreachable", words)
    if not status[1].startswith(b"2"):
        words = f"the egress proxy does not connect us to the provider (status {status[1].decode()})"
        raise ProxyError("upstream_unreachable", words)
    if rest:
        raise ProxyError("upstream_unreachable", "the egress proxy said more than was asked")


async def taken_over(
    transport: asyncio.Transport, protocol: asyncio.BaseProtocol, tls: ssl.SSLContext | None, name: str
) -> None:
    """Begin the conversation with the provider, over TLS of its own or none. Raises OSError."""
    try:
        listening = Listening()
        if tls is None:
            transport.set_protocol(protocol)
        else:
            inner = await asyncio.get_running_loop().start_tls(transport, listening, tls, server_hostname=name)
            transport = cast("asyncio.Transport", inner)
            if listening.said or listening.ended:
                raise ConnectionResetError  # noqa: TRY301  spoke unasked, as told where all else is told
            transport.set_protocol(protocol)
        protocol.connection_made(transport)
    except BaseException:
        transport.abort()
        raise
