"""What a caller may send, what the way sees of it, and what is answered by Paraf itself."""

import asyncio
import gc
import json
import logging
import os
import socket

import pytest
from aiohttp.streams import EMPTY_PAYLOAD
from rawpeer import RawCaller
from serving import House, get, open_callers, post, sending, whole

from proxy.errors import ProxyError
from proxy.inbound.call import Call
from proxy.inbound.server import ServerLimits

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def assert_problem(answer, status, code, sent="no"):
    assert (answer.status, answer.value("X-Paraf-Error")) == (status, code)
    if answer.body:
        members = json.loads(answer.body)
        assert (members["code"], members["status"], members["sent"]) == (code, status, sent)
        assert members["request_id"] == answer.value("X-Paraf-Request-Id")


async def test_the_way_sees_the_request_as_it_was_sent():
    async with House() as house:
        payload = (
            "POST /a//%2e%2E/b;c?q=%2f&empty=&+ HTTP/1.1\r\nhOST: a\r\nX-B: 1\r\nx-a: Bücher\r\nX-B:2  \r\n"
            "Content-Length: 3\r\nContent-Encoding: gzip\r\n\r\nabc"
        ).encode()
        answer = await house.ask(payload)
        (request,) = house.requests
        assert (request.method, request.target, request.loopback) == ("POST", "/a//%2e%2E/b;c?q=%2f&empty=&+", True)
        assert request.headers == (
            ("hOST", "a"),
            ("X-B", "1"),
            ("x-a", "Bücher"),
            ("X-B", "2"),
            ("Content-Length", "3"),
            ("Content-Encoding", "gzip"),
        )
        assert request.names == tuple(name for name, _ in request.headers)
        assert house.bodies == [b"abc"], "a false Content-Encoding is not looked at"
        assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize(
    "target", ["/?", "//x", "/%41%zz", "/..;/x", "/a/../b", "http://a:80/x?y", "/a#b", "/\\x", '/{}|^`"<>']
)
async def test_targets_are_not_touched(target):
    async with House() as house:
        await house.ask(get(target))
        assert house.requests[0].target == target


@pytest.mark.parametrize("method", METHODS)
async def test_methods_that_pass(method):
    async with House() as house:
        answer = await house.ask(post(b"x", method=method), to_head=method == "HEAD")
        assert (answer.status, house.requests[0].method) == (200, method)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "LINK", "PURGE", "QUERY", "REPORT"])
async def test_methods_that_do_not(method):
    async with House() as house:
        answer = await house.ask(get("a:443" if method == "CONNECT" else "/", method=method))
        assert_problem(answer, 405, "method_not_allowed")
        assert answer.value("Allow") == ", ".join(METHODS)
        assert house.requests == []
        (story,) = await house.told()
        assert (story.method, story.status, story.outcome, story.error) == (method, 405, "error", "method_not_allowed")


async def test_a_refused_connect_is_no_tunnel():
    async with House() as house, house.caller() as caller:
        caller.send(get("a:443", method="CONNECT") + get("/smuggled"))
        assert (await caller.answer()).value("Connection") == "close"
        assert await caller.closed() == b""
        assert house.requests == []


@pytest.mark.parametrize(
    "payload",
    [
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\na",
    ],
)
async def test_what_can_be_read_but_is_not_served_is_refused(payload):
    async with House() as house:
        assert_problem(await house.ask(payload), 400, "bad_request")
        (story,) = await house.told()
        assert (story.status, story.outcome, story.error) == (400, "error", "bad_request")
        assert house.requests == []


