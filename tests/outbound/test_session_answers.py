"""What comes back: untouched when it is whole, an error when it is not, and never more of it than fits."""

import asyncio
import gzip

import pytest
from rawpeer import CLOSE, RESET, RawPeer, answer, chunked, ok
from sending import PATIENCE

from proxy.errors import ProxyError
from proxy.headers import texts
from proxy.outbound.transport import Patience


def said(data, *more):
    return lambda request: [data, *more]


async def refusal(sender, peer, method="GET", patience=PATIENCE):
    """The error that a call ends with, at the head or in the body."""
    with pytest.raises(ProxyError) as raised:
        await sender.fetch(method, f"{peer.url}/", patience=patience)
    return raised.value.code, raised.value.sent


async def test_status_reason_and_headers_are_the_providers(sender):
    head = b"HTTP/1.1 418 I'm  a teapot\r\nX-B: 1\r\nset-cookie: a\r\nSet-Cookie: b\r\nX-Name: B\xc3\xbccher\r\n"
    async with RawPeer(said(head + b"X-Odd: \xff\xfe\r\nContent-Length: 0\r\n\r\n")) as peer:
        reply = await sender.send("GET", f"{peer.url}/")
        assert (reply.status, reply.reason) == (418, b"I'm  a teapot")
        assert texts(reply.fields) == (
            ("X-B", "1"),
            ("set-cookie", "a"),
            ("Set-Cookie", "b"),
            ("X-Name", "Bücher"),
            ("X-Odd", b"\xff\xfe".decode("utf-8", "surrogateescape")),
            ("Content-Length", "0"),
        )
        await reply.close()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_a_coded_body_is_not_decoded(sender, coding):
    body = gzip.compress(b"{}")
    async with RawPeer(said(ok(body, f"Content-Encoding: {coding}"))) as peer:
        assert await sender.fetch("GET", f"{peer.url}/") == (200, body)


@pytest.mark.parametrize(
    "data",
    [
        ok(b"hello"),
        chunked(b"he", b"llo"),
        chunked(b"hello", end=b"0\r\nX-Trailer: dropped\r\n\r\n"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"hello"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + ok(b"hello"),
    ],
)
async def test_every_framing_gives_the_body_and_keeps_the_connection(sender, data):
    async with RawPeer(said(data)) as peer:
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"hello")
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"hello")
        assert peer.connections == 1


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_a_body_may_last_until_the_connection_closes(sender, version):
    async with RawPeer(said(version + b" 200 OK\r\n\r\n", b"hel", 0.01, b"lo", CLOSE)) as peer:
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"hello")


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_at_their_head(sender, method, data):
    async with RawPeer(said(data)) as peer:
        for _ in range(2):
            assert (await sender.fetch(method, f"{peer.url}/"))[1] == b""
        assert len(peer.requests) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a \x0c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\x07K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX y: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 9000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 " + b"a" * 9000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"Content-Length: 0\r\n\r\n",
    ],
)
async def test_a_head_that_is_not_in_order_is_a_fault_and_its_connection_is_closed(sender, data):
    async with RawPeer(said(data)) as peer:
        assert await refusal(sender, peer) == ("upstream_protocol", "maybe")
        await peer.until(lambda peer: peer.hangups == 1)


@pytest.mark.parametrize("ending", [CLOSE, RESET])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        chunked(b"hello", end=b""),
        chunked(b"hello", end=b"0\r\n"),
        chunked(b"hello", end=b"5\r\nhe"),
    ],
)
async def test_an_answer_cut_off_is_a_fault_and_never_a_clean_end(sender, data, ending):
    async with RawPeer(said(data, 0.01, ending)) as peer:
        assert await refusal(sender, peer) == ("upstream_protocol", "maybe")


async def test_a_reset_is_not_the_end_of_a_body_that_lasts_until_the_connection_closes(sender):
    async with RawPeer(said(b"HTTP/1.1 200 OK\r\n\r\nhello", 0.01, RESET)) as peer:
        assert await refusal(sender, peer) == ("upstream_protocol", "maybe")


