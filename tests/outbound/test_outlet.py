"""What a route says of its connections, against real TLS servers: who we are, whom we ask for, what we insist on."""

import asyncio
import ssl

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as elliptic
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from rawpeer import RawPeer, ok
from sending import SYSTEM, opened, serving

from proxy.errors import ProxyError
from proxy.model import Secret
from proxy.outbound.outlet import EgressAccess, Identity, Outlet


@pytest.fixture(scope="module")
def clients():
    """The authority of those whom a provider knows."""
    return trustme.CA()


@pytest.fixture(params=["wire", "session"])
def kind(request):
    return request.param


def pem(authority):
    return authority.cert_pem.bytes().decode()


def identity(clients, **options):
    made = clients.issue_cert("merchant.example")
    chain = "".join(blob.bytes().decode() for blob in made.cert_chain_pems)
    return Identity(chain, Secret(made.private_key_pem.bytes().decode()), **options)


def asking(authority, clients):
    """A server that wants to see a certificate of its clients."""
    context = serving(authority, "localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    clients.configure_trust(context)
    return context


def reaching(kind, outlet):
    return opened(kind, tls=outlet.tls(None), road=outlet.road(None))


async def refused(sender, url):
    with pytest.raises(ProxyError) as raised:
        await sender.send("POST", url)
    return raised.value.code


async def test_a_provider_that_asks_for_a_certificate_gets_it(authority, clients, kind):
    outlet = Outlet(ca=pem(authority), identity=identity(clients), allow_private=True)
    server = asking(authority, clients)
    async with RawPeer(lambda request: ok(b"x"), tls=server) as peer, reaching(kind, outlet) as sender:
        assert await sender.fetch("POST", f"{peer.url}/") == (200, b"x")
        shown = peer.writers[0].get_extra_info("peercert")
        assert ("DNS", "merchant.example") in shown["subjectAltName"]


async def test_without_it_there_is_no_call(authority, clients, kind):
    """In TLS 1.3 the refusal comes behind the handshake: then it looks as if the call had been read."""
    outlet = Outlet(ca=pem(authority), allow_private=True)
    async with RawPeer(lambda request: ok(), tls=asking(authority, clients)) as peer, reaching(kind, outlet) as sender:
        assert await refused(sender, f"{peer.url}/") in {"upstream_tls", "upstream_protocol", "upstream_unreachable"}
        assert peer.requests == []


async def test_a_certificate_of_somebody_else_is_not_taken(authority, clients, kind):
    outlet = Outlet(ca=pem(authority), identity=identity(trustme.CA()), allow_private=True)
    async with RawPeer(lambda request: ok(), tls=asking(authority, clients)) as peer, reaching(kind, outlet) as sender:
        assert await refused(sender, f"{peer.url}/") in {"upstream_tls", "upstream_protocol", "upstream_unreachable"}
        assert peer.requests == []


async def test_the_name_that_is_asked_for_and_expected(authority, kind):
    """The provider is written as an address; the certificate has its name."""
    seen = []
    context = serving(authority, "api.example.com")
    context.sni_callback = lambda _connection, name, _context: seen.append(name)
    outlet = Outlet(ca=pem(authority), names=(("127.0.0.1", "api.example.com"),))
    async with RawPeer(lambda request: ok(b"x"), tls=context) as peer, reaching(kind, outlet) as sender:
        assert await sender.fetch("POST", f"https://127.0.0.1:{peer.port}/") == (200, b"x")
        assert seen == ["api.example.com"]
        assert peer.requests[0].values("Host") == [f"127.0.0.1:{peer.port}".encode()]
        assert await refused(sender, f"{peer.url}/") == "upstream_tls"  # another host: asked for by its own name
        assert seen[1:] == ["localhost"]
        peer.flaws.clear()


@pytest.mark.parametrize(("lowest", "passes"), [("1.2", True), ("1.3", False), (None, True)])
async def test_the_lowest_version_of_tls(authority, kind, lowest, passes):
    """The server hangs up on what it cannot speak, with or without a word."""
    context = serving(authority, "localhost")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    outlet = Outlet(ca=pem(authority), min_version=lowest)
    async with RawPeer(lambda request: ok(), tls=context) as peer, reaching(kind, outlet) as sender:
        if passes:
            assert await sender.fetch("POST", f"{peer.url}/") == (200, b"")
        else:
            assert await refused(sender, f"{peer.url}/") in {"upstream_tls", "upstream_unreachable"}
        assert len(peer.requests) == int(passes)


def test_what_needs_no_context_of_its_own_shares_one():
    system = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert Outlet(allow_private=True, names=(("a", "b"),)).tls(system) is system
    assert Outlet(min_version="1.3").tls(system) is not system
    road = Outlet(egress=EgressAccess("proxy", 443, tls=True)).road(system)
    assert road.egress.tls is system
    assert Outlet(egress=EgressAccess("proxy", 80, tls=False)).road(system).egress.tls is None


def key_of(made):
    return load_pem_private_key(made.key.reveal().encode(), None)


def written(key, passphrase=None):
    how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode())


def test_identities_that_can_be_used(clients):
    made = identity(clients)
    locked = Identity(made.chain, written(key_of(made), b"open"), Secret("open"))
    for each in (made, locked):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        each.load(context)
        assert "PRIVATE" not in repr(each)
    assert x509.load_pem_x509_certificate(made.chain.encode())


@pytest.mark.parametrize(
    ("key", "passphrase", "words"),
    [
        (lambda made: written(elliptic(SECP256R1())), None, "is not the key of the certificate in client_cert"),
        (lambda made: identity(trustme.CA()).key, None, "is not the key of the certificate in client_cert"),
        (lambda made: written(key_of(made), b"open"), None, "is encrypted: name its `passphrase`"),
        (lambda made: written(key_of(made), b"open"), Secret("wrong"), "cannot be opened with this passphrase"),
        (lambda made: Secret("no key"), None, "holds no private key in PEM that can be read"),
        (lambda made: Secret(made.chain), None, "holds no private key in PEM that can be read"),
    ],
)
def test_identities_that_cannot(clients, key, passphrase, words):
    made = identity(clients)
    with pytest.raises(ValueError, match=f"^{words}$"):
        Identity(made.chain, key(made), passphrase).load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@pytest.mark.parametrize(("most", "connections"), [(0, 6), (1, 5), (3, 3)])
async def test_how_many_idle_connections_are_kept(most, connections):
    async with RawPeer(lambda request: [0.05, ok()]) as peer, opened("wire", tls=SYSTEM, most_idle=most) as sender:
        for _ in range(2):
            await asyncio.gather(*(sender.fetch("GET", f"{peer.url}/") for _ in range(3)))
        assert peer.connections == connections
