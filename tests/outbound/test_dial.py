"""Names, addresses and what is tried when one of them does not answer."""

import asyncio
import contextlib
import functools
import socket
import time

import pytest
from rawpeer import RawPeer, ok, side_by_side
from sending import SYSTEM, opened

from proxy.errors import ProxyError
from proxy.outbound import dial
from proxy.outbound.dial import Road
from proxy.outbound.reach import kind_of
from proxy.outbound.transport import Patience


@pytest.fixture
async def sender():
    async with opened("wire", tls=SYSTEM) as sender:
        yield sender


async def test_the_next_address_is_tried_when_one_refuses(named, sender):
    named(api_example=["127.0.0.2", "127.0.0.3", "127.0.0.1"])
    async with RawPeer(lambda request: ok(b"x")) as peer:
        assert await sender.fetch("GET", f"http://api.example:{peer.port}/") == (200, b"x")
        assert peer.requests[0].values("host") == [f"api.example:{peer.port}".encode()]


async def test_an_address_that_says_nothing_takes_its_share_of_the_time_only(named, sender):
    """TLS to one that accepts and is silent; the next one speaks at once, no TLS."""
    named(api_example=["127.0.0.2", "127.0.0.1"])
    async with RawPeer(lambda request: ok(), greeting=b"220 no TLS\r\n") as peer:
        with contextlib.closing(socket.create_server(("127.0.0.2", peer.port))):
            began = time.monotonic()
            with pytest.raises(ProxyError) as raised:
                await sender.send("GET", f"https://api.example:{peer.port}/", patience=Patience(1, 5, 5))
            assert (raised.value.code, raised.value.sent) == ("upstream_tls", "no")
            assert 0.45 < time.monotonic() - began < 0.95
        peer.flaws.clear()


async def test_when_none_answers_the_last_fault_is_told(named, sender):
    named(api_example=["127.0.0.2", "127.0.0.3"])
    async with RawPeer(lambda request: ok()) as peer:
        with pytest.raises(ProxyError) as raised:
            await sender.send("GET", f"http://api.example:{peer.port}/")
        assert (raised.value.code, raised.value.sent) == ("upstream_unreachable", "no")


async def test_a_burst_asks_for_a_name_once(named, sender):
    names = named(api_example=["127.0.0.1"])
    async with RawPeer(lambda request: [0.02, ok()]) as peer:
        await asyncio.gather(*(sender.fetch("GET", f"http://api.example:{peer.port}/") for _ in range(20)))
        assert (peer.connections, names.asked) == (20, ["api.example"])


async def test_one_who_leaves_takes_nothing_from_the_others_who_wait_for_a_name(named, sender):
    names = named(api_example=["127.0.0.1"])
    async with RawPeer(lambda request: ok()) as peer:
        calls = [asyncio.create_task(sender.fetch("GET", f"http://api.example:{peer.port}/")) for _ in range(2)]
        await asyncio.sleep(0)
        calls[0].cancel()
        assert await calls[1] == (200, b"")
        assert names.asked == ["api.example"]


async def test_a_name_is_asked_for_again_after_a_while(named, monkeypatch):
    monkeypatch.setattr(dial, "FRESH", 0.0)
    names = named(api_example=["127.0.0.1"])
    async with opened("wire", tls=SYSTEM, age=0.0) as sender, RawPeer(lambda request: ok()) as peer:
        for _ in range(2):
            await sender.fetch("GET", f"http://api.example:{peer.port}/")
            await asyncio.sleep(0.01)
        assert len(names.asked) == 2


async def test_a_provider_that_moved_is_found_at_the_next_try(named, sender):
    names = named(api_example=["127.0.0.2"])
    async with RawPeer(lambda request: ok()) as peer:
        with pytest.raises(ProxyError):
            await sender.send("GET", f"http://api.example:{peer.port}/")
        names.known["api.example"] = ["127.0.0.1"]
        assert (await sender.fetch("GET", f"http://api.example:{peer.port}/"))[0] == 200


async def test_a_failed_name_is_not_remembered(named, sender):
    names = named(api_example=socket.gaierror(-3, "Temporary failure in name resolution"))
    async with RawPeer(lambda request: ok()) as peer:
        with pytest.raises(ProxyError) as raised:
            await sender.send("GET", f"http://api.example:{peer.port}/")
        assert (raised.value.code, raised.value.detail) == (
            "upstream_unreachable",
            "the provider's name has no address",
        )
        names.known["api.example"] = ["127.0.0.1"]
        assert (await sender.fetch("GET", f"http://api.example:{peer.port}/"))[0] == 200


