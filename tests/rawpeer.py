"""Raw sockets for tests: a provider that records every byte and misbehaves by script, and a caller that does so too.

    async with RawPeer(lambda request: ok(b'{}')) as peer:
        ...
        assert peer.requests[0].target == b"/v1/pay?"

A script gets each request and returns bytes, or steps, lazy ones too: bytes are written, a number is a pause in
seconds, an `asyncio.Event` is waited for, `CLOSE` ends the connection cleanly and `RESET` rudely.
"""

import asyncio
import contextlib
import enum
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Self


class Ending(enum.Enum):
    CLOSE = "FIN"
    RESET = "RST"


CLOSE = Ending.CLOSE
RESET = Ending.RESET
Step = bytes | float | asyncio.Event | Ending
Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it stood on the wire. `connection` counts from 0; `body` is without chunk framing."""

    method: str
    target: bytes
    headers: Pairs
    body: bytes
    connection: int

    def values(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]


Script = Callable[[Request], bytes | Iterable[Step]]


def answer(status: str, body: bytes = b"", *lines: str) -> bytes:
    """A whole answer with Content-Length: `answer("404 Not Found", b"{}", "Content-Type: application/json")`."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}"))
    return head.encode() + b"\r\n" + body


def ok(body: bytes = b"", *lines: str) -> bytes:
    return answer("200 OK", body, *lines)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A whole chunked answer; `end` to break it."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@dataclass
