"""CONNECT with interception: over real sockets and TLS, over both loops, the impolite ones too."""

import asyncio
import gc
import json
import os
import socket
import ssl
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from rawpeer import CLOSE, RawPeer, ok
from running import built
from serving import House, get, whole
from tunnelling import HOST, OTHER, authority, configuration, intercepting, on_disk, post, trusting

from proxy.authority import Authority, make_authority, utc_now
from proxy.inbound.intercept import Doorway
from proxy.inbound.leaves import LeafContext
from proxy.inbound.server import ServerLimits
from proxy.model import Tunnel

pytestmark = pytest.mark.both_loops


class Hello:
    """TLS by hand, so that its bytes can be sent when and how a test wants."""

    def __init__(self, root: str, host: str | None = HOST) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = trusting(root)
        context.check_hostname = host is not None
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.first = self._step()

    def _step(self) -> bytes:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.done = False
        else:
            self.done = True
        return self.outgoing.read()

    async def shake(self, caller) -> None:
        """The rest of it, behind what was sent."""
        async with asyncio.timeout(caller.deadline):
            while not self.done:
                self.incoming.write(await caller.reader.read(65536))
                caller.send(self._step())

    async def ask(self, caller, request: bytes) -> bytes:
        self.tls.write(request)
        caller.send(self.outgoing.read())
        async with asyncio.timeout(caller.deadline):
            while True:
                try:
                    return self.tls.read(65536)
                except ssl.SSLWantReadError:
                    self.incoming.write(await caller.reader.read(65536))


