"""What only the wire transport promises: see the rest of this folder for what both do."""

import asyncio
import gc
import os
import socket
import ssl
import struct
import sys
from contextlib import asynccontextmanager, suppress

import pytest
import trustme
from rawpeer import CLOSE, RESET, RawPeer, chunked, ok
from sending import SYSTEM, opened

from proxy.errors import ProxyError
from proxy.headers import texts
from proxy.outbound import dial
from proxy.outbound.dial import verified_tls
from proxy.outbound.transport import Patience

NEVER = asyncio.Event
MIB = 2**20


@pytest.fixture
async def sender():
    async with opened("wire", tls=SYSTEM) as sender:
        yield sender


async def fault_of(call):
    with pytest.raises(ProxyError) as raised:
        await call
    return raised.value.code, raised.value.sent


def idle_lines(sender):
    return [line for origin in sender.transport._origins.values() for line in origin.idle]


def all_lines(sender):
    return [line for origin in sender.transport._origins.values() for line in origin.lines]


# Framing and limits.


@pytest.mark.parametrize(
    "head", [b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Content-Length: 5\r\nX: y"]
)
async def test_a_head_request_keeps_its_connection(sender, head):
    async with RawPeer(lambda request: b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n") as peer:
        for _ in range(3):
            assert await sender.fetch("HEAD", f"{peer.url}/") == (200, b"")
        assert peer.connections == 1


@pytest.mark.parametrize("extra", [b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5", b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n"])
@pytest.mark.parametrize("head", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: no framing"])
async def test_what_comes_behind_the_answer_to_head_reaches_nobody(sender, head, extra):
    script = iter([b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + extra, ok(b"own")])
    async with RawPeer(lambda request: next(script)) as peer:
        assert (await sender.fetch("HEAD", f"{peer.url}/"))[1] == b""
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"own")
        assert peer.connections == 2


@pytest.mark.parametrize(
    "flood",
    [
        [b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"a" * 4000 + b"\r\n"] * 40],
        [b"HTTP/1.1 200 OK\r\nX: ", *[b"a" * 8000] * 40],
        [b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * 4000 + b"\r\n\r\n"] * 40,
        [chunked(b"x", end=b"0\r\n"), *[b"X: " + b"a" * 4000 + b"\r\n"] * 40],
        [chunked(b"x", end=b"1;"), *[b"a" * 4000] * 40],
    ],
    ids=["headers", "one header", "hints", "trailers", "chunk extension"],
)
async def test_what_is_no_body_has_a_bound(sender, flood):
    async with RawPeer(lambda request: [*flood, NEVER()]) as peer:
        assert await fault_of(sender.fetch("GET", f"{peer.url}/")) == ("upstream_protocol", "maybe")
        await peer.until(lambda peer: peer.hangups == 1)


async def test_blanks_behind_a_value_are_not_part_of_it(sender):
    async with RawPeer(lambda request: ok(b"", "X-One:  a b \t ", "X-Two:")) as peer:
        reply = await sender.send("GET", f"{peer.url}/")
        assert texts(reply.fields)[:2] == (("X-One", "a b"), ("X-Two", ""))


async def test_a_whole_answer_is_there_at_once_and_can_still_be_read(sender):
    async with RawPeer(lambda request: ok(b"hello")) as peer:
        reply = await sender.send("GET", f"{peer.url}/")
        assert [reply.whole(), reply.whole()] == [b"hello"] * 2
        assert [chunk async for chunk in reply.chunks()] == [b"hello"]


async def test_an_answer_still_coming_is_not_whole(sender):
    rest = asyncio.Event()
    async with RawPeer(lambda request: [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", rest, b"lo"]) as peer:
        reply = await sender.send("GET", f"{peer.url}/")
        assert reply.whole() is None
        rest.set()
        assert b"".join([chunk async for chunk in reply.chunks()]) == b"hello"


@pytest.mark.parametrize(
    "script",
    [
        [asyncio.Event()],
        [CLOSE],
        [RESET],
        [b"rubbish\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", CLOSE],
    ],
    ids=["silent", "closed", "reset", "rubbish", "cut off"],
)
@pytest.mark.parametrize("leaves", [False, True])
async def test_what_was_sent_in_vain_is_not_kept(sender, script, leaves):
    """Not in a circle either: the collector comes seldom, and a body may have megabytes."""
    body = os.urandom(1000)
    before = sys.getrefcount(body)
    gc.disable()
    try:
        async with RawPeer(lambda request: script) as peer:
            call = asyncio.create_task(sender.fetch("POST", f"{peer.url}/", body=body, patience=Patience(2, 0.2, 0.2)))
            await peer.until(lambda peer: peer.requests)
            if leaves:
                call.cancel()
            await asyncio.wait({call})
            assert call.cancelled() or isinstance(call.exception(), ProxyError)
            del call
            await peer.until(lambda peer: sys.getrefcount(body) == before)
    finally:
        gc.enable()


# Long bodies.


async def test_a_slow_provider_gets_an_upload_at_its_pace(sender):
    body = os.urandom(50 * MIB)
    async with RawPeer(lambda request: [NEVER()], reads_bodies=False) as peer:
        call = asyncio.create_task(sender.send("POST", f"{peer.url}/", body=body))
        await peer.until(lambda peer: peer.requests)
        (line,) = all_lines(sender)
        arrived = 0
        while arrived < len(body):
            assert line.transport.get_write_buffer_size() <= 256 * 1024
            arrived += len(await peer.readers[0].read(MIB))
        call.cancel()


async def test_a_long_upload_arrives_whole_and_keeps_its_connection(sender):
    body = os.urandom(50 * MIB)
    async with RawPeer(lambda request: ok(b"done")) as peer:
        for _ in range(2):
            assert await sender.fetch("POST", f"{peer.url}/", body=body, patience=Patience(2, 20, 2)) == (200, b"done")
        assert peer.requests[1].body == body
        assert peer.connections == 1


async def test_a_slow_reader_makes_the_provider_wait(sender):
    async with RawPeer(lambda request: ok(bytes(50 * MIB))) as peer:
        reply = await sender.send("GET", f"{peer.url}/", patience=Patience(2, 2, 0.2))
        await asyncio.sleep(0.3)
        assert reply.size <= 128 * 1024
        pieces = [len(piece) async for piece in reply.chunks()]
        assert (sum(pieces), max(pieces) <= 128 * 1024) == (50 * MIB, True)
        assert len(idle_lines(sender)) == 1


# The pool.


async def test_an_old_connection_is_not_used_again():
    async with opened("wire", tls=SYSTEM, age=1.0) as sender, RawPeer(lambda request: ok()) as peer:
        await sender.fetch("GET", f"{peer.url}/")
        await sender.fetch("GET", f"{peer.url}/")
        assert peer.connections == 1
        await asyncio.sleep(1.1)
        await sender.fetch("GET", f"{peer.url}/")
        assert (peer.connections, len(all_lines(sender))) == (2, 1)


async def test_the_connection_used_last_comes_first_so_that_the_others_end():
    async with opened("wire", tls=SYSTEM, keep=2.0) as sender, RawPeer(lambda request: [0.1, ok()]) as peer:
        await asyncio.gather(*(sender.fetch("GET", f"{peer.url}/") for _ in range(5)))
        assert len(idle_lines(sender)) == 5
        for _ in range(6):
            await asyncio.sleep(0.5)
            await sender.fetch("GET", f"{peer.url}/")
        assert (len(idle_lines(sender)), peer.connections) == (1, 5)


async def test_a_place_that_is_left_goes_to_the_first_who_waits():
    release = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    async with (
        RawPeer(lambda request: [release[int(request.target[1:])], ok()]) as peer,
        opened("wire", tls=SYSTEM, connections=1) as sender,
    ):
        calls = [asyncio.create_task(sender.fetch("GET", f"{peer.url}/{number}")) for number in range(3)]
        await peer.until(lambda peer: peer.requests)
        await asyncio.sleep(0)
        calls[1].cancel()
        release[0].set()
        release[2].set()
        assert [await calls[0], await calls[2]] == [(200, b"")] * 2
        assert [request.target for request in peer.requests] == [b"/0", b"/2"]
        assert await sender.fetch("GET", f"{peer.url}/2") == (200, b"")


async def test_a_failed_connect_and_a_cancelled_one_leave_their_place():
    async with RawPeer(lambda request: ok()) as peer:
        gone = peer.url
    async with RawPeer(lambda request: ok()) as peer, opened("wire", tls=SYSTEM, connections=1) as sender:
        assert await fault_of(sender.send("GET", gone + "/")) == ("upstream_unreachable", "no")
        hanging = asyncio.create_task(sender.send("GET", f"https://127.0.0.1:{peer.port}/"))
        await peer.until(lambda peer: peer.connections == 1)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        assert (await sender.fetch("GET", f"{peer.url}/"))[0] == 200
        peer.flaws.clear()


async def test_closing_breaks_off_what_is_read_and_ends_what_is_idle(sender):
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    scripts = {b"/idle": [0.01, ok()], b"/half": [half, NEVER()], b"/head": [NEVER()]}
    async with RawPeer(lambda request: scripts[request.target]) as peer:
        reply = await sender.send("GET", f"{peer.url}/half")
        waiting = asyncio.create_task(sender.send("GET", f"{peer.url}/head"))
        await sender.fetch("GET", f"{peer.url}/idle")
        await peer.until(lambda peer: len(peer.requests) == 3)
        await sender.transport.close()
        assert await fault_of(waiting) == ("upstream_protocol", "maybe")
        with pytest.raises(ProxyError):
            _ = [chunk async for chunk in reply.chunks()]
        await peer.until(lambda peer: peer.hangups == 3)
        assert all_lines(sender) == []


# TLS.


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def serving(authority, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    authority.issue_cert("localhost").configure_cert(context)
    return context


def trusting(authority):
    context = verified_tls()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("script", [ok(b"x"), ok(b"x", "Connection: close")], ids=["kept", "closed"])
async def test_a_second_connection_resumes_the_session_of_the_first(authority, version, script):
    async with (
        RawPeer(lambda request: [0.01, script], tls=serving(authority, version)) as peer,
        opened("wire", tls=trusting(authority), age=0.0) as sender,
    ):
        assert [await resumes(sender, peer) for _ in range(3)] == [False, True, True]
        assert peer.connections == 3


async def resumes(sender, peer):
    """Does the connection of one more call go on with a session of an earlier one?"""
    before = len(peer.requests)
    call = asyncio.create_task(sender.fetch("GET", f"{peer.url}/"))
    await peer.until(lambda peer: len(peer.requests) > before)
    (line,) = (line for line in all_lines(sender) if line.is_open)
    reused = line.transport.get_extra_info("ssl_object").session_reused
    await call
    return reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_certificate_is_looked_at_again_each_hour(authority, version, monkeypatch):
    """However often the session was renewed without."""
    moments = [0.0, 2000.0, 3599.0, 3601.0, 3602.0, 7200.0, 7202.0]
    async with (
        RawPeer(lambda request: [0.01, ok(b"x")], tls=serving(authority, version)) as peer,
        opened("wire", tls=trusting(authority), age=0.0) as sender,
    ):
        reused = []
        for moment in moments:
            monkeypatch.setattr(dial, "monotonic", lambda moment=moment: moment)
            reused.append(await resumes(sender, peer))
        assert reused == [False, True, True, False, True, True, False]


async def test_a_session_goes_back_to_the_certificate_of_its_own_chain(authority, monkeypatch):
    """Not to that which another connection looked at between its dial and its answer."""
    server, context = serving(authority, ssl.TLSVersion.TLSv1_3), trusting(authority)

    def connected():
        both = ssl.MemoryBIO(), ssl.MemoryBIO()
        mine, theirs = (
            context.wrap_bio(*both, server_hostname="localhost"),
            server.wrap_bio(*both[::-1], server_side=True),
        )
        for side in (mine, theirs, mine, theirs):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        theirs.write(b"x")
        assert mine.read(1) == b"x"
        return mine

    monkeypatch.setattr(dial, "monotonic", lambda: 0.0)
    context.remember(connected())
    monkeypatch.setattr(dial, "monotonic", lambda: 3599.0)
    resumed = connected()
    monkeypatch.setattr(dial, "monotonic", lambda: 3601.0)
    whole = connected()
    assert (resumed.session_reused, whole.session_reused) == (True, False)
    context.remember(whole)
    context.remember(resumed)
    assert not connected().session_reused


def offers_a_session(hello):
    """Is there a pre_shared_key among the extensions of a ClientHello (RFC 8446 section 4.1.2)?"""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2])
    at += 1 + hello[at] + 2
    while at < len(hello):
        kind, size = struct.unpack_from("!HH", hello, at)
        if kind == 41:
            return True
        at += 4 + size
    return False


@asynccontextmanager
async def front_that_refuses_sessions(port):
    """With an alert, as some do that have lost the keys of their tickets. Every other connection goes to `port`."""
    offered, tasks = [], asyncio.TaskGroup()

    async def pipe(reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def front(reader, writer):
        head = await reader.readexactly(5)
        hello = head + await reader.readexactly(int.from_bytes(head[3:]))
        offered.append(offers_a_session(hello))
        if offered[-1]:
            writer.write(bytes.fromhex("15 0303 0002 0228"))  # fatal, handshake_failure
            writer.close()
            return
        behind, before = await asyncio.open_connection("127.0.0.1", port)
        before.write(hello)
        tasks.create_task(pipe(behind, writer))
        tasks.create_task(pipe(reader, before))

    async with tasks, await asyncio.start_server(front, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], offered


async def test_where_sessions_are_refused_the_next_handshake_is_whole_and_in_time(authority):
    async with (
        RawPeer(lambda request: ok(b"x"), tls=serving(authority, ssl.TLSVersion.TLSv1_3)) as peer,
        front_that_refuses_sessions(peer.port) as (port, offered),
        opened("wire", tls=trusting(authority), age=0.0) as sender,
    ):
        for _ in range(3):
            assert await sender.fetch("GET", f"https://localhost:{port}/") == (200, b"x")
        assert offered == [False, True, False, True, False]
        assert len(peer.requests) == 3


async def test_a_session_of_one_authority_opens_nothing_for_another(authority):
    async with RawPeer(lambda request: ok(), tls=serving(authority, ssl.TLSVersion.TLSv1_3)) as peer:
        async with opened("wire", tls=trusting(authority)) as sender:
            await sender.fetch("GET", f"{peer.url}/")
        async with opened("wire", tls=trusting(trustme.CA())) as sender:
            assert await fault_of(sender.fetch("GET", f"{peer.url}/")) == ("upstream_tls", "no")


async def test_a_body_that_lasts_until_the_end_is_not_cut_off_by_whoever_sits_between(authority):
    """TLS says when it is over; a bare end of TCP could be anybody's."""
    context = serving(authority, ssl.TLSVersion.TLSv1_3)
    async with (
        RawPeer(lambda request: [b"HTTP/1.1 200 OK\r\n\r\nhello", NEVER()], tls=context) as peer,
        opened("wire", tls=trusting(authority)) as sender,
    ):
        reply = await sender.send("GET", f"{peer.url}/")
        with socket.socket(fileno=os.dup(peer.writers[0].get_extra_info("socket").fileno())) as below:
            below.shutdown(socket.SHUT_WR)
        with pytest.raises(ProxyError) as raised:
            _ = [chunk async for chunk in reply.chunks()]
        assert raised.value.code == "upstream_protocol"


async def test_a_body_that_lasts_until_the_end_of_tls_is_whole(authority):
    context = serving(authority, ssl.TLSVersion.TLSv1_3)
    async with (
        RawPeer(lambda request: [b"HTTP/1.1 200 OK\r\n\r\nhello", CLOSE], tls=context) as peer,
        opened("wire", tls=trusting(authority)) as sender,
    ):
        assert await sender.fetch("GET", f"{peer.url}/") == (200, b"hello")
