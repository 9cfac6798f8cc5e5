"""A transport with the usual arguments filled in; the suite runs over both."""

import contextlib
import ssl

from proxy.model import Attempt, SignedRequest
from proxy.outbound.dial import verified_tls
from proxy.outbound.session import SessionTransport
from proxy.outbound.transport import Patience
from proxy.outbound.wire import WireTransport

PATIENCE = Patience(connect=2, first_byte=2, idle=2)
TRANSPORTS = {"session": SessionTransport, "wire": WireTransport}
SYSTEM = verified_tls()
"""Made once: reading the system's roots takes longer than most of these tests."""


class Sender:
    """`attempt` is that of the last call."""

    def __init__(self, transport):
        self.transport = transport
        self.attempt = Attempt()

    async def send(self, method, url, headers=(), body=b"", patience=PATIENCE):
        self.attempt = Attempt()
        return await self.transport.send(SignedRequest(method, url, tuple(headers), body), patience, self.attempt)

    async def fetch(self, *args, **options):
        """Status and whole body."""
        answer = await self.send(*args, **options)
        return answer.status, b"".join([chunk async for chunk in answer.chunks()])

    def idle_socket(self):
        """Of the one connection in the pool."""
        if isinstance(self.transport, WireTransport):
            ((line,),) = (origin.idle for origin in self.transport._origins.values())
        else:
            (((line, _),),) = self.transport._session.connector._conns.values()
        return line.transport.get_extra_info("socket")


@contextlib.asynccontextmanager
async def opened(kind, **options):
    transport = TRANSPORTS[kind](**options)
    try:
        yield Sender(transport)
    finally:
        await transport.close()


def serving(authority, *names, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


def trusting(authority):
    context = verified_tls()
    authority.configure_trust(context)
    return context


class Plain:
    """Neither side of a connection speaks TLS."""

    server = client = None


class Encrypted:
    """Both sides do, as far as `trustme` goes."""

    def __init__(self, authority):
        self.server, self.client = serving(authority, "localhost"), trusting(authority)
