"""How connections to a provider come about: name, addresses, TCP, TLS. All of one transport go through one Dial."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from proxy.errors import ProxyError
from proxy.outbound.egress import Egress, taken_over, tunnel
from proxy.outbound.reach import Address, is_written_out, kind_of, leads_back

Protocol = TypeVar("Protocol", bound=asyncio.BaseProtocol)

FRESH: Final = 10.0
"""Seconds that the addresses of a name are used again: a burst of connects asks once, a move is seen soon."""
HEAD_START: Final = 0.25
"""Seconds after which the next address is tried beside the one before (RFC 8305 section 5)."""
SESSION: Final = 3600.0
"""Seconds for which a TLS session, and those that come of it, are offered: whoever resumes one does not look at the
certificate, which may have run out since."""

_FAULTS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (ssl.SSLCertVerificationError, "upstream_tls", "the provider's certificate is not accepted"),
    (ssl.SSLError, "upstream_tls", "the TLS handshake with the provider failed"),
    (socket.gaierror, "upstream_unreachable", "the provider's name has no address"),
    (UnicodeError, "upstream_unreachable", "the provider's name is not a host name"),
    (TimeoutError, "upstream_timeout", "no connection to the provider in time"),
    (OSError, "upstream_unreachable", "no connection to the provider"),
)
"""First match wins."""
_EGRESS_FAULTS: Final = {
    "upstream_unreachable": "no connection to the egress proxy, or the one through it was lost",
    "upstream_timeout": "no connection through the egress proxy in time",
}
_LOOP: Final = "the upstream's address is where Paraf itself listens: a call would go round in circles"
_INSIDE: Final = (
    "the upstream's name leads to {} address, not to one of the public Internet: "
    "if that is meant, the route must say allow_private: true"
)


@dataclass(frozen=True, slots=True)
class Road:
    """How connections get to a provider, and where they may not. `listening`: our own sockets.

    `names`: by host of a URL, the name that is asked for in TLS, and expected in the certificate, instead.
    """

    allow_private: bool = True
    listening: Collection[Address] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    egress: Egress | None = None

    def admitted(self, host: str, addresses: list[AddrInfoType]) -> list[AddrInfoType]:
        """Those of a name's addresses that may be called. Raises ProxyError if none may, or one is our own."""
        if any(leads_back(_place(each), self.listening) for each in addresses):
            raise ProxyError("loop", _LOOP)
        if self.allow_private or self.egress or is_written_out(host):
            return addresses
        public = [each for each in addresses if kind_of(_place(each)[0]) is None]
        if addresses and not public:
            raise ProxyError("upstream_unreachable", _INSIDE.format(kind_of(_place(addresses[0])[0])))
        return public


def _place(info: AddrInfoType) -> Address:
    return str(info[4][0]), int(info[4][1])


