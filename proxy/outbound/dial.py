"""How connections to a provider come about: name, addresses, TCP, TLS. All of one transport go through one Dial."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

Protocol = TypeVar("Protocol", bound=asyncio.BaseProtocol)
Address = tuple[str, int]

FRESH: Final = 10.0
"""Seconds that the addresses of a name are used again: a burst of connects asks once, a move is seen soon."""


class Dial:
    """Build it inside the running loop."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._known: dict[Address, tuple[float, asyncio.Task[list[Address]]]] = {}

    async def open(self, origin: str, protocol: Callable[[], Protocol], seconds: float) -> Protocol:
        """A connection to the first address that takes it; none holds up the others for longer than its share.

        Raises OSError (ssl.SSLError and socket.gaierror among them), TimeoutError or UnicodeError.
        """
        deadline = self._loop.time() + seconds
        url = urlsplit(origin)
        host, tls = url.hostname or "", url.scheme == "https"
        port = url.port or (443 if tls else 80)
        async with asyncio.timeout_at(deadline):
            addresses = await self._addresses(host, port)
        security: dict[str, Any] = {"ssl": self._tls, "server_hostname": host.rstrip(".")} if tls else {}
        for left in range(len(addresses), 0, -1):
            share = self._loop.time() + (deadline - self._loop.time()) / left
            try:
                async with asyncio.timeout_at(share):
                    _, made = await self._loop.create_connection(protocol, *addresses[-left], **security)
            except ssl.SSLError:
                raise
            except OSError as fault:  # TimeoutError is one
                failure = fault
            else:
                return made
        self._known.pop((host, port), None)
        raise failure

    def remember(self, transport: asyncio.BaseTransport) -> None:
        """A first answer has come on this connection: the next one need not begin from nothing."""
        connection = transport.get_extra_info("ssl_object")
        if connection is not None and isinstance(self._tls, ResumingContext):
            self._tls.remember(connection)

    async def _addresses(self, host: str, port: int) -> list[Address]:
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

    async def _resolved(self, host: str, port: int) -> list[Address]:
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys((str(address[0]), port) for *_, address in found))


class ResumingContext(ssl.SSLContext):
    """Offers the session of the last connection to a name, which spares the server's certificate and a round trip.

    The chain and the name were verified when the session was made; no other context can use it.
    """

    _sessions: dict[str | bytes | None, ssl.SSLSession]

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
        known = session or self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, known)

    def remember(self, connection: ssl.SSLObject) -> None:
        """To be asked after the first answer: the tickets of TLS 1.3 come behind the handshake."""
        if connection.session is not None:
            self._sessions[connection.server_hostname] = connection.session


def verified_tls(authorities: str | None = None) -> ssl.SSLContext:
    """Chain, name and dates are checked: against these PEM texts, else the system's roots or those of SSL_CERT_FILE."""
    context = ResumingContext()  # CERT_REQUIRED and check_hostname, as PROTOCOL_TLS_CLIENT sets them
    if authorities:
        context.load_verify_locations(cadata=authorities)
    else:
        context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context
