"""The provider's answer reaches the caller as it came, at the caller's pace, and a broken one never looks whole."""

import asyncio
import contextlib
import socket
import tracemalloc

import pytest
from rawpeer import RawPeer
from serving import BROKEN, House, Reply, get, post, sending, whole

from proxy.inbound.server import ServerLimits
from proxy.model import SignedRequest
from proxy.outbound.transport import Patience
from proxy.outbound.wire import WireTransport


async def test_status_reason_headers_and_body_are_relayed():
    reply = Reply(
        (b"\x1f\x8b", b"not really gzip"),
        status=402,
        reason="Pay  Zahlung nötig".encode(),
        headers=(
            ("X-B", "1"),
            ("set-cookie", "a"),
            ("Set-Cookie", "b"),
            ("X-Name", "Bücher"),
            ("X-Odd", b"\xff\xfe".decode("utf-8", "surrogateescape")),
            ("Content-Encoding", "gzip"),
            ("content-length", "17"),
            ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("Server", "provider"),
        ),
    )
    async with House(reply) as house, house.caller() as caller:
        caller.send(get())
        answer = await caller.answer()
        assert bytes(caller.seen) == (
            "HTTP/1.1 402 Pay  Zahlung nötig\r\nX-B: 1\r\nset-cookie: a\r\nSet-Cookie: b\r\nX-Name: Bücher\r\n"
        ).encode() + (
            b"X-Odd: \xff\xfe\r\nContent-Encoding: gzip\r\ncontent-length: 17\r\n"
            b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: provider\r\nX-Paraf-Request-Id: id-1\r\n\r\n"
            b"\x1f\x8bnot really gzip"
        )
        assert answer.status == 402
        (story,) = await house.told()
        assert (story.status, story.outcome, story.error) == (402, "forwarded", None)
        assert reply.ended


async def test_what_belongs_to_the_other_connection_or_to_us_is_left_out():
    names = (
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Status",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "X-Paraf-Error",
        "x-paraf-request-id",
        "X-Named",
    )
    headers = tuple((name, "X-Named, close" if name == "Connection" else "x") for name in names)
    async with House(Reply((b"a",), headers=(*headers, ("X-Kept", "y")))) as house:
        answer = await house.ask(get())
        assert answer.headers == (
            (b"X-Kept", b"y"),
            (b"Transfer-Encoding", b"chunked"),
            (b"X-Paraf-Request-Id", b"id-1"),
        )


async def test_nothing_is_added_but_our_own_headers():
    async def way(request, story):
        story.external_id = "ext-1"
        return whole(b"a")

    async with House(way) as house:
        answer = await house.ask(get())
        assert answer.headers == (
            (b"Content-Length", b"1"),
            (b"X-Paraf-Request-Id", b"id-1"),
            (b"X-Paraf-External-Id", b"ext-1"),
        )


@pytest.mark.parametrize(
    ("method", "reply", "headers"),
    [
        ("HEAD", Reply(headers=(("Content-Length", "5"),)), ["Content-Length: 5"]),
        ("HEAD", Reply(headers=(("Transfer-Encoding", "chunked"),)), []),
        ("GET", Reply(status=204), []),
        ("GET", Reply(status=204, headers=(("Content-Length", "0"),)), []),
        ("GET", Reply(status=304, headers=(("Content-Length", "5"),)), ["Content-Length: 5"]),
    ],
)
async def test_answers_without_a_body_end_at_their_head_and_keep_the_connection(method, reply, headers):
    async with House(reply) as house, house.caller() as caller:
        for _ in range(2):
            caller.send(get(method=method))
            answer = await caller.answer(to_head=method == "HEAD")
            lines = [f"{name.decode()}: {value.decode()}" for name, value in answer.headers]
            assert [line for line in lines if not line.startswith("X-Paraf-")] == headers
        assert reply.ended