@pytest.mark.parametrize(
    "rest", [b"xyz\r\n", b"-1\r\n", b"5\nhello\n", b"5\r\nhelloo\r\n0\r\n\r\n", b"fffffffffffffffff\r\n"]
)
async def test_a_broken_chunk_is_a_fault(sender, rest):
    async with RawPeer(said(chunked(b"hello", end=b""), 0.01, rest)) as peer:
        assert await refusal(sender, peer) == ("upstream_protocol", "maybe")


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [b"HTTP/1.1 200 OK\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n", *[b"X: a\r\n", 0.03] * 50],
        [b"HTTP/1.1 102 Processing\r\n\r\n", 0.03] * 50,
    ],
)
async def test_a_head_that_does_not_come_is_a_timeout_however_it_trickles(sender, steps):
    async with RawPeer(lambda request: [*steps, asyncio.Event()]) as peer:
        assert await refusal(sender, peer, patience=Patience(1, 0.15, 1)) == ("upstream_timeout", "maybe")
        await peer.until(lambda peer: peer.hangups == 1)


async def test_the_time_for_connecting_is_not_taken_from_the_answers(sender):
    async with RawPeer(lambda request: [0.7, ok()]) as peer:
        assert await sender.fetch("GET", f"{peer.url}/", patience=Patience(0.5, 5, 0.5)) == (200, b"")


async def test_a_pause_in_the_body_is_a_timeout(sender):
    async with RawPeer(said(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", asyncio.Event())) as peer:
        assert await refusal(sender, peer, patience=Patience(1, 1, 0.1)) == ("upstream_timeout", "maybe")
        await peer.until(lambda peer: peer.hangups == 1)


async def test_a_body_may_last_longer_than_any_single_wait(sender):
    async with RawPeer(said(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", *[b"x", 0.2] * 6)) as peer:
        assert await sender.fetch("GET", f"{peer.url}/", patience=Patience(1, 1, 0.8)) == (200, b"xxxxxx")


async def test_a_slow_reader_slows_the_provider_and_is_not_taken_for_a_slow_provider(sender):
    size = 32 * 1024 * 1024
    async with RawPeer(said(ok(bytes(size)))) as peer:
        reply = await sender.send("GET", f"{peer.url}/", patience=Patience(1, 1, 0.5))
        chunks = reply.chunks()
        first = await anext(chunks)
        await asyncio.sleep(0.7)
        waiting = peer.writers[0].transport.get_write_buffer_size()
        assert waiting > size // 2, "the provider's side is still full: reading was held back"
        largest, total = len(first), len(first)
        async for chunk in chunks:
            largest, total = max(largest, len(chunk)), total + len(chunk)
        assert total == size
        assert largest <= 512 * 1024


async def test_an_answer_given_up_closes_its_connection(sender):
    async with RawPeer(said(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", asyncio.Event())) as peer:
        reply = await sender.send("GET", f"{peer.url}/")
        await reply.close()
        await peer.until(lambda peer: peer.hangups == 1)


async def test_closing_an_answer_that_was_read_keeps_the_connection(sender):
    async with RawPeer(said(ok(b"hello"))) as peer:
        for _ in range(2):
            reply = await sender.send("GET", f"{peer.url}/")
            assert [chunk async for chunk in reply.chunks()] == [b"hello"]
            await reply.close()
        assert peer.connections == 1


async def test_an_answer_before_the_end_of_the_upload_is_passed_on_and_ends_its_connection(opening, wires):
    """Kept, the second request would wait behind the rest of the first."""
    async with (
        opening(tls=wires.client) as sender,
        RawPeer(lambda request: answer("413 Too Large", b"no"), reads_bodies=False, tls=wires.server) as peer,
    ):
        assert await sender.fetch("POST", f"{peer.url}/", body=bytes(16 * 1024 * 1024)) == (413, b"no")
        assert await sender.fetch("GET", f"{peer.url}/") == (413, b"no")
        assert peer.connections == 2
        peer.flaws.clear()
