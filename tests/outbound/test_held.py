"""An answer that is held or followed: every byte passes, and its end is told once."""

import asyncio

import pytest
from rawpeer import CLOSE, RawPeer, chunked, ok
from sending import PATIENCE

from proxy.errors import ProxyError
from proxy.outbound.held import FollowedResponse, HeldResponse

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"


async def followed(sender, peer, method="GET"):
    """An answer at its head, and the list of what it tells."""
    told = []
    return FollowedResponse(await sender.send(method, f"{peer.url}/", patience=PATIENCE), told.append), told


async def read(response):
    return b"".join([chunk async for chunk in response.chunks()])


@pytest.mark.parametrize(
    ("method", "data", "body"),
    [
        ("GET", ok(b"hello", "X-A: 1"), b"hello"),
        ("GET", chunked(b"he", b"llo"), b"hello"),
        ("GET", ok(), b""),
        ("HEAD", ok(), b""),
        ("GET", ok(bytes(500_000)), bytes(500_000)),
    ],
)
async def test_read_to_its_end_it_is_whole(sender, method, data, body):
    async with RawPeer(lambda request: data) as peer:
        response, told = await followed(sender, peer, method)
        assert (response.status, response.reason, told) == (200, b"OK", [])
        assert await read(response) == body
        assert told == ["whole"]
        await response.close()
        assert told == ["whole"]


async def test_broken_off_by_the_provider(sender):
    async with RawPeer(lambda request: [CUT, 0.01, CLOSE]) as peer:
        response, told = await followed(sender, peer)
        with pytest.raises(ProxyError):
            await read(response)
        assert told == ["broken off"]
        await response.close()
        assert told == ["broken off"]


@pytest.mark.parametrize("chunks_read", [0, 1])
async def test_given_up_by_us(sender, chunks_read):
    async with RawPeer(lambda request: [CUT, asyncio.Event()]) as peer:
        response, told = await followed(sender, peer)
        chunks = response.chunks()
        for _ in range(chunks_read):
            assert await anext(chunks) == b"hello"
        assert told == []
        await response.close()
        await response.close()
        assert told == ["given up"]
        await peer.until(lambda peer: peer.hangups == 1)


async def test_a_reader_who_is_cancelled_and_closes_tells_it_once(sender):
    async with RawPeer(lambda request: [CUT, asyncio.Event()]) as peer:
        response, told = await followed(sender, peer)
        reading = asyncio.create_task(read(response))
        await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert told == []
        await response.close()
        assert told == ["given up"]


@pytest.mark.parametrize(("limit", "held"), [(15, b"hello-and-world"), (14, None), (0, None)])
async def test_what_was_held_is_given_back(sender, limit, held):
    async with RawPeer(lambda request: [CUT.replace(b"10", b"15"), 0.01, b"-and-", 0.01, b"world"]) as peer:
        response = HeldResponse(await sender.send("GET", f"{peer.url}/"), limit)
        assert await response.hold() == held
        assert await read(response) == b"hello-and-world"


async def test_a_call_cancelled_while_an_answer_is_held_closes_its_connection(sender):
    """Else it would be found by the garbage collector, with a complaint."""
    async with RawPeer(lambda request: [CUT, asyncio.Event()]) as peer:
        response = HeldResponse(await sender.send("GET", f"{peer.url}/"), 100)
        holding = asyncio.create_task(response.hold())
        await asyncio.sleep(0.01)
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await peer.until(lambda peer: peer.hangups == 1, seconds=1)
