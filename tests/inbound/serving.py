"""An InboundServer on a loopback port, with what it told, and answers that a test can hold back or break."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rawpeer import RawCaller, exchange

from proxy.clock import SystemClock
from proxy.errors import ProxyError
from proxy.inbound.server import InboundServer, ServerLimits
from proxy.model import Attempt
from proxy.telemetry.story import Story


@dataclass
class Reply:
    """An UpstreamResponse by hand. Parts: bytes are a chunk, an event is waited for, an exception raised."""

    parts: tuple = ()
    status: int = 200
    reason: bytes = b"OK"
    headers: tuple = ()
    closed: bool = False
    ended: bool = False

    @property
    def fields(self):
        rows = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in self.headers]
        return tuple([name for name, _ in rows]), tuple([value for _, value in rows])

    def whole(self) -> bytes | None:
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, asyncio.Event):
                await part.wait()
            elif isinstance(part, Exception):
                raise part
            else:
                yield part
        self.ended = True

    async def close(self):
        self.closed = True


def whole(body=b"", **options):
    return Reply((body,), headers=(("Content-Length", str(len(body))),), **options)


BROKEN = ProxyError("upstream_protocol", "the provider's answer is cut off", sent="maybe")


@dataclass
class House:
    """`way` may be a coroutine function of request and story, or a Reply for everything."""

    way: object = None
    limits: ServerLimits = field(default_factory=ServerLimits)
    stories: list = field(default_factory=list)
    spoken: asyncio.Event = field(default_factory=asyncio.Event)
    complaints: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    bodies: list = field(default_factory=list)
    limit: int = 1_000_000
    tunnels: object = None
    room: object = None

    async def __aenter__(self):
        numbers = itertools.count(1)
        self.server = InboundServer(
            self._answer,
            tell=self._tell,
            new_story=lambda method: Story(f"id-{next(numbers)}", method, SystemClock().monotonic()),
            clock=SystemClock(),
            complain=self.complaints.append,
            limits=self.limits,
            tunnels=self.tunnels,
            bodies=self.room,
        )
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self.server.listen(sock)
        return self

    async def __aexit__(self, *_):
        await self.server.close()

    def _tell(self, story):
        self.stories.append(story)
        self.spoken.set()

    async def _answer(self, request, story):
        self.requests.append(request)
        if callable(self.way):
            return await self.way(request, story)
        self.bodies.append(await request.hold(self.limit))
        story.outcome = "forwarded"
        return self.way or whole(b"hello")

    def caller(self, deadline=20.0):
        return RawCaller("127.0.0.1", self.port, deadline)

    async def exchange(self, payload, **options):
        return await exchange("127.0.0.1", self.port, payload, **options)

    async def ask(self, payload, *, to_head=False):
        """One answer to these bytes on a connection of their own."""
        async with self.caller() as caller:
            caller.send(payload)
            return await caller.answer(to_head=to_head)

    async def told(self, count=1, seconds=20.0):
        """Wait until so many stories are told, and see that it stays so."""
        async with asyncio.timeout(seconds):
            while len(self.stories) < count:
                self.spoken.clear()
                await self.spoken.wait()
        await asyncio.sleep(0.02)
        assert len(self.stories) == count
        return self.stories


def get(target="/", *lines, method="GET", version="HTTP/1.1"):
    head = "".join(f"{line}\r\n" for line in (f"{method} {target} {version}", "Host: a", *lines))
    return head.encode() + b"\r\n"


def post(body=b"", *lines, method="POST", target="/"):
    return get(target, f"Content-Length: {len(body)}", *lines, method=method) + body


def sending(story):
    """What the transport does just before the first byte."""
    story.attempts.append(Attempt("maybe"))


@contextlib.asynccontextmanager
async def open_callers(house, payloads):
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(house.caller()) for _ in payloads]
        for caller, payload in zip(callers, payloads, strict=True):
            caller.send(payload)
        yield callers
