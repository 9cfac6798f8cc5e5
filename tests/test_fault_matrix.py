"""Every fault of the transport, with every method, on a fresh and on a kept connection: what the caller is told, and
how often the request arrived."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trustme
from asking import ROUTE, ask
from rawpeer import CLOSE, RESET, Ending, RawCaller, RawPeer, Request, Step, answer, hang_up, ok
from running import Running, built, of, proxy, routes, started

from proxy.outbound.dial import Dial
from proxy.outbound.line import Line
from proxy.signing.signer import Signer

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
FOREVER = asyncio.Event
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Told = tuple[str | None, str, int]
"""Paraf's error in the log line, its `sent`, and how often the request arrived."""

PROTOCOL: Told = ("upstream_protocol", "maybe", 1)
TIMEOUT: Told = ("upstream_timeout", "maybe", 1)
UNREACHABLE: Told = ("upstream_unreachable", "no", 0)
ANSWERED: Told = (None, "maybe", 1)
OK = 200
SHORT = "500ms"
"""A provider's silence, waited for by seven proxies of one process at once."""


@dataclass(frozen=True)
class Fault:
    """What the provider does when it has read the request, or of a large one the head. `to_head`: to HEAD, if other."""

    name: str
    steps: Sequence[Step | type[asyncio.Event]]
    told: Told
    to_head: Told | None = None
    body: bytes = b"{}"