def connect(host: str = HOST, port: int = 443, *lines: str) -> bytes:
    return "\r\n".join((f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}", *lines, "", "")).encode()


@pytest.fixture
async def peer():
    async with RawPeer(lambda _: ok(b'{"message": ["SUCCESS"]}', "Content-Type: application/json")) as made:
        yield made


async def test_requests_in_a_tunnel_are_signed_and_told_like_others(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        opened = await caller.tunnel(f"{HOST}:443", stage.tls)
        assert opened.status == 200
        assert opened.values("X-Paraf-Request-Id")
        assert caller.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        for number in range(3):
            caller.send(post(f"/pay/{number}?x=%2f"))
            answer = await caller.answer()
            assert (answer.status, answer.body) == (200, b'{"message": ["SUCCESS"]}')
        assert [request.target for request in peer.requests] == [b"/pay/0?x=%2f", b"/pay/1?x=%2f", b"/pay/2?x=%2f"]
        assert all(request.values("Signature")[0].startswith(b"HMACSHA256=") for request in peer.requests)
        told = stage.running.requests()
        assert [(line["method"], line["route"], line["status"]) for line in told] == [("POST", "doku-nonsnap", 200)] * 3
        assert stage.running.metric("paraf_requests_total", method="CONNECT") == 0
        assert stage.running.metric("paraf_inflight_requests") == 0


async def test_a_tunnel_outlives_a_reload_and_holds_no_generation(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        assert (await caller.tunnel(f"{HOST}:443", stage.tls)).status == 200
        app = stage.running.app
        for number in (2, 3):
            caller.send(post(f"/pay/{number}"))
            assert (await caller.answer()).status == 200
            app.swap(app.settings, replace(app.generation, number=number))
            assert app.in_service == [number]
        assert [line["generation"] for line in stage.running.requests()] == [1, 2]


@pytest.mark.parametrize("cut", [None, 0, 1, 40, 200])
async def test_a_hello_that_does_not_wait_for_the_answer(peer, tmp_path, cut):
    """Sent with the CONNECT, whole or in part: those bytes are read by the HTTP parser first."""
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        hello = Hello(stage.made.root)
        caller.send(connect() + hello.first[:cut])
        opened = await caller.answer(to_head=True)
        assert opened.status == 200
        caller.send(b"" if cut is None else hello.first[cut:])
        await hello.shake(caller)
        assert (await hello.ask(caller, post())).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_request_that_comes_with_the_end_of_the_handshake(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        hello = Hello(stage.made.root)
        caller.send(connect())
        await caller.answer(to_head=True)
        caller.send(hello.first)
        async with asyncio.timeout(caller.deadline):
            while not hello.done:
                hello.incoming.write(await caller.reader.read(65536))
                last = hello._step()
        hello.tls.write(post("/one") + post("/two"))
        caller.send(last + hello.outgoing.read())
        await peer.until(lambda peer: len(peer.requests) == 2)


async def test_behind_other_requests_of_its_connection(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        caller.send(post("/doku-nonsnap/first", host="localhost") + connect())
        assert (await caller.answer()).status == 200
        assert (await caller.answer(to_head=True)).reason == "Connection established"
        await caller.writer.start_tls(stage.tls, server_hostname=HOST)
        caller.send(post("/second"))
        assert (await caller.answer()).status == 200
        assert [request.target for request in peer.requests] == [b"/first", b"/second"]


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        (f"{OTHER}:443", 403, "not_allowed"),
        (f"{HOST}:8443", 403, "not_allowed"),
        (f"{HOST}:80", 403, "not_allowed"),
        ("169.254.169.254:443", 403, "not_allowed"),
        (f"user@{HOST}:443", 400, "bad_request"),
        (HOST, 400, "bad_request"),
    ],
)
async def test_what_is_refused_says_why_in_its_first_line_too(peer, tmp_path, target, status, code):
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        caller.send(f"CONNECT {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        answer = await caller.answer()
        assert (answer.status, answer.value("X-Paraf-Error")) == (status, code)
        detail = json.loads(answer.body)["detail"]
        assert answer.reason in (f"{code}: {detail}", "Bad Request")  # the second: what the parser does not take
        assert await caller.closed() == b""
        assert not peer.requests


async def test_a_route_that_does_not_intercept(peer, tmp_path):
    async with intercepting(peer.url, tmp_path, intercept=False) as stage, stage.caller() as caller:
        caller.send(connect())
        answer = await caller.answer()
        assert (answer.status, answer.value("X-Paraf-Error")) == (403, "not_allowed")
        assert "`intercept: true`" in answer.reason


@pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_a_connect_has_no_body(peer, tmp_path, line):
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        caller.send(connect(HOST, 443, line) + b"hello")
        assert (await caller.answer()).status == 400


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(host=OTHER), 421),
        (post(host="localhost"), 421),
        (post(host=f"{HOST}:8443"), 421),
        (post(f"https://{OTHER}/pay"), 421),
        (post(f"https://{HOST}/pay"), 200),
        (post(host=f"{HOST}:443"), 200),
        (post(host=HOST.upper()), 200),
        (connect(), 405),
        (connect(OTHER), 405),
        (get("/", method="TRACE"), 405),
        (post("/pay", b"{}", HOST, "Upgrade: websocket", "Connection: Upgrade"), 501),
        (post("/pay", b"{}", HOST, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AA"), 200),
        (post("/../pay"), 400),
        (b"\x00\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_what_may_be_said_inside(peer, tmp_path, request_bytes, status):
    async with intercepting(peer.url, tmp_path) as stage:
        answer = await stage.ask(request_bytes)
        assert answer.status == status
        assert len(peer.requests) == (status == 200)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_pages_of_other_sites_are_not_signed_for(peer, tmp_path, site):
    """A browser that has us as its proxy sends here what any page makes it send."""
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        answer = await stage.ask(post("/pay", b"{}", HOST, f"Sec-Fetch-Site: {site}"))
        assert (answer.status, answer.value("X-Paraf-Error")) == (403, "not_allowed")
        caller.send(post(f"http://{HOST}/pay", b"{}", HOST, f"Sec-Fetch-Site: {site}"))
        assert (await caller.answer()).status == 403
        assert not peer.requests
        assert (await stage.ask(post("/pay", b"{}", HOST, "Sec-Fetch-Site: same-origin"))).status == 200


async def test_a_handshake_for_another_name_is_answered_and_gets_nothing(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage:
        careless = trusting(stage.made.root)
        careless.check_hostname = False
        answer = await stage.ask(post(), careless, OTHER)
        assert (answer.status, answer.value("X-Paraf-Error")) == (421, "host_not_allowed")
        assert not peer.requests
        assert (await stage.ask(post())).status == 200


async def test_a_handshake_without_a_name(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        caller.send(connect())
        await caller.answer(to_head=True)
        hello = Hello(stage.made.root, None)
        caller.send(hello.first)
        await hello.shake(caller)
        assert (await hello.ask(caller, post())).startswith(b"HTTP/1.1 200")


def shake_hands(port, tls) -> None:
    """As most programs do it."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(connect())
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        tls.wrap_socket(sock, server_hostname=HOST)


async def test_a_program_that_does_not_trust_us_is_told_of_once(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage:
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(shake_hands, stage.running.port, ssl.create_default_context())
        (line,) = await stage.remarked()
        assert "refused the certificate" in line["words"]
        assert (line["level"], line["route"]) == ("warning", "doku-nonsnap")
        assert str(tmp_path / "root.pem") in line["words"]
        assert "NODE_EXTRA_CA_CERTS" in line["words"]
        assert stage.running.requests() == []


async def test_a_program_that_does_not_say_why_it_leaves(peer, tmp_path):
    """asyncio's TLS sends no alert when it does not like a certificate."""
    async with intercepting(peer.url, tmp_path) as stage:
        with pytest.raises(ssl.SSLCertVerificationError):
            await stage.ask(post(), ssl.create_default_context())
        (line,) = await stage.remarked()
        assert "hung up" in line["words"]
        assert "NODE_EXTRA_CA_CERTS" in line["words"]


async def test_a_program_that_hangs_up_after_the_handshake(peer, tmp_path):
    """As Node does: it looks at the certificate when the handshake is over."""
    async with intercepting(peer.url, tmp_path) as stage:
        async with stage.caller() as caller:
            await caller.tunnel(f"{HOST}:443", stage.tls)
        (line,) = await stage.remarked()
        assert "hung up" in line["words"]


async def test_many_at_once_get_one_certificate(peer, tmp_path, monkeypatch):
    made = []
    leaf = Authority.leaf
    monkeypatch.setattr(Authority, "leaf", lambda *words: made.append(words[1]) or leaf(*words))
    async with intercepting(peer.url, tmp_path) as stage:
        answers = await asyncio.gather(*(stage.ask(post()) for _ in range(30)))
        assert {answer.status for answer in answers} == {200}
        assert made == [HOST]


async def test_large_bodies_pass_both_ways(tmp_path):
    sent, back = b'"' + b"x" * 900_000 + b'"', bytes(range(256)) * 20_000
    async with (
        RawPeer(lambda _: ok(back)) as peer,
        intercepting(peer.url, tmp_path) as stage,
        stage.caller(30) as caller,
    ):
        await caller.tunnel(f"{HOST}:443", stage.tls)
        for _ in range(2):
            caller.send(post("/pay", sent))
            assert (await caller.answer()).body == back
        assert [request.body for request in peer.requests] == [sent, sent]


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(tmp_path):
    broken = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", CLOSE]
    async with RawPeer(lambda _: broken) as peer, intercepting(peer.url, tmp_path) as stage:
        answer = await stage.ask(post())
        assert (answer.status, answer.whole) == (200, False)


async def test_over_a_unix_socket_too(peer, tmp_path):
    async with intercepting(peer.url, tmp_path, listen=f"unix:{tmp_path}/paraf.sock") as stage:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "paraf.sock")
        writer.write(connect())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await writer.start_tls(stage.tls, server_hostname=HOST)
        writer.write(post())
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.transport.abort()


def swap(stage, number, configured) -> None:
    settings, generation = built(configured)
    stage.running.app.swap(settings, replace(generation, number=number))


async def test_a_reload_takes_another_authority_and_may_end_interception(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage, stage.caller() as caller:
        await caller.tunnel(f"{HOST}:443", stage.tls)
        caller.send(post())
        assert (await caller.answer()).status == 200
        (tmp_path / "new").mkdir()
        other = make_authority([HOST], utc_now())
        ca = on_disk(other, tmp_path / "new")
        swap(stage, 2, configuration(peer.url, ca))
        assert (await stage.ask(post(), trusting(other.root))).status == 200
        caller.send(post())
        assert (await caller.answer()).status == 200
        swap(stage, 3, configuration(peer.url, ca, intercept=False))
        caller.send(post())
        assert (await caller.answer()).value("X-Paraf-Error") == "not_allowed"
        async with stage.caller() as late:
            assert (await late.tunnel(f"{HOST}:443", stage.tls)).status == 403
        assert len(peer.requests) == 3


class Open:
    """Tunnels to HOST for everybody, without the rest of the product."""

    def __init__(self) -> None:
        made = authority(HOST)
        self.kept = LeafContext(HOST, Authority.read(made.chain, made.key).leaf(HOST, utc_now()))
        self.failures: list[str] = []
        self.failing = asyncio.Event()

    def admit(self, request, story) -> Tunnel:
        return Tunnel(HOST, 443, request.headers)

    async def context(self, host: str) -> LeafContext:
        return self.kept

    def failed(self, host: str, failure: str) -> None:
        self.failures.append(failure)
        self.failing.set()


def connected(house) -> int:
    return len(house.server._connections)


async def gone(house) -> None:
    async with asyncio.timeout(5):
        while connected(house):  # noqa: ASYNC110 -- nobody tells of it
            await asyncio.sleep(0.01)


HURRIED = ServerLimits(header_seconds=0.3)


@pytest.mark.parametrize("words", [b"", b"\x16", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"\x00" * 512])
async def test_what_is_no_handshake_ends_soon(words):
    house = House(tunnels=Open(), limits=HURRIED)
    async with house, house.caller() as caller:
        caller.send(connect() + words)
        assert (await caller.answer(to_head=True)).status == 200
        await caller.closed()
        await house.tunnels.failing.wait()
        assert house.tunnels.failures == ["handshake"]
        await gone(house)
        assert house.stories == []


async def test_a_tunnel_in_which_nothing_is_asked_ends_soon():
    house = House(tunnels=Open(), limits=HURRIED)
    async with house, house.caller() as caller:
        await caller.tunnel(f"{HOST}:443", trusting(authority(HOST).root))
        assert await caller.closed() == b""
        await house.tunnels.failing.wait()
        assert house.tunnels.failures == ["hung up"]


async def test_callers_who_leave_in_the_handshake_leave_nothing_behind():
    house = House(tunnels=Open())
    async with house:
        for words in (b"", Hello(authority(HOST).root).first):
            async with house.caller() as caller:
                caller.send(connect() + words)
                await caller.answer(to_head=True)
            await gone(house)
        assert house.server._seat.page[0] == 0
        assert house.tunnels.failures == ["hung up"] * 2


async def hang_up(house, words: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(connect() + words)
    writer.close()


async def test_callers_who_leave_at_once_leave_nothing_behind():
    house = House(tunnels=Open())
    async with house:
        for words in (b"", b"garbage", Hello(authority(HOST).root).first):
            await asyncio.gather(*(hang_up(house, words) for _ in range(20)))
            await asyncio.sleep(0.05)
            await gone(house)
        assert house.server._seat.page[0] == 0
        assert house.complaints == []


@pytest.fixture
def uncollected():
    """Only what is in no circle is freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held() -> int:
    """Our sides of TLS that are in memory, each with buffers of its own."""
    return sum(isinstance(each, ssl.SSLObject) and each.server_side for each in gc.get_objects())


async def hang_up_at_once(house) -> None:
    await hang_up(house, b"")


async def hang_up_in_the_handshake(house) -> None:
    async with house.caller() as caller:
        caller.send(connect())
        await caller.answer(to_head=True)


async def speak_no_tls(house) -> None:
    async with house.caller() as caller:
        caller.send(connect() + b"GET / HTTP/1.1\r\n\r\n")
        await caller.closed()


async def distrust(house) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        async with house.caller() as caller:
            await caller.tunnel(f"{HOST}:443", ssl.create_default_context())


async def ask_once(house) -> None:
    async with house.caller() as caller:
        await caller.tunnel(f"{HOST}:443", trusting(authority(HOST).root))
        caller.send(post())
        assert (await caller.answer()).status == 200


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("way", [hang_up_at_once, hang_up_in_the_handshake, speak_no_tls, distrust, ask_once])
async def test_tls_that_has_ended_is_held_by_nothing(way):
    """Neither by the timer of its handshake nor by its own failure: callers can make it end faster than either goes."""
    house = House(tunnels=Open())
    async with house:
        before = held()
        for _ in range(20):
            await way(house)
        await asyncio.sleep(0.05)
        await gone(house)
        async with asyncio.timeout(3):
            while held() > before:  # noqa: ASYNC110 -- nobody tells of it
                await asyncio.sleep(0.02)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_callers_who_say_connect_and_no_more_cost_little(peer, tmp_path):
    async with intercepting(peer.url, tmp_path) as stage, AsyncExitStack() as stack:
        assert (await stage.ask(post())).status == 200
        before, many = resident(), 300
        for _ in range(many):
            caller = await stack.enter_async_context(stage.caller())
            caller.send(connect())
            assert (await caller.answer(to_head=True)).status == 200
        assert (await stage.ask(post())).status == 200
        assert (resident() - before) / many < 160_000


async def test_connections_are_counted_once():
    house = House(tunnels=Open(), limits=ServerLimits(connections=2))
    async with house:
        async with house.caller() as first, house.caller() as second:
            for caller in (first, second):
                await caller.tunnel(f"{HOST}:443", trusting(authority(HOST).root))
                caller.send(post())
                assert (await caller.answer()).status == 200
            assert connected(house) == 2
            assert house.server._seat.page[0] == 2
            async with house.caller() as third:
                third.send(connect())
                assert await third.closed() == b""
        await gone(house)
        assert house.server._seat.page[0] == 0


async def test_draining_lets_a_request_in_a_tunnel_end_and_closes_idle_ones():
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(request, story):
        await request.hold(1000)
        asked.set()
        await go.wait()
        story.outcome = "forwarded"
        return whole(b"late")

    house = House(slow, tunnels=Open())
    async with house, house.caller() as busy, house.caller() as idle:
        for caller in (busy, idle):
            await caller.tunnel(f"{HOST}:443", trusting(authority(HOST).root))
        busy.send(post())
        await asked.wait()
        draining = asyncio.create_task(house.server.drain(10))
        assert await idle.closed() == b""
        assert not draining.done()
        go.set()
        answer = await busy.answer()
        assert (answer.body, answer.value("Connection")) == (b"late", "close")
        async with asyncio.timeout(5):
            await draining


async def test_a_handshake_that_ends_after_the_last_call_gets_no_request_served():
    house = House(tunnels=Open())
    async with house, house.caller() as caller:
        caller.send(connect())
        await caller.answer(to_head=True)
        draining = asyncio.create_task(house.server.drain(10))
        async with asyncio.timeout(5):
            while not house.server._last_called:  # noqa: ASYNC110 -- nobody tells of it
                await asyncio.sleep(0.01)
        hello = Hello(authority(HOST).root)
        caller.send(hello.first)
        await hello.shake(caller)
        await caller.closed()
        async with asyncio.timeout(5):
            await draining


async def test_closing_cuts_a_handshake_and_tells_a_request_why():
    asked = asyncio.Event()

    async def never(request, story):
        asked.set()
        await asyncio.Event().wait()

    house = House(never, tunnels=Open())
    async with house, house.caller() as halfway, house.caller() as inside:
        halfway.send(connect())
        await halfway.answer(to_head=True)
        await inside.tunnel(f"{HOST}:443", trusting(authority(HOST).root))
        inside.send(post())
        await asked.wait()
        async with asyncio.timeout(5):
            await house.server.close()
        assert (await inside.answer()).value("X-Paraf-Error") == "shutting_down"
        assert await halfway.closed() == b""
        await gone(house)
    assert house.complaints == []


async def test_a_request_that_is_refused_unread_is_no_hang_up():
    house = House(tunnels=Open())
    async with house:
        async with house.caller() as caller:
            await caller.tunnel(f"{HOST}:443", trusting(authority(HOST).root))
            caller.send(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
            assert (await caller.answer()).status == 400
        await gone(house)
        assert house.tunnels.failures == []


class Late:
    """A certificate that comes to hand when the transport ends, between the answer to CONNECT and the handshake."""

    def __init__(self, house: House) -> None:
        self.house = house

    @property
    def tls(self) -> ssl.SSLContext:
        for connection in self.house.server._connections:
            connection.transport.abort()
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


async def test_a_caller_lost_right_behind_the_answer_gives_its_seat_back_once():
    house = House(tunnels=Open())
    house.tunnels.kept = Late(house)
    async with house:
        async with house.caller() as caller:
            caller.send(connect())
            await caller.closed()
        await gone(house)
        await asyncio.sleep(0.05)
        assert house.server._seat.page[0] == 0


@pytest.mark.parametrize("when", ["before", "behind"])
async def test_the_end_of_a_tunnel_is_told_once_to_whom_it_was_opened_for(when):
    class Inside:
        heard = ()

        def connection_made(self, _transport):
            self.heard += ("made",)

        def connection_lost(self, exc):
            self.heard += (exc,)

    class Transport:
        def set_protocol(self, protocol): ...

    doorway, inside, fault = Doorway(), Inside(), OSError()
    if when == "before":
        doorway.connection_lost(fault)
    doorway.open(Transport(), inside)
    if when == "behind":
        doorway.connection_lost(fault)
    assert inside.heard == ("made", fault)
