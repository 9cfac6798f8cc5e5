"""Names, addresses and what is tried when one of them does not answer."""

import asyncio
import contextlib
import socket
import time

import pytest
from rawpeer import RawPeer, ok
from sending import SYSTEM, opened

from proxy.errors import ProxyError
from proxy.outbound import dial
from proxy.outbound.transport import Patience


class Names:
    """A resolver by hand: names to addresses; an exception is raised. Counts what was asked."""

    def __init__(self, **known):
        self.known = {name.replace("_", "."): found for name, found in known.items()}
        self.asked = []

    async def __call__(self, host, port, **_):
        self.asked.append(host)
        await asyncio.sleep(0.01)
        found = self.known[host]
        if isinstance(found, Exception):
            raise found
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@pytest.fixture
async def named(monkeypatch):
    def install(**known):
        names = Names(**known)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
        return names

    return install


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
                await sender.send("GET", f"https://api.example:{peer.port}/", patience=Patience(0.4, 5, 5))
            assert (raised.value.code, raised.value.sent) == ("upstream_tls", "no")
            assert 0.15 < time.monotonic() - began < 0.35
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