async def test_a_name_that_takes_too_long_is_a_timeout(named, sender):
    named(api_example=["127.0.0.1"])
    with pytest.raises(ProxyError) as raised:
        await sender.send("GET", "http://api.example:1/", patience=Patience(0.001, 1, 1))
    assert (raised.value.code, raised.value.sent) == ("upstream_timeout", "no")
    await asyncio.sleep(0.02)


@pytest.fixture(params=["session", "wire"])
def bounded(request):
    """A transport that goes to public addresses only."""
    return functools.partial(opened, request.param, tls=SYSTEM, road=Road(allow_private=False))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00:ec2::254"])
async def test_a_name_that_leads_inside_is_not_called(named, bounded, address):
    named(api_example=[address])
    async with RawPeer(lambda request: ok()) as peer, bounded() as sender:
        with pytest.raises(ProxyError) as raised:
            await sender.send("GET", f"http://api.example:{peer.port}/")
        assert (raised.value.code, raised.value.sent) == ("upstream_unreachable", "no")
        assert "allow_private: true" in raised.value.detail
        assert address not in raised.value.detail
        assert (peer.connections, sender.attempt.sent) == (0, "no")


@pytest.fixture
def public(monkeypatch):
    """127.0.0.2 stands for an address of the public Internet."""
    monkeypatch.setattr(dial, "kind_of", lambda host: None if host == "127.0.0.2" else kind_of(host))


@pytest.mark.usefixtures("public")
async def test_of_several_addresses_only_public_ones_are_called(named, bounded):
    named(api_example=["127.0.0.1", "127.0.0.2"])
    async with side_by_side(lambda _: ok(b"inside"), lambda _: ok(b"public"), "127.0.0.2") as (inside, peer):
        async with bounded() as sender:
            assert await sender.fetch("GET", f"http://api.example:{peer.port}/") == (200, b"public")
        assert inside.connections == 0


@pytest.mark.usefixtures("public")
async def test_a_name_is_resolved_once_for_the_look_and_the_connection(named, bounded):
    """A second answer of the DNS cannot lead elsewhere: there is no second question."""
    names = named(api_example=["127.0.0.2"])
    async with RawPeer(lambda request: ok(b"x"), host="127.0.0.2") as peer, bounded() as sender:
        assert await sender.fetch("GET", f"http://api.example:{peer.port}/") == (200, b"x")
        assert names.asked == ["api.example"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_what_is_written_out_is_meant(bounded, host):
    async with RawPeer(lambda request: ok(b"x")) as peer, bounded() as sender:
        assert await sender.fetch("GET", f"http://{host}:{peer.port}/") == (200, b"x")


@pytest.mark.parametrize("kind", ["session", "wire"])
@pytest.mark.parametrize("allow_private", [True, False])
async def test_our_own_listeners_are_not_called(named, kind, allow_private):
    named(api_example=["127.0.0.1"])
    async with RawPeer(lambda request: ok()) as peer:
        for listens in ("127.0.0.1", "0.0.0.0"):
            road = Road(allow_private, [(listens, peer.port)])
            async with opened(kind, tls=SYSTEM, road=road) as sender:
                for host in ("api.example", "127.0.0.1"):
                    with pytest.raises(ProxyError) as raised:
                        await sender.send("GET", f"http://{host}:{peer.port}/")
                    assert (raised.value.code, raised.value.sent) == ("loop", "no")
        assert peer.connections == 0


async def test_ipv6_and_a_name_with_both_families(named, sender):
    """The first family is dead here; the other one is tried within the head start, not after a time-out."""
    async with RawPeer(lambda request: ok(b"six"), host="::1") as peer:
        assert await sender.fetch("GET", f"http://[::1]:{peer.port}/") == (200, b"six")
        assert peer.requests[0].values("host") == [f"[::1]:{peer.port}".encode()]
        named(api_example=["127.0.0.1", "::1"])
        assert await sender.fetch("GET", f"http://api.example:{peer.port}/") == (200, b"six")


async def test_an_address_that_swallows_everything_holds_nobody_up(named, sender):
    """A full queue of connections: SYNs are dropped, as by a wall. The second address has its turn after 0.25 s."""
    with contextlib.ExitStack() as stack:
        async with RawPeer(lambda request: ok(b"x")) as peer:
            wall = stack.enter_context(socket.create_server(("127.0.0.2", peer.port), backlog=0))
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(wall.getsockname())
            named(api_example=["127.0.0.2", "127.0.0.1"])
            began = time.monotonic()
            found = await sender.fetch("GET", f"http://api.example:{peer.port}/", patience=Patience(30, 5, 5))
            assert found == (200, b"x")
            assert time.monotonic() - began < 15