@pytest.mark.parametrize(
    "payload",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_what_is_not_proper_http_is_refused_in_our_own_words(payload, caplog):
    async with House() as house:
        answer = await house.ask(payload)
        assert_problem(answer, 400, "bad_request")
        assert answer.value("Connection") == "close"
        (story,) = await house.told()
        assert (story.status, story.outcome, story.error) == (400, "error", "bad_request")
        assert (house.bodies, house.complaints, caplog.records) == ([], [], [])


@pytest.mark.parametrize(
    "payload",
    [
        get("/" + "a" * 8200),
        get("/", "X: " + "a" * 8200),
        get("/", "X" * 8200 + ": a"),
        get("/", *["X: a"] * 200),
        get("/", *[f"X-{number}: {'a' * 500}" for number in range(2000)]),
    ],
)
async def test_too_much_head_is_refused(payload, caplog):
    async with House() as house:
        assert_problem(await house.ask(payload), 431, "headers_too_large")
        assert (len(await house.told()), caplog.records) == (1, [])


async def test_nothing_of_a_broken_request_is_repeated_or_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with House() as house:
        seen = await house.exchange(b"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cr3t\x01\r\n\r\n")
        assert b"400 Bad Request" in seen
        assert b"s3cr3t" not in seen
        assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("size", [0, 1, 70_000])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_bodies_are_held_whatever_their_framing(size, pieces):
    body = os.urandom(size)
    step = max(1, size // pieces)
    cut = [body[start : start + step] for start in range(0, size, step)]
    chunks = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in cut) + b"0\r\nX-Trailer: dropped\r\n\r\n"
    async with House() as house, house.caller() as caller:
        for payload in (post(body), get("/", "Transfer-Encoding: Chunked", method="POST") + chunks):
            for start in range(0, len(payload), max(1, len(payload) // pieces)):
                caller.send(payload[start : start + max(1, len(payload) // pieces)])
                await asyncio.sleep(0)
            assert (await caller.answer()).status == 200
        assert house.bodies == [body, body]


async def test_a_body_past_the_limit_is_refused_before_it_is_read():
    async with House(limit=10) as house, house.caller() as caller:
        caller.send(get("/", "Content-Length: 11", method="POST"))
        answer = await caller.answer()
        assert_problem(answer, 413, "body_too_large")
        assert answer.value("Connection") == "close"


async def test_a_chunked_body_past_the_limit_is_refused_while_it_comes():
    async with House(limit=10) as house, house.caller() as caller:
        caller.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"6\r\nabcdef\r\n6\r\nabcdef\r\n")
        assert_problem(await caller.answer(), 413, "body_too_large")


async def test_the_limit_itself_passes():
    async with House(limit=3) as house:
        assert (await house.ask(post(b"abc"))).status == 200
        assert_problem(await house.ask(post(b"abcd")), 413, "body_too_large")


async def test_a_body_is_there_at_once_if_it_came_with_its_head():
    bodies = []

    async def way(request, _story):
        bodies.append(request.whole(3))
        if bodies[-1] is None:
            bodies.append(await request.hold(3))
        return whole()

    async with House(way) as house:
        for payload in (get(), post(b""), post(b"abc")):
            await house.ask(payload)
        async with house.caller() as caller:
            caller.send(post(b"abc")[:-1])
            await asyncio.sleep(0.02)
            caller.send(b"c")
            await caller.answer()
    assert bodies == [b"", b"", b"abc", None, b"abc"]


async def test_of_a_caller_who_rests_nothing_is_held():
    async with House(limit=3) as house, house.caller() as caller:
        for body, status in ((b"abc", 200), (b"abcd", 413)):
            caller.send(post(body))
            assert (await caller.answer()).status == status
            await house.told(len(house.stories))
            house.requests.clear()
            gc.collect()
            (connection,) = house.server._connections
            assert connection._payload is EMPTY_PAYLOAD
            assert not [each for each in gc.get_objects() if isinstance(each, Call) and each.connection is connection]


async def test_a_caller_whose_upload_is_refused_can_send_it_to_the_end():
    """Closing while the caller still sends would reset the connection, perhaps before the answer is read."""
    body = bytes(8 * 1024 * 1024)
    async with House(limit=10) as house, house.caller() as caller:
        caller.send(post(body)[: len(body) // 2])
        assert_problem(await caller.answer(), 413, "body_too_large")
        caller.send(post(body)[len(body) // 2 :])
        await caller.writer.drain()
        assert await caller.reader.read() == b""


async def test_a_chunk_that_breaks_later_is_refused_at_once():
    async with House() as house, house.caller(deadline=1) as caller:
        caller.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
        await asyncio.sleep(0.02)
        caller.send(b"xyz\r\n")
        assert_problem(await caller.answer(), 400, "bad_request")
        assert await caller.closed() == b""
        assert (len(await house.told()), house.complaints) == (1, [])


async def test_a_broken_chunk_behind_a_pipelined_request_is_refused_at_once():
    release = asyncio.Event()

    async def slow(request, story):
        await release.wait()
        await request.hold(100)
        return whole()

    async with House(slow) as house, house.caller(deadline=1) as caller:
        caller.send(get())
        await asyncio.sleep(0.02)
        caller.send(get("/", "Transfer-Encoding: chunked", method="POST"))
        await asyncio.sleep(0.02)
        caller.send(b"xyz\r\n")
        await asyncio.sleep(0.02)
        release.set()
        assert (await caller.answer()).status == 200
        assert_problem(await caller.answer(), 400, "bad_request")


async def test_continue_is_said_when_the_body_is_wanted():
    async with House() as house, house.caller() as caller:
        caller.send(get("/", "Content-Length: 3", "Expect: 100-Continue", method="POST"))
        assert (await caller.answer()).status == 100
        caller.send(b"abc")
        assert (await caller.answer()).status == 200
        assert house.bodies == [b"abc"]


async def test_continue_is_not_said_when_the_request_is_refused_by_its_head():
    async def refuse(request, story):
        raise ProxyError("not_allowed", "no")

    async with House(refuse) as house:
        answer = await house.ask(get("/", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        assert_problem(answer, 403, "not_allowed")
        assert answer.value("Connection") == "close", "the body may or may not come"


async def test_continue_is_not_said_past_the_limit():
    async with House(limit=2) as house:
        answer = await house.ask(get("/", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        assert_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    "payload",
    [post(b"abc", "Expect: 100-continue"), get("/", "Expect: 100-continue", method="POST")],
)
async def test_continue_is_not_said_when_the_body_is_there_already(payload):
    async with House() as house:
        assert (await house.ask(payload)).status == 200


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA")


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        ([get("/", *UPGRADE)], b""),
        ([post(b"abc", *UPGRADE)], b"abc"),
        ([post(b"abc", *UPGRADE)[:-3], b"ab", b"c"], b"abc"),
        ([get("/", "Transfer-Encoding: chunked", *UPGRADE, method="POST") + b"3\r\nabc\r\n0\r\n\r\n"], b"abc"),
        ([get("/", "Transfer-Encoding: chunked", *UPGRADE, method="POST"), b"3\r\nabc\r\n0\r\n\r\n"], b"abc"),
        ([get("/", "Upgrade: h2c")], b""),
    ],
)
async def test_an_offer_of_h2c_is_ignored_and_the_request_served(payload, body):
    async with House() as house, house.caller() as caller:
        for piece in payload:
            caller.send(piece)
            await asyncio.sleep(0.01)
        answer = await caller.answer()
        assert (answer.status, answer.body, house.bodies) == (200, b"hello", [body])
        assert answer.values("Upgrade") == []


@pytest.mark.both_loops
@pytest.mark.parametrize("cut", [None, -50, -120])
async def test_a_connection_goes_on_behind_an_offer_of_h2c(cut):
    """Stock Java offers it with the first request of every connection; head and body may come apart."""
    requests = get("/1", *UPGRADE), post(b"abc" * 40, *UPGRADE, target="/2"), get("/3")
    async with House() as house, house.caller() as caller:
        for request in requests:
            if cut and b"abc" in request:
                caller.send(request[:cut])
                await asyncio.sleep(0.02)
                caller.send(request[cut:])
            else:
                caller.send(request)
            answer = await caller.answer()
            assert (answer.status, answer.values("Connection"), answer.body) == (200, [], b"hello")
        assert [request.target for request in house.requests] == ["/1", "/2", "/3"]


@pytest.mark.both_loops
async def test_of_an_offer_whose_head_comes_in_pieces_nobody_knows_what_is_behind_it():
    async with House() as house, house.caller() as caller:
        request = post(b"abc", *UPGRADE)
        caller.send(request[:20])
        await asyncio.sleep(0.02)
        caller.send(request[20:])
        assert (await caller.answer()).value("Connection") == "close"


@pytest.mark.both_loops
async def test_behind_the_body_of_an_offer_that_came_later_a_request_is_told_to_come_again_too():
    async with House() as house, house.caller() as caller:
        request = post(b"abc" * 40, *UPGRADE, target="/1")
        caller.send(request[:-50])
        await asyncio.sleep(0.02)
        caller.send(request[-50:] + get("/2"))
        answer = await caller.answer()
        assert (answer.status, answer.value("Connection")) == (200, "close")
        assert await caller.closed() == b""
        assert [request.target for request in house.requests] == ["/1"]


async def test_what_is_pipelined_behind_an_ignored_upgrade_is_told_to_come_again():
    async with House() as house, house.caller() as caller:
        caller.send(get("/1", *UPGRADE) + get("/2"))
        answer = await caller.answer()
        assert (answer.status, answer.value("Connection")) == (200, "close")
        assert await caller.closed() == b""
        assert [request.target for request in house.requests] == ["/1"]


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Connection: Upgrade", "Upgrade: h2c, websocket"),
        ("Connection: Upgrade", "Upgrade: h2c", "Upgrade: foo/2"),
        ("Upgrade: WebSocket",),
    ],
)
async def test_other_upgrades_are_refused(lines):
    async with House() as house:
        assert_problem(await house.ask(get("/", *lines)), 501, "upgrade_refused")
        assert house.requests == []


async def test_http_1_0_is_served_and_closed():
    async with House() as house, house.caller() as caller:
        caller.send(b"POST /x HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        await asyncio.sleep(0.02)
        caller.send(b"abc")
        answer = await caller.answer()
        assert (answer.status, answer.body, answer.value("Connection")) == (200, b"hello", "close")
        assert await caller.closed() == b""
        assert house.bodies == [b"abc"]


async def test_connections_are_kept_and_requests_on_them_answered_in_order():
    async with House() as house, house.caller() as caller:
        caller.send(get("/1") + post(b"abc", target="/2") + get("/3"))
        for _ in range(3):
            assert (await caller.answer()).status == 200
        caller.send(get("/4", "Connection: close"))
        assert (await caller.answer()).value("Connection") == "close"
        assert await caller.closed() == b""
        assert [request.target for request in house.requests] == ["/1", "/2", "/3", "/4"]
        assert len({story.request_id for story in await house.told(4)}) == 4


async def test_no_request_is_lost_in_the_parser_behind_one_whose_body_came_late():
    """Its end is counted by the parser when it is being answered already: one fewer fits the queue."""
    release = asyncio.Event()

    async def way(request, story):
        await request.hold(10)
        await release.wait()
        story.outcome = "forwarded"
        return whole(b"x")

    async with House(way) as house, house.caller() as caller:
        caller.send(post(b"abc")[:-3])
        await asyncio.sleep(0.02)
        caller.send(b"abc")
        await asyncio.sleep(0.02)
        caller.send(get() * 40)
        await asyncio.sleep(0.02)
        release.set()
        for _ in range(41):
            assert (await caller.answer()).status == 200


async def test_a_flood_of_pipelined_requests_is_answered_one_by_one():
    async with House() as house, house.caller() as caller:
        caller.send(get() * 500)
        for _ in range(500):
            assert (await caller.answer()).status == 200
        await house.told(500)


async def test_an_error_of_the_way_is_answered_and_told():
    async def fail(request, story):
        story.external_id = "ext-1"
        sending(story)
        raise ProxyError("upstream_timeout", "slow", provider_status=504, provider_code="12", retry_after=1.5)

    async with House(fail) as house, house.caller() as caller:
        for _ in range(2):
            caller.send(post(b""))
            answer = await caller.answer()
            assert_problem(answer, 504, "upstream_timeout", sent="maybe")
            assert (answer.value("X-Paraf-External-Id"), answer.value("Retry-After")) == ("ext-1", "2")
        story, _ = await house.told(2)
        assert (story.outcome, story.error, story.status) == ("error", "upstream_timeout", 504)
        assert (story.provider_status, story.provider_code) == (504, "12")
        assert story.total > 0


async def test_a_head_request_gets_a_problem_without_its_body():
    async def fail(request, story):
        raise ProxyError("no_route", "no")

    async with House(fail) as house, house.caller() as caller:
        caller.send(get(method="HEAD") + get(method="GET"))
        head = await caller.answer(to_head=True)
        full = await caller.answer()
        assert (head.status, head.body) == (404, b"")
        assert int(head.value("Content-Length")) == len(full.body)


async def test_a_fault_of_ours_is_answered_and_told_by_its_place(caplog):
    async def fail(request, story):
        raise KeyError("Bearer s3cr3t")

    async with House(fail) as house:
        seen = await house.exchange(post(b""))
        assert seen.startswith(b"HTTP/1.1 500 ")
        assert b"s3cr3t" not in seen
        assert len(house.complaints) == 1
        assert house.complaints[0].startswith("KeyError at test_server:")
        assert caplog.records == []
        (story,) = await house.told()
        assert (story.outcome, story.error, story.status) == ("error", "internal", 500)


async def test_connections_past_the_limit_are_closed():
    async with House(limits=ServerLimits(connections=2)) as house, open_callers(house, [get(), get()]) as callers:
        for caller in callers:
            assert (await caller.answer()).status == 200
        async with house.caller() as third:
            third.send(get())
            assert await third.closed() == b""
        callers[0].send(get())
        assert (await callers[0].answer()).status == 200


async def test_a_unix_socket_is_served_and_is_no_loopback(tmp_path):
    async with House() as house:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "sock"))
        sock.listen()
        house.server.listen(sock)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "sock"))
        writer.write(get())
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert house.requests[0].loopback is False
        writer.close()


async def test_a_listener_on_all_addresses_is_no_loopback():
    async with House() as house:
        sock = socket.create_server(("0.0.0.0", 0))
        house.server.listen(sock)
        async with RawCaller("127.0.0.1", sock.getsockname()[1]) as caller:
            caller.send(get())
            assert (await caller.answer()).status == 200
        assert house.requests[0].loopback is False
