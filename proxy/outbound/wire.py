"""The transport of signed calls: keep-alive connections of our own. ClientSession's objects cost half a request."""

import asyncio
import math
import ssl
from collections import deque
from typing import cast

from proxy.errors import ProxyError
from proxy.model import Attempt, SignedRequest
from proxy.outbound.answer import Answer
from proxy.outbound.dial import Dial, Road, verified_tls
from proxy.outbound.line import READ, Line
from proxy.outbound.message import written
from proxy.outbound.transport import Patience
from proxy.outbound.trust import Trust


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
        self._loop = asyncio.get_running_loop()
        self._dial = Dial(tls or verified_tls(), road)
        self._buffer = memoryview(bytearray(READ))
        self._places = _Places(connections or 2**31)
        self._keep = keep
        self._age = age
        self._most_idle = most_idle
        self._lines: set[Line] = set()
        self._idle: dict[str, list[Line]] = {}
        self._trusts: dict[str, Trust] = {}
        self._closed = False

    async def send(self, request: SignedRequest, patience: Patience, attempt: Attempt) -> Answer:
        message = written(request)
        if self._closed:
            raise ProxyError("shutting_down", "the connections to the provider are closed", sent=attempt.sent)
        if not self._places.taken():
            await self._place(patience.connect)
        line = self._kept(message.origin) or await self._opened(message.origin, patience.connect)
        attempt.sent = "maybe"
        head = line.ask(message, patience)
        if head is None:
            attempt.sent = "no"
            raise ProxyError("upstream_unreachable", "the connection to the provider had ended")
        try:
            return await head
        except asyncio.CancelledError:
            line.abort()
            raise

    async def close(self) -> None:
        self._closed = True
        for line in tuple(self._lines):
            line.end()
        await asyncio.sleep(0)  # the loop ends them in its next turn

    def freed(self, line: Line, *, reusable: bool) -> None:
        self._places.leave()
        if line.fresh:
            self._dial.remember(line.transport)
        keep = min(line.keep, self._keep)
        if reusable and keep and not self._closed:
            idle = self._idle.setdefault(line.origin, [])
            if len(idle) >= self._most_idle:
                line.end()
                return
            line.rest(keep)
            idle.append(line)
        elif reusable:
            line.end()

    def ended(self, line: Line, age: float) -> None:
        self._trust(line.origin).ended(age, self._loop.time())

    def _trust(self, origin: str) -> Trust:
        trust = self._trusts.get(origin)
        if trust is None:
            trust = self._trusts[origin] = Trust(self._keep)
        return trust

    def lost(self, line: Line) -> None:
        self._lines.discard(line)
        idle = self._idle.get(line.origin, ())
        if line in idle:
            cast("list[Line]", idle).remove(line)

    def _kept(self, origin: str) -> Line | None:
        """An idle connection; the one used last comes first, so that the others can end."""
        idle = self._idle.get(origin)
        while idle:
            line, now = idle.pop(), self._loop.time()
            if line.wakes(now, self._trust(origin).span(now)) and now - line.born < self._age:
                return line
            line.end()
        return None

    async def _place(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._places.turn()
        except TimeoutError:
            raise ProxyError("upstream_timeout", "no connection to the provider became free in time") from None

    async def _opened(self, origin: str, seconds: float) -> Line:
        try:
            line = await self._dial.open(origin, lambda: Line(self, origin, self._buffer), seconds)
            self._lines.add(line)
            await asyncio.sleep(0)  # what a server said together with the end of the handshake is read by then
            if not line.is_open or not line.is_silent() or self._closed:
                line.end()
                raise ProxyError("upstream_unreachable", "no connection to the provider")  # noqa: TRY301  one way out
        except BaseException:
            self._places.leave()
            raise
        return line


class _Places:
    """`most` at once; who waits gets one in the order of asking."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._line: deque[asyncio.Future[None]] = deque()

    def taken(self) -> bool:
        """One is taken, if one is free now."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def turn(self) -> None:
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
        self._free += 1