class RawPeer:
    """An upstream on a loopback port. Leaving the block fails if a request was not strict HTTP/1.1."""

    script: Script
    greeting: bytes = b""
    """Said at once on every new connection, before any request."""
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    wanted_port: int = 0
    reads_bodies: bool = True
    """If not, the script is called at the end of a head, and what follows stays unread."""
    requests: list[Request] = field(default_factory=list)
    received: list[bytearray] = field(default_factory=list)
    """Every byte, by connection."""
    flaws: list[str] = field(default_factory=list)
    hangups: int = 0
    """Connections that the other side has ended."""
    _entered: list["_Connection"] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self.host, self.wanted_port, ssl=self.tls, backlog=1024
        )
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        for connection in self._entered:
            connection.writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind is None:
            assert self.flaws == []

    @property
    def readers(self) -> list[asyncio.StreamReader]:
        """By connection: what a script left unread."""
        return [connection.reader for connection in self._entered]

    @property
    def writers(self) -> list[asyncio.StreamWriter]:
        return [connection.writer for connection in self._entered]

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.received)

    async def say(self, data: bytes) -> None:
        """Write on every open connection, asked or not, and let it arrive."""
        for connection in self._entered:
            if not connection.writer.is_closing():
                connection.writer.write(data)
                await connection.writer.drain()
        await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[Self], bool], seconds: float = 5.0) -> None:
        """Wait for something to be so here: `await peer.until(lambda peer: peer.hangups == 1)`."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def _enter(self, connection: "_Connection") -> None:
        self._entered.append(connection)
        self.received.append(bytearray())
        task = asyncio.create_task(self._converse(connection, len(self.received) - 1))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _left(self) -> None:
        self.hangups += 1
        self._changed.set()

    async def _converse(self, connection: "_Connection", number: int) -> None:
        wire, writer = _Wire(connection.reader, self.received[number], self._changed), connection.writer
        writer.write(self.greeting)
        try:
            while request := await read_request(wire, number, with_body=self.reads_bodies):
                self.requests.append(request)
                self._changed.set()
                steps = self.script(request)
                if not await play([steps] if isinstance(steps, bytes) else steps, writer):
                    return
        except NotHttp as flaw:
            self.flaws.append(str(flaw))
        except (ConnectionError, ssl.SSLError):
            pass
        writer.close()


@contextlib.asynccontextmanager
async def side_by_side(here: Script, there: Script, host: str) -> AsyncIterator[tuple[RawPeer, RawPeer]]:
    """Two peers on one port: on 127.0.0.1, and on another address of this machine, where somebody may have it."""
    for _ in range(20):
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(RawPeer(here))
            try:
                second = await stack.enter_async_context(RawPeer(there, host=host, wanted_port=first.port))
            except OSError:
                continue
            yield first, second
            return
    raise OSError("no port is free on both")


class _Connection(asyncio.StreamReaderProtocol):
    """Streams that tell at once when the other side is gone, even while a script waits."""

    def __init__(self, peer: RawPeer) -> None:
        self.reader = asyncio.StreamReader(limit=2**26 if peer.reads_bodies else 1024)
        self.peer = peer
        self.over = False
        super().__init__(self.reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.writer = asyncio.StreamWriter(transport, self, self.reader, asyncio.get_running_loop())  # type: ignore[arg-type]
        self.peer._enter(self)

    def eof_received(self) -> bool | None:
        self._end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._end()
        super().connection_lost(exc)

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self.peer._left()


async def play(steps: Iterable[Step], writer: asyncio.StreamWriter) -> bool:
    """False when the script ended the connection."""
    for step in steps:
        match step:
            case bytes():
                writer.write(step)
                await writer.drain()
            case asyncio.Event():
                await step.wait()
            case Ending():
                hang_up(writer, step)
                return False
            case _:
                await asyncio.sleep(step)
    return True


def hang_up(writer: asyncio.StreamWriter, how: Ending) -> None:
    if how is RESET:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    else:
        writer.close()


class NotHttp(Exception):
    """The bytes are not a strict HTTP/1.1 message."""


@dataclass
class _Wire:
    """A reader that records."""

    reader: asyncio.StreamReader
    seen: bytearray
    changed: asyncio.Event

    async def line(self) -> bytes:
        return self._noted(await self.reader.readuntil(b"\r\n"))[:-2]

    async def exactly(self, size: int) -> bytes:
        return self._noted(await self.reader.readexactly(size))

    async def all(self) -> bytes:
        return self._noted(await self.reader.read())

    def _noted(self, data: bytes) -> bytes:
        self.seen.extend(data)
        self.changed.set()
        return data


_REQUEST_LINE = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([^\x00-\x08\x0a-\x1f\x7f]*)")


async def read_request(wire: _Wire, number: int, *, with_body: bool = True) -> Request | None:
    """None when the other side ended the connection between two requests."""
    try:
        line = await wire.line()
    except asyncio.IncompleteReadError as end:
        wire.seen.extend(end.partial)
        if end.partial:
            raise ConnectionResetError from None
        return None
    try:
        method, target = _matched(_REQUEST_LINE, line)
        headers = await _headers(wire)
        body = await _body(wire, headers) if with_body else b""
        return Request(method.decode(), target, headers, body, number)
    except asyncio.IncompleteReadError as end:
        wire.seen.extend(end.partial)
        raise ConnectionResetError from None


async def _headers(wire: _Wire) -> Pairs:
    pairs = []
    while line := await wire.line():
        name, value = _matched(_HEADER, line)
        pairs.append((name, value))
    return tuple(pairs)


def _matched(pattern: re.Pattern[bytes], line: bytes) -> tuple[bytes, bytes]:
    match = pattern.fullmatch(line)
    if match is None:
        raise NotHttp(repr(line))
    return match[1], match[2]


async def _body(wire: _Wire, headers: Pairs) -> bytes:
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
        raise NotHttp("framing")
    if lengths:
        return await wire.exactly(int(lengths[0]))
    return await _chunks(wire) if codings else b""


async def _chunks(wire: _Wire) -> bytes:
    body = b""
    while size := int(await wire.line(), 16):
        body += await wire.exactly(size)
        if await wire.line():
            raise NotHttp("chunk")
    while await wire.line():
        pass
    return body


@dataclass(frozen=True, slots=True)
class Answer:
    """What a raw caller read. `whole` is False when it was cut off; `body` is without chunk framing."""

    status: int
    reason: str
    headers: Pairs
    body: bytes
    whole: bool = True

    def values(self, name: str) -> list[str]:
        return [value.decode() for key, value in self.headers if key.lower() == name.lower().encode()]

    def value(self, name: str) -> str:
        (value,) = self.values(name)
        return value


@dataclass
class RawCaller:
    """A caller by hand: `async with RawCaller(host, port) as caller: caller.send(b"GET / ..."); await caller.answer()`.

    Every wait ends after `deadline` seconds with TimeoutError.
    """

    host: str
    port: int
    deadline: float = 20.0
    seen: bytearray = field(default_factory=bytearray)
    """Every byte that came."""

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=2**26)
        self._wire = _Wire(self.reader, self.seen, asyncio.Event())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, to_head: bool = False) -> Answer:
        """The next final or 1xx answer. Raises ConnectionError when the connection ended before its head."""
        async with asyncio.timeout(self.deadline):
            try:
                status_line = await self._wire.line()
                headers = await _headers(self._wire)
            except asyncio.IncompleteReadError:
                raise ConnectionResetError("ended before the head of an answer") from None
            _, code, reason = status_line.decode("latin-1").split(" ", 2)
            body, whole = await self._rest(headers, bodiless=to_head or code[0] == "1" or code in ("204", "304"))
        return Answer(int(code), reason, headers, body, whole)

    async def _rest(self, headers: Pairs, *, bodiless: bool) -> tuple[bytes, bool]:
        framed = any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers)
        if bodiless:
            return b"", True
        try:
            return await (_body(self._wire, headers) if framed else self._wire.all()), True
        except asyncio.IncompleteReadError as end:
            return end.partial, False
        except ConnectionError:
            return b"", False

    async def tunnel(self, target: str, tls: ssl.SSLContext, host: str | None = None, *headers: str) -> Answer:
        """CONNECT, and TLS inside it for `host`, by default the one of `target`, if the answer is 200."""
        lines = "".join(f"{line}\r\n" for line in (f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers))
        self.send(lines.encode() + b"\r\n")
        answer = await self.answer(to_head=True)
        if answer.status == 200:
            async with asyncio.timeout(self.deadline):
                await self.writer.start_tls(tls, server_hostname=host or target.rpartition(":")[0])
        return answer

    async def closed(self) -> bytes:
        """What still comes until the other side ends the connection."""
        async with asyncio.timeout(self.deadline):
            try:
                return await self._wire.all()
            except ConnectionError:
                return b""


async def exchange(host: str, port: int, payload: bytes, *, deadline: float = 20.0) -> bytes:
    """Send, and read until the other side closes or an answer is whole. TimeoutError after `deadline` seconds."""
    async with RawCaller(host, port, deadline) as caller:
        caller.send(payload)
        with contextlib.suppress(ConnectionError):
            await caller.answer(to_head=payload.startswith(b"HEAD "))
        return bytes(caller.seen)
