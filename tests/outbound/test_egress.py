"""Through an egress proxy that the test plays by hand: what it sees, what it refuses, and how that is told."""

import asyncio
import base64
import socket
from types import SimpleNamespace

import pytest
from egress_peer import EgressPeer
from rawpeer import RESET, RawPeer, ok
from sending import SYSTEM, serving, trusting

from proxy.errors import ProxyError
from proxy.model import Secret
from proxy.outbound.dial import Road
from proxy.outbound.egress import Egress
from proxy.outbound.transport import Patience


@pytest.fixture(params=["http", "https"])
def proxied(request, authority, opening):
    """Opens a transport through a proxy that is reached so; the peer is to be made with `proxied.tls`."""

    def through(egress, client, login=None, **options):
        tls = trusting(authority) if request.param == "https" else None
        return opening(tls=client or SYSTEM, road=Road(egress=Egress("localhost", egress.port, tls, login), **options))

    through.tls = serving(authority, "localhost") if request.param == "https" else None
    return through


async def refused(sender, url, **options):
    with pytest.raises(ProxyError) as raised:
        await sender.send("POST", url, **options)
    assert raised.value.sent == sender.attempt.sent == "no"
    return raised.value.code, raised.value.detail


async def test_calls_go_through_and_the_proxy_sees_host_and_port_alone(proxied, wires):
    async with (
        RawPeer(lambda request: ok(b"x" * 100_000), tls=wires.server) as peer,
        EgressPeer(tls=proxied.tls) as egress,
    ):
        async with proxied(egress, wires.client) as sender:
            for _ in range(3):
                assert await sender.fetch("POST", f"{peer.url}/pay?a=b", body=b"secret" * 50_000) == (
                    200,
                    b"x" * 100_000,
                )
        assert egress.asked == [peer.url.partition("//")[2].encode()]
        assert b"Proxy-Authorization" not in egress.heads[0]
        assert (b"secret" in egress.piped) is (wires.server is None)
        assert [request.body for request in peer.requests] == [b"secret" * 50_000] * 3
        assert peer.connections == 1
        assert b"proxy" not in bytes(peer.received[0]).lower()


async def test_the_login_goes_to_the_proxy_and_not_to_the_provider(proxied, wires):
    login = Secret("Basic " + base64.b64encode(b"me:pass").decode())
    async with RawPeer(lambda request: ok(), tls=wires.server) as peer, EgressPeer(tls=proxied.tls) as egress:
        async with proxied(egress, wires.client, login) as sender:
            assert (await sender.fetch("POST", f"{peer.url}/"))[0] == 200
        assert f"Proxy-Authorization: {login.reveal()}\r\n".encode() in egress.heads[0]
        assert b"Basic" not in bytes(peer.received[0])


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\nsecret", "(status 407)"),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", "does not connect us to the provider (status 403)"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nblah", "(status 502)"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n", "(status 302)"),
        (b"220 smtp ready\r\n\r\n", "not answer in proper HTTP"),
        (b"HTTP/2 200\r\n\r\n", "not answer in proper HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 20_000, "not answer in proper HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "said more than was asked"),
    ],
)
async def test_its_refusals_are_never_the_providers(proxied, says, words):
    async with EgressPeer(says=says, tls=proxied.tls) as egress, proxied(egress, None) as sender:
        code, detail = await refused(sender, "https://api.example.com/x")
        assert code == "upstream_unreachable"
        assert words in detail
        assert "secret" not in detail
        assert "evil" not in detail


async def test_a_proxy_that_is_gone_silent_or_hangs_up(proxied):
    with socket.create_server(("127.0.0.1", 0)) as bound:
        gone = SimpleNamespace(port=bound.getsockname()[1])
    async with proxied(gone, None) as sender:
        assert await refused(sender, "https://api.example.com/") == (
            "upstream_unreachable",
            "no connection to the egress proxy, or the one through it was lost",
        )
    async with EgressPeer(says=b"HTTP/1.1", tls=proxied.tls) as silent, proxied(silent, None) as sender:
        code, detail = await refused(sender, "https://api.example.com/", patience=Patience(0.5, 1, 1))
        assert code == "upstream_timeout"
        assert detail.endswith("in time")
        assert len(silent.heads) == 1
    async with RawPeer(lambda request: [RESET], tls=proxied.tls) as rude, proxied(rude, None) as sender:
        code, _ = await refused(sender, "https://api.example.com/")
        assert code == "upstream_unreachable"
        rude.flaws.clear()


async def test_the_providers_certificate_is_checked_behind_it(proxied, authority):
    """A proxy that leads elsewhere, or looks inside, is found out."""
    async with (
        RawPeer(lambda request: ok(), tls=serving(authority, "localhost")) as peer,
        EgressPeer(leads=("127.0.0.1", peer.port), tls=proxied.tls) as egress,
        proxied(egress, trusting(authority)) as sender,
    ):
        refusal = await refused(sender, f"https://api.example.com:{peer.port}/")
        assert refusal == ("upstream_tls", "the provider's certificate is not accepted")
        assert peer.requests == []


async def test_an_https_proxy_is_checked_itself(authority, opening):
    stranger = serving(authority, "other.example")
    async with EgressPeer(tls=stranger) as egress:
        road = Road(egress=Egress("localhost", egress.port, trusting(authority)))
        async with opening(tls=SYSTEM, road=road) as sender:
            assert await refused(sender, "https://api.example.com/") == (
                "upstream_tls",
                "the egress proxy's certificate is not accepted",
            )
        assert egress.heads == []
    async with EgressPeer() as plain:
        road = Road(egress=Egress("localhost", plain.port, trusting(authority)))
        async with opening(tls=SYSTEM, road=road) as sender:
            code, _ = await refused(sender, "https://api.example.com/", patience=Patience(0.5, 1, 1))
            assert code in {"upstream_tls", "upstream_unreachable", "upstream_timeout"}


async def test_the_name_is_the_proxys_to_resolve_and_its_own_may_lead_inside(proxied, named):
    names = named(localhost=["127.0.0.1"])
    async with (
        RawPeer(lambda request: ok(b"x")) as peer,
        EgressPeer(leads=("127.0.0.1", peer.port), tls=proxied.tls) as egress,
        proxied(egress, None, allow_private=False) as sender,
    ):
        assert await sender.fetch("GET", "http://api.example:81/") == (200, b"x")
        assert "api.example" not in names.asked
        assert egress.asked == [b"api.example:81"]


async def test_a_proxy_that_is_paraf_itself_is_a_loop(proxied):
    async with EgressPeer(tls=proxied.tls) as egress:
        async with proxied(egress, None, listening=[("127.0.0.1", egress.port), ("::1", egress.port)]) as sender:
            code, _ = await refused(sender, "https://api.example.com/")
        assert (code, egress.heads) == ("loop", [])


async def test_who_leaves_while_the_proxy_connects_leaves_nothing_behind(proxied, authority):
    async with EgressPeer(says=b"HTTP/1.1 ", tls=proxied.tls) as egress, proxied(egress, None) as sender:
        call = asyncio.create_task(sender.send("POST", "https://api.example.com/"))
        async with asyncio.timeout(10):
            await egress.was_asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert sender.attempt.sent == "no"


async def test_ipv6_providers_stand_in_brackets(proxied):
    async with RawPeer(lambda request: ok(b"six"), host="::1") as peer, EgressPeer(tls=proxied.tls) as egress:
        async with proxied(egress, None) as sender:
            assert await sender.fetch("GET", f"http://[::1]:{peer.port}/") == (200, b"six")
        assert egress.asked == [f"[::1]:{peer.port}".encode()]
