"""A kept connection is used again only when nothing happened on it."""

import asyncio
import contextlib
import select

import pytest
from rawpeer import CLOSE, RawPeer, chunked, ok
from sending import SYSTEM

from proxy.errors import ProxyError

FORGED = ok(b"forged")


async def test_a_clean_connection_is_used_again(sender):
    async with RawPeer(lambda request: ok(b"own")) as peer:
        for _ in range(3):
            assert await sender.fetch("POST", f"{peer.url}/") == (200, b"own")
        assert peer.connections == 1


@pytest.mark.parametrize(
    "unasked",
    [FORGED, FORGED * 3, b"H", FORGED[:25], b"\r\n", b"garbage\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"\x00"],
)
async def test_what_comes_while_a_connection_is_idle_reaches_no_caller(sender, unasked):
    async with RawPeer(lambda request: ok(b"own")) as peer:
        await sender.fetch("GET", f"{peer.url}/")
        await peer.say(unasked)
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"own")
        assert (peer.connections, peer.hangups) == (2, 1)


EXTRA = [FORGED, FORGED * 3, b"H", FORGED[:25], b"garbage", b"HTTP/1.1 100 Continue\r\n\r\n"]


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("own", [ok(b"own"), chunked(b"own"), b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_what_comes_in_one_piece_with_an_answer_reaches_no_other_caller(sender, own, extra):
    script = iter([[own + extra], [ok(b"second")]])
    async with RawPeer(lambda request: next(script)) as peer:
        with contextlib.suppress(ProxyError):
            await sender.fetch("GET", f"{peer.url}/")
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"second")
        assert peer.connections == 2


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("own", [ok(b"own"), chunked(b"own")])
async def test_what_comes_in_one_piece_with_the_end_of_a_body_reaches_no_other_caller(sender, own, extra):
    """Here aiohttp gives the connection back while it is still reading that piece."""
    script = iter([[own[:-1], 0.02, own[-1:] + extra], [ok(b"second")]])
    async with RawPeer(lambda request: next(script)) as peer:
        with contextlib.suppress(ProxyError):
            await sender.fetch("GET", f"{peer.url}/")
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"second")
        assert peer.connections == 2


async def test_what_the_kernel_holds_unread_reaches_no_caller(sender):
    """The loop is kept busy from the moment the bytes arrive to the moment the connection would be used."""
    async with RawPeer(lambda request: ok(b"own")) as peer:
        await sender.fetch("GET", f"{peer.url}/")
        poll = select.poll()
        poll.register(sender.idle_socket().fileno(), select.POLLIN)
        peer.writers[0].write(FORGED)
        assert poll.poll(1000)
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"own")
        assert peer.connections == 2


async def test_a_connection_that_the_provider_closed_is_not_used(sender):
    async with RawPeer(lambda request: [ok(b"own"), CLOSE]) as peer:
        for _ in range(3):
            assert await sender.fetch("POST", f"{peer.url}/") == (200, b"own")
            await asyncio.sleep(0.01)
        assert peer.connections == 3


async def test_an_answer_with_connection_close_ends_its_connection(sender):
    async with RawPeer(lambda request: ok(b"own", "Connection: close")) as peer:
        for _ in range(2):
            assert await sender.fetch("GET", f"{peer.url}/") == (200, b"own")
        assert peer.connections == 2


async def test_an_idle_connection_ends_after_its_time(opening):
    async with opening(tls=SYSTEM, keep=0.05) as sender, RawPeer(lambda request: ok()) as peer:
        await sender.fetch("GET", f"{peer.url}/")
        await peer.until(lambda peer: peer.hangups == 1)


async def test_a_flood_on_an_idle_connection_is_not_stored(sender):
    async with RawPeer(lambda request: ok(b"own")) as peer:
        await sender.fetch("GET", f"{peer.url}/")
        peer.writers[0].write(FORGED * 100_000)
        await peer.until(lambda peer: peer.hangups == 1)
