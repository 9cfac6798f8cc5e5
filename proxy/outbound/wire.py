"""The transport of signed calls: keep-alive connections of our own. ClientSession's objects cost half a request."""

import asyncio
import math
import ssl
from collections import deque

from proxy.errors import ProxyError
from proxy.model import Attempt, SignedRequest
from proxy.outbound.answer import Answer
from proxy.outbound.dial import Dial, Road, verified_tls
from proxy.outbound.line import READ, Line
from proxy.outbound.message import written
from proxy.outbound.transport import Patience
from proxy.outbound.trust import Trust
from proxy.outbox import Outbox, outbox


class WireTransport:
    """A Transport with one pool and one TLS context. Build it inside the running loop.

    `connections`: most that are in use at once; 0 is no limit. `keep`: the most seconds that an idle one is kept; 0 is
    never. A provider that keeps them shorter is learned from: see `proxy.outbound.trust`. `age`: seconds after which
    one is not used again, so that a provider that moved is followed. `most_idle`: for each origin, how many are kept.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        road: Road | None = None,
        connections: int = 1024,
        keep: float = 15.0,
        age: float = 300.0,
        most_idle: float = math.inf,
    ) -> None:
        self._dial = Dial(tls or verified_tls(), road)
        self._buffer = memoryview(bytearray(READ))
        self._outbox = outbox()
        self._places = _Places(connections or 2**31)
        self._limits = {"keep": keep, "age": age, "most_idle": most_idle}
        self._origins: dict[str, _Origin] = {}
        self._closed = False

    async def send(self, request: SignedRequest, patience: Patience, attempt: Attempt) -> Answer:
        url, head = written(request)
        if self._closed:
            raise ProxyError("shutting_down", "the connections to the provider are closed", sent=attempt.sent)
        origin = self._origins.get(url) or self._origin(url)
        places = self._places
        if places.free:
            places.free -= 1
        else:
            await self._place(patience.connect)
        line = origin.kept() or await self._opened(origin, patience.connect)
        attempt.sent = "maybe"
        answer = line.ask(head, request.body, patience)
        try:
            await answer.head
        except asyncio.CancelledError:
            await answer.close()  # not the line itself: it may be another's, if the answer came in this very turn
            raise
        except ProxyError as fault:
            attempt.sent = fault.sent
            del answer  # it holds the fault, whose traceback holds this frame and all that was to be sent
            raise
        return answer

    async def close(self) -> None:
        self._closed = True
        for origin in self._origins.values():
            origin.close()
        await asyncio.sleep(0)  # the loop ends the connections in its next turn

    def _origin(self, url: str) -> "_Origin":
        made = self._origins[url] = _Origin(url, self._outbox, self._places, self._dial, **self._limits)
        return made

    async def _place(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._places.turn()
        except TimeoutError:
            raise ProxyError("upstream_timeout", "no connection to the provider became free in time") from None

    async def _opened(self, origin: "_Origin", seconds: float) -> Line:
        try:
            line = await self._dial.open(origin.url, lambda: Line(origin, self._buffer), seconds)
            origin.lines.add(line)
            await asyncio.sleep(0)  # what a server said together with the end of the handshake is read by then
            if not line.is_open or not line.is_silent() or self._closed:
                line.end()
                raise ProxyError("upstream_unreachable", "no connection to the provider")  # noqa: TRY301  one way out
        except BaseException:
            self._places.leave()
            raise
        return line


class _Origin:
    """The connections to one scheme, host and port: the Pool of their lines."""

    def __init__(
        self, url: str, outbox: Outbox, places: "_Places", dial: Dial, *, keep: float, age: float, most_idle: float
    ) -> None:
        self.url = url
        self.outbox = outbox
        self.keep = keep
        self.lines: set[Line] = set()
        self.idle: list[Line] = []
        self._loop = asyncio.get_running_loop()
        self._places = places
        self._dial = dial
        self._age = age
        self._most_idle = most_idle
        self._trust = Trust(keep)

    def kept(self) -> Line | None:
        """An idle connection; the one used last comes first, so that the others can end."""
        idle = self.idle
        while idle:
            line, now = idle.pop(), self._loop.time()
            if line.wakes(now, self._trust.span(now)) and now - line.born < self._age:
                return line
            line.end()
        return None

    def freed(self, line: Line, *, reusable: bool) -> None:
        self._places.leave()
        if line.fresh:
            line.fresh = False
            self._dial.remember(line.transport)
        if reusable and line.keep and len(self.idle) < self._most_idle:
            self.idle.append(line)
        elif reusable:
            line.end()

    def ended(self, age: float) -> None:
        """What has not left yet on others of such an age does not leave on them."""
        now, trust = self._loop.time(), self._trust
        before = trust.span(now)
        trust.ended(age, now)
        trusted = trust.span(now)
        if trusted < before:  # thousands may end at once: the first of them changes it
            for line in tuple(self.lines):
                line.distrust(trusted)

    def lost(self, line: Line) -> None:
        self.lines.discard(line)
        if line in self.idle:
            self.idle.remove(line)

    def close(self) -> None:
        self._most_idle = 0
        for line in tuple(self.lines):
            line.end()


class _Places:
    """`most` at once; who waits gets one in the order of asking."""

    def __init__(self, most: int) -> None:
        self.free = most
        self._line: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Takes a place when none is free."""
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # handed over in the very moment of giving up
                self.leave()
            raise

    def leave(self) -> None:
        """A place that is left goes straight to the first who waits, so none is free while one waits."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1