AFTER_READING = (
    Fault("FIN", [CLOSE], PROTOCOL),
    Fault("RST", [RESET], PROTOCOL),
    Fault("silence", [FOREVER], TIMEOUT),
    Fault("half a head, FIN", [HEAD[:-5], 0.005, CLOSE], PROTOCOL),
    Fault("half a head, RST", [HEAD[:-5], 0.005, RESET], PROTOCOL),
    Fault("half a head, silence", [HEAD[:-5], FOREVER], TIMEOUT),
    Fault("100, FIN", [b"HTTP/1.1 100 Continue\r\n\r\n", 0.005, CLOSE], PROTOCOL),
    Fault("103, silence", [b"HTTP/1.1 103 Early Hints\r\n\r\n", FOREVER], TIMEOUT),
    Fault("not HTTP", [b"\x16\x03\x01\x00\r\n\r\n", CLOSE], PROTOCOL),
    Fault("not HTTP/1", [b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"], PROTOCOL),
    Fault("101", [b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"], PROTOCOL),
    Fault("two lengths", [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"], PROTOCOL),
    Fault("half a body, FIN", [HEAD, 0.01, b"half", 0.005, CLOSE], PROTOCOL, to_head=ANSWERED),
    Fault("half a body, RST", [HEAD, 0.01, b"half", 0.005, RESET], PROTOCOL, to_head=ANSWERED),
    Fault("half a body, silence", [HEAD, 0.01, b"half", FOREVER], TIMEOUT, to_head=ANSWERED),
    Fault("a broken chunk", [CHUNKED, 0.01, b"2\r\nhe\r\n", 0.005, b"xyz\r\n", FOREVER], PROTOCOL, to_head=ANSWERED),
    Fault("no last chunk", [CHUNKED, 0.01, b"2\r\nhe\r\n", 0.005, CLOSE], PROTOCOL, to_head=ANSWERED),
    Fault("half an error, FIN", [HEAD.replace(b"200 OK", b"401 No"), 0.01, b"h", CLOSE], PROTOCOL, to_head=ANSWERED),
    Fault("an error", [answer("500 No")], ANSWERED),
    Fault("a busy provider", [answer("503 No", b"", "Retry-After: 0")], ANSWERED),
    Fault("too early", [answer("425 Too Early")], ANSWERED),
    Fault("another place", [answer("307 There", b"", "Location: /there")], ANSWERED),
    Fault("misdirected", [answer("421 No", b"", "Connection: close")], ANSWERED),
    Fault("an answer, FIN", [ok(), CLOSE], ANSWERED),
    Fault("an answer, RST", [ok(), 0.005, RESET], ANSWERED),
    Fault("RST in the upload", [RESET], PROTOCOL, body=bytes(900_000)),
    Fault("an answer in the upload", [ok(), CLOSE], ANSWERED, body=bytes(900_000)),
)


async def after(*last: Step, on: RawPeer) -> None:
    """Do this on every connection, and let it arrive."""
    for step in last:
        for writer in on.writers:
            if isinstance(step, bytes):
                writer.write(step)
            elif isinstance(step, Ending):
                hang_up(writer, step)
    await asyncio.sleep(0.02)


async def half_closed(on: RawPeer) -> None:
    for writer in on.writers:
        writer.write_eof()
    await asyncio.sleep(0.02)


async def stopped(on: RawPeer) -> None:
    assert on._server is not None
    on._server.close()
    await after(CLOSE, on=on)


WHILE_IDLE = {
    "nothing": (partial(after), ANSWERED),
    "FIN": (partial(after, CLOSE), ANSWERED),
    "RST": (partial(after, RESET), ANSWERED),
    "one direction closed": (half_closed, ANSWERED),
    "an answer nobody asked for": (partial(after, ok(b"forged")), ANSWERED),
    "half of one": (partial(after, ok(b"forged")[:20]), ANSWERED),
    "408 and FIN": (partial(after, answer("408 Request Timeout"), CLOSE), ANSWERED),
    "no listener any more": (stopped, UNREACHABLE),
}


def played(steps: Sequence[Step | type[asyncio.Event]]) -> list[Step]:
    return [asyncio.Event() if step is FOREVER else step for step in steps]  # type: ignore[misc]


def start(upstream: str, wait: str = "5s") -> Callable[[], AbstractAsyncContextManager[Running]]:
    """New proxies in front of one provider: no pool, trust or circuit of another's."""
    timeouts = dict.fromkeys(("connect", "first_byte", "idle"), wait)
    made = built(routes(of(ROUTE), upstream, timeouts=timeouts, circuit="off"))
    return partial(started, *made)


async def told(running: Running, method: str, body: bytes = b"{}", arrived: Sequence[Request] = ()) -> Told:
    """Send one request more, and see what the log says of it, and the provider."""
    before, sendings = len(running.requests()), running.metric("paraf_attempts_total")
    with suppress(ConnectionError):  # an answer that breaks off
        await ask(running, method, f"/{method}", body)
    while len(running.requests()) == before:  # noqa: ASYNC110 -- the line is written a moment after the answer
        await asyncio.sleep(0.005)
    line = running.requests()[-1]
    assert line["attempts"] == running.metric("paraf_attempts_total") - sendings
    return line.get("error"), line["sent"], sum(each.target.endswith(method.encode()) for each in arrived)


async def warmed(running: Running) -> None:
    """A connection is kept from now on. The time-out under test may be too short for a machine's first call."""
    while (await ask(running, "GET", "/warm", body=b"")).status != OK:
        pass


async def every_method(work: Callable[[str], Awaitable[Told]]) -> dict[str, Told]:
    return dict(zip(METHODS, await asyncio.gather(*map(work, METHODS)), strict=True))


@pytest.mark.parametrize("connection", ["fresh", "kept"])
@pytest.mark.parametrize("fault", AFTER_READING, ids=lambda fault: fault.name)
async def test_a_request_that_may_have_been_read_is_told_and_not_repeated(fault: Fault, connection: str) -> None:
    def script(request: Request) -> bytes | Sequence[Step]:
        return ok() if request.target.endswith(b"/warm") else played(fault.steps)

    async with RawPeer(script, reads_bodies=len(fault.body) < 1000) as peer:
        async with AsyncExitStack() as stack:
            make = start(peer.url, SHORT if fault.told == TIMEOUT else "5s")
            running = {method: await stack.enter_async_context(make()) for method in METHODS}
            if connection == "kept":
                await asyncio.gather(*map(warmed, running.values()))
            opened = peer.connections
            result = await every_method(lambda method: told(running[method], method, fault.body, peer.requests))
            assert result == dict.fromkeys(METHODS, fault.told) | {"HEAD": fault.to_head or fault.told}
            assert peer.connections - opened == (0 if connection == "kept" else len(METHODS))
        peer.flaws.clear()


@pytest.mark.parametrize("fault", WHILE_IDLE)
async def test_a_kept_connection_that_ended_costs_no_request(fault: str) -> None:
    act, expected = WHILE_IDLE[fault]
    async with RawPeer(lambda request: ok()) as peer, AsyncExitStack() as stack:
        make = start(peer.url)
        running = {method: await stack.enter_async_context(make()) for method in METHODS}
        await asyncio.gather(*map(warmed, running.values()))
        await act(on=peer)
        results = await every_method(lambda method: told(running[method], method, arrived=peer.requests))
        assert results == dict.fromkeys(METHODS, expected)


async def before_a_byte(upstream: str, wait: str = "5s") -> set[Told]:
    make = start(upstream, wait)

    async def work(method: str) -> Told:
        async with make() as running:
            return await told(running, method)

    return set((await every_method(work)).values())


async def test_without_a_listener() -> None:
    async with RawPeer(lambda request: ok()) as peer:
        upstream = peer.url
    assert await before_a_byte(upstream) == {UNREACHABLE}


async def test_without_an_address() -> None:
    assert await before_a_byte("http://no-such-name.invalid") == {UNREACHABLE}


async def test_with_a_certificate_of_nobody_we_trust() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with RawPeer(lambda request: ok(), tls=context) as peer:
        assert await before_a_byte(peer.url) == {("upstream_tls", "no", 0)}
        assert peer.requests == []


async def test_with_a_handshake_that_never_ends() -> None:
    async with RawPeer(lambda request: ok()) as peer:
        assert await before_a_byte(f"https://127.0.0.1:{peer.port}", SHORT) == {("upstream_timeout", "no", 0)}
        peer.flaws.clear()


@pytest.fixture
def first_connections_die(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, RawPeer], None]:
    """The next so many connections for calls are reset by the provider before a byte is written; token calls go on."""

    def arrange(count: int, peer: RawPeer) -> None:
        create, left = Dial.open, [None] * count

        async def create_and_lose(self: Dial, *args: Any) -> Any:
            made = await create(self, *args)
            if left and isinstance(made, Line):
                left.pop()
                before = peer.connections
                await peer.until(lambda peer: peer.connections >= before)
                await asyncio.sleep(0.01)
                hang_up(peer.writers[-1], RESET)
                await asyncio.sleep(0.01)
            return made

        monkeypatch.setattr(Dial, "open", create_and_lose)

    return arrange


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every request that was signed."""
    requests, sign = [], Signer.signed

    def noted(*call: Any) -> Any:
        requests.append(sign(*call))
        return requests[-1]

    monkeypatch.setattr(Signer, "signed", noted)
    return requests


@pytest.mark.parametrize("method", METHODS)
async def test_a_connection_that_was_lost_unwritten_is_made_once_more_and_the_request_signed_anew(
    method: str, first_connections_die: Callable[[int, RawPeer], None], signed: list[object]
) -> None:
    async with RawPeer(lambda request: ok()) as peer, start(peer.url)() as running:
        first_connections_die(1, peer)
        assert await told(running, method, arrived=peer.requests) == ANSWERED
        assert (len(signed), peer.connections) == (2, 2)
        assert running.metric("paraf_attempts_total", reason="reconnect") == 1
        assert running.metric("paraf_attempts_total") == 1


async def test_it_is_made_twice_and_no_more(
    first_connections_die: Callable[[int, RawPeer], None], signed: list[object]
) -> None:
    async with RawPeer(lambda request: ok()) as peer, start(peer.url)() as running:
        first_connections_die(2, peer)
        assert await told(running, "POST", arrived=peer.requests) == UNREACHABLE
        assert (len(signed), peer.connections, running.metric("paraf_attempts_total")) == (2, 2, 0)


TOKEN = b'{"responseCode":"2007300","accessToken":"tok-%d","tokenType":"Bearer","expiresIn":"900"}'


async def test_a_healing_that_needed_a_new_connection_is_a_healing(
    first_connections_die: Callable[[int, RawPeer], None], signed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(request: Request) -> bytes:
        if b"access-token" in request.target:
            return ok(TOKEN % len(asked), "Connection: close")
        asked.append(request)
        if len(asked) == 2:
            return ok()
        return answer("401 No", b'{"responseCode":"4012701"}', "Connection: close")

    asked: list[Request] = []
    monkeypatch.setattr("proxy.generation.MIN_GAP", 0.1)
    async with RawPeer(script) as peer, proxy(routes(of("doku"), peer.url)) as running:
        async with RawCaller("127.0.0.1", running.port) as caller:
            caller.send(b"GET /doku/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await peer.until(lambda peer: asked)
            first_connections_die(1, peer)
            assert (await caller.answer()).status == 200
        line = running.requests()[-1]
        assert (line["outcome"], line["attempts"], line["sent"]) == ("healed", 2, "maybe")
        assert [
            running.metric("paraf_attempts_total", reason=reason) for reason in ("first", "healed", "reconnect")
        ] == [1, 0, 1]
        assert len(signed) == 3