class Dial:
    """Build it inside the running loop."""

    def __init__(self, tls: ssl.SSLContext, road: Road | None = None) -> None:
        self._tls = tls
        self._road = road or Road()
        self._loop = asyncio.get_running_loop()
        self._known: dict[Address, tuple[float, asyncio.Task[list[AddrInfoType]]]] = {}

    async def open(self, origin: str, protocol: Callable[[], Protocol], seconds: float) -> Protocol:
        """A connection to the address that takes it first. What was looked at is what is connected to: a name is
        resolved once, and every address is checked. Raises ProxyError, `sent: no`.
        """
        try:
            return await self._opened(urlsplit(origin), protocol, self._loop.time() + seconds)
        except (OSError, UnicodeError) as fault:
            code, words = next((code, words) for kind, code, words in _FAULTS if isinstance(fault, kind))
            if self._road.egress and code != "upstream_tls":
                words = _EGRESS_FAULTS[code]
            raise ProxyError(code, words) from None

    async def _opened(self, url: SplitResult, protocol: Callable[[], Protocol], deadline: float) -> Protocol:
        host = url.hostname or ""
        port = url.port or (443 if url.scheme == "https" else 80)
        tls = self._tls if url.scheme == "https" else None
        name = self._road.names.get(host, host.rstrip("."))
        made: Callable[..., Awaitable[Protocol]] = self._made
        place = host, port
        if egress := self._road.egress:
            made, place = partial(self._through, egress, _authority(host, port)), (egress.host, egress.port)
        try:
            async with asyncio.timeout_at(deadline):
                addresses = self._road.admitted(place[0], await self._addresses(*place))
            once = partial(self._first, addresses, partial(made, protocol, tls, name), deadline)
            try:
                return await once()
            except OSError:  # perhaps for the session that was offered: some fronts refuse what they do not know
                if not self._forgets(name):
                    raise
                return await once()
        except OSError:
            self._known.pop(place, None)
            raise

    async def _first(
        self, addresses: list[AddrInfoType], made: Callable[[socket.socket], Awaitable[Protocol]], deadline: float
    ) -> Protocol:
        """Addresses race for the TCP connection alone. One that accepts and then is silent leaves time for others."""
        while True:
            async with asyncio.timeout_at(deadline):
                sock = await _raced(addresses)
            addresses = _others(addresses, sock)
            share = self._loop.time() + (deadline - self._loop.time()) / (len(addresses) + 1)
            try:
                async with asyncio.timeout_at(share):
                    return await made(sock)
            except ssl.SSLError:
                raise
            except OSError:  # TimeoutError is one
                if not addresses:
                    raise

    async def _made(
        self, protocol: Callable[[], Protocol], tls: ssl.SSLContext | None, name: str, sock: socket.socket
    ) -> Protocol:
        """The loop closes the socket if this fails."""
        security: dict[str, Any] = {"ssl": tls, "server_hostname": name} if tls else {}
        _, made = await self._loop.create_connection(protocol, sock=sock, **security)
        return made

    async def _through(  # noqa: PLR0917  a connection in its parts
        self,
        egress: Egress,
        authority: str,
        protocol: Callable[[], Protocol],
        tls: ssl.SSLContext | None,
        name: str,
        sock: socket.socket,
    ) -> Protocol:
        transport = await tunnel(sock, egress, authority)
        made = protocol()
        await taken_over(transport, made, tls, name)
        return made

    def remember(self, transport: asyncio.BaseTransport) -> None:
        """A first answer has come on this connection: the next one need not begin from nothing."""
        connection = transport.get_extra_info("ssl_object")
        if connection is not None and isinstance(self._tls, ResumingContext):
            self._tls.remember(connection)

    def _forgets(self, name: str) -> bool:
        """Was a session kept of this name?"""
        return isinstance(self._tls, ResumingContext) and self._tls.forget(name)

    async def _addresses(self, host: str, port: int) -> list[AddrInfoType]:
        known = self._known.get((host, port))
        if known is None or known[0] < self._loop.time():
            asked = self._loop.create_task(self._resolved(host, port))
            asked.add_done_callback(lambda task: task.cancelled() or task.exception())  # those who wait may have left
            known = self._known[host, port] = self._loop.time() + FRESH, asked
        try:
            # One who leaves takes nothing from the others who wait.
            return await asyncio.shield(known[1])
        except (OSError, UnicodeError):
            self._known.pop((host, port), None)
            raise

    async def _resolved(self, host: str, port: int) -> list[AddrInfoType]:
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list({info[4][0]: cast("AddrInfoType", info) for info in found}.values())


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _raced(addresses: list[AddrInfoType]) -> socket.socket:
    try:
        return await start_connection(addresses, happy_eyeballs_delay=HEAD_START, interleave=1)
    except RuntimeError:  # of uvloop, for a socket that is gone
        raise ConnectionResetError from None


def _others(addresses: list[AddrInfoType], sock: socket.socket) -> list[AddrInfoType]:
    try:
        peer = sock.getpeername()[:2]
    except OSError:  # reset already
        peer = None
    others = [each for each in addresses if each[4][:2] != peer]
    return others if len(others) < len(addresses) else addresses[1:]


class _Connection(ssl.SSLObject):
    """`verified`: when the certificate was looked at to which the session that is offered goes back."""

    verified = 0.0


class ResumingContext(ssl.SSLContext):
    """Offers the session of the last connection to a name, which spares the server's certificate and a round trip.

    The chain and the name were verified when the session was made; no other context can use it.
    """

    sslobject_class = _Connection
    _sessions: dict[str | bytes | None, tuple[ssl.SSLSession, float]]

    def __new__(cls, protocol: int = ssl.PROTOCOL_TLS_CLIENT) -> Self:
        made = super().__new__(cls, protocol)
        made._sessions = {}
        return made

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        kept, verified = self._sessions.get(server_hostname, (None, 0.0))
        offered = session or (kept if monotonic() - verified < SESSION else None)
        made = cast("_Connection", super().wrap_bio(incoming, outgoing, server_side, server_hostname, offered))
        made.verified = verified
        return made

    def remember(self, connection: ssl.SSLObject) -> None:
        """To be asked after the first answer: the tickets of TLS 1.3 come behind the handshake."""
        if connection.session is not None and isinstance(connection, _Connection):
            verified = connection.verified if connection.session_reused else monotonic()
            self._sessions[connection.server_hostname] = connection.session, verified

    def forget(self, name: str) -> bool:
        """The next connection to it begins from nothing. False if that was so before."""
        return self._sessions.pop(name, None) is not None


def verified_tls(authorities: str | None = None) -> ssl.SSLContext:
    """Chain, name and dates are checked: against these PEM texts, else the system's roots or those of SSL_CERT_FILE."""
    context = ResumingContext()  # CERT_REQUIRED and check_hostname, as PROTOCOL_TLS_CLIENT sets them
    if authorities:
        context.load_verify_locations(cadata=authorities)
    else:
        context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context