async def test_a_body_without_length_goes_chunked_and_keeps_the_connection():
    async with House(Reply((b"hel", b"", b"lo"))) as house, house.caller() as caller:
        for _ in range(2):
            caller.send(get())
            answer = await caller.answer()
            assert (answer.value("Transfer-Encoding"), answer.body, answer.whole) == ("chunked", b"hello", True)


async def test_a_body_without_length_ends_with_the_connection_for_http_1_0():
    async with House(Reply((b"hel", b"lo"))) as house, house.caller() as caller:
        caller.send(get(version="HTTP/1.0"))
        answer = await caller.answer()
        assert (answer.values("Transfer-Encoding"), answer.value("Connection"), answer.body) == ([], "close", b"hello")


async def test_the_head_does_not_wait_for_the_body():
    release = asyncio.Event()
    async with House(Reply((release, b"a"))) as house, house.caller() as caller:
        caller.send(get())
        assert await caller.reader.readline() == b"HTTP/1.1 200 OK\r\n"
        release.set()


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("headers", [(("Content-Length", "10"),), ()])
async def test_a_body_that_breaks_off_never_ends_cleanly(version, headers):
    reply = Reply((b"hello", BROKEN), headers=headers)

    async def way(request, story):
        sending(story)
        story.outcome = "forwarded"
        return reply

    async with House(way) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(get(version=version))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        (story,) = await house.told()
        assert (story.status, story.outcome, story.error) == (200, "error", "upstream_protocol")
        assert (reply.closed, house.complaints) == (True, [])
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("parts", [(b"hell",), (b"hello", b"!"), ()])
async def test_a_body_of_another_length_than_announced_is_broken_off(parts):
    async with House(Reply(parts, headers=(("Content-Length", "5"),))) as house, house.caller() as caller:
        caller.send(get())
        answer = await caller.answer()
        assert not answer.whole or answer.body == b"hello"
        assert await caller.closed() == b""
        (story,) = await house.told()
        assert (story.outcome, story.error) == ("error", "upstream_protocol")


async def test_a_fault_of_ours_in_the_middle_of_a_body_breaks_it_off():
    async with House(Reply((b"hello", ValueError("s3cr3t")))) as house, house.caller() as caller:
        caller.send(get())
        assert not (await caller.answer()).whole
        assert (await house.told())[0].error == "internal"
        assert [line.split()[0] for line in house.complaints] == ["ValueError"]


async def test_fifty_mebibytes_pass_a_slow_reader_without_being_stored():
    """From a raw peer through the real transport: the reader's pace is the provider's."""
    size, piece, written = 50 * 2**20, bytes(2**20), []

    def flood(request):
        yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        for _ in range(50):
            written.append(1)
            yield piece

    transport = WireTransport()
    async with RawPeer(flood) as peer:

        async def way(request, story):
            sending(story)
            signed = SignedRequest("GET", f"{peer.url}/", (), b"")
            return await transport.send(signed, Patience(1, 1, 0.5), story.attempts[0])

        async with House(way) as house:
            loop, received = asyncio.get_running_loop(), 0
            with socket.create_connection(("127.0.0.1", house.port)) as sock:
                sock.setblocking(False)
                tracemalloc.start()
                await loop.sock_sendall(sock, get())
                await asyncio.sleep(0.7)
                held_back = len(written)
                while received < size:
                    received += len(await loop.sock_recv(sock, 2**20))
                most = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert held_back < 25, "what is read from the provider waits for the caller"
            assert most < 8 * 2**20
            assert (await house.told())[0].status == 200
    await transport.close()


async def test_a_caller_who_reads_nothing_has_left_after_the_idle_time():
    reply = Reply((bytes(1024),) * 100_000)
    async with House(reply, limits=ServerLimits(idle_seconds=0.2)) as house:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", house.port))
        await loop.sock_sendall(sock, post(b""))
        (story,) = await house.told(seconds=3)
        assert (story.outcome, story.status, reply.closed) == ("abandoned", 200, True)
        sock.close()
