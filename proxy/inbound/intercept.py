"""CONNECT: a TLS connection that ends here, with a certificate of the local authority, and requests inside it.

The transport goes from the connection that spoke CONNECT to one that is served like any other, but for one host.
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from aiohttp.http import RawRequestMessage

from proxy.errors import ProxyError
from proxy.headers import decoded
from proxy.inbound.connection import CallerConnection
from proxy.model import Headers, Tunnel

if TYPE_CHECKING:  # it loads all of X.509
    from proxy.inbound.leaves import LeafContext

SHUTDOWN: Final = 1.0
"""Seconds that the other side's goodbye is waited for when a tunnel ends."""
DISTRUST: Final = frozenset(
    """SSLV3_ALERT_BAD_CERTIFICATE SSLV3_ALERT_CERTIFICATE_UNKNOWN SSLV3_ALERT_UNSUPPORTED_CERTIFICATE
    SSLV3_ALERT_CERTIFICATE_EXPIRED SSLV3_ALERT_CERTIFICATE_REVOKED TLSV1_ALERT_UNKNOWN_CA
    TLSV1_ALERT_ACCESS_DENIED TLSV1_ALERT_DECRYPT_ERROR""".split()
)
"""OpenSSL's words for the alerts by which a program says that it does not take our certificate."""

SSLProtocol.max_size = 32 * 1024
"""What asyncio takes and fills at once for every TLS connection, before a byte of a handshake has come. With its own
256 KiB, 1500 callers who said CONNECT and no more cost 474 MB (measured). A record has at most 16 KiB."""

Failure = Literal["distrust", "hung up", "handshake"]
"""An alert that says so; ended in the handshake or behind it, without a request; anything else."""
Failing = Callable[[str, Failure], None]
"""Told the host."""


class Doorway(asyncio.Protocol):
    """Keeps what arrives between the end of the handshake and the moment at which somebody serves it.

    The end may be on its way to here in that very moment.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended: tuple[BaseException | None] | None = None
        self._inside: CallerConnection | None = None

    def data_received(self, data: bytes) -> None:
        self._data += data

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._inside is not None:
            self._inside.connection_lost(exc)
        self._ended = (exc,)

    def open(self, transport: asyncio.Transport, inside: CallerConnection) -> None:
        transport.set_protocol(inside)
        inside.connection_made(transport)
        if self._data:
            inside.data_received(bytes(self._data))
        if self._ended:
            inside.connection_lost(self._ended[0])
        self._inside = inside


def connect_headers(message: RawRequestMessage) -> tuple[tuple[str, ...], Headers]:
    """Of a CONNECT. It has no body (RFC 9110 section 9.3.6); what follows is the tunnel."""
    sent = message.headers
    if sent.get("Content-Length", "0") != "0" or "Transfer-Encoding" in sent:
        raise ProxyError("bad_request", "a CONNECT has no body")
    return decoded(message.raw_headers)


def established(marks: bytes) -> bytes:
    return b"HTTP/1.1 200 Connection established\r\n%b\r\n" % marks


async def turn(
    outside: CallerConnection,
    kept: "LeafContext",
    tunnel: Tunnel,
    serve: Callable[[Tunnel], CallerConnection],
    failed: Failing,
) -> CallerConnection | None:
    """Shake hands and hand the transport over to what `serve` makes. A handshake that fails ends the connection."""
    doorway = Doorway()
    try:
        transport = await _handshake(outside, doorway, kept.tls)
    except BaseException as fault:
        outside.hand_over(ended=True)
        if not isinstance(fault, OSError):  # ssl.SSLError and TimeoutError are some
            raise
        fault.__traceback__ = None  # holds `start_tls`, that its future, and that the fault: a circle around 80 KiB
        failed(tunnel.host, _kind(fault))
        return None
    misnamed = kept.is_misnamed(transport.get_extra_info("ssl_object"))
    outside.hand_over(ended=False)
    inside = serve(replace(tunnel, misnamed=misnamed))
    doorway.open(transport, inside)
    return inside


async def _handshake(outside: CallerConnection, doorway: Doorway, tls: ssl.SSLContext) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    transport = outside.open_transport()
    # `start_tls` puts TLS in its place at once and queues its beginning, behind this. Not in a task of its own: the
    # connection could end before the first step of that, TLS would begin after its end, and its timer would hold it.
    loop.call_soon(_feed, transport, outside)
    try:
        made = await loop.start_tls(
            transport,
            doorway,
            tls,
            server_side=True,
            ssl_handshake_timeout=outside.limits.header_seconds,
            ssl_shutdown_timeout=SHUTDOWN,
        )
    except BaseException:
        transport.abort()
        raise
    if made is None or made.is_closing():  # lost in the very moment: asyncio's loop and uvloop say so in their own way
        raise ConnectionResetError
    return made


def _feed(transport: asyncio.Transport, outside: CallerConnection) -> None:
    """The program's first words may have come with CONNECT or at once behind it, and TLS has yet to see them."""
    early = outside.early()
    protocol = cast("Any", transport.get_protocol())  # a BufferedProtocol, asyncio's and uvloop's alike
    while early and protocol is not outside:
        room = protocol.get_buffer(len(early))
        count = min(len(room), len(early))
        room[:count] = early[:count]
        protocol.buffer_updated(count)
        early = early[count:]


def _kind(fault: BaseException) -> Failure:
    if isinstance(fault, ssl.SSLError):
        return "distrust" if fault.reason in DISTRUST else "handshake"
    return "hung up" if isinstance(fault, ConnectionResetError | BrokenPipeError) else "handshake"
