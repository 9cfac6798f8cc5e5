"""Callers' requests in, answers out: sockets, starting and stopping, and the one place where a request ends."""

import asyncio
import ipaddress
import math
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR

from proxy.errors import ProxyError
from proxy.inbound.accepting import Accepting
from proxy.inbound.bodies import Bodies
from proxy.inbound.call import Call
from proxy.inbound.connection import CallerConnection
from proxy.inbound.intercept import connect_headers, established, turn
from proxy.inbound.problem import problem, refusal_phrase
from proxy.inbound.reading import headers_of, unreadable
from proxy.inbound.relay import lines_of, relay, relayed, write_own
from proxy.inbound.terms import CallerLeft, ServerLimits
from proxy.inbound.tunnels import Tunnels
from proxy.inbound.turns import Seat, Turns
from proxy.model import Clock, InboundRequest, Tunnel, UpstreamResponse
from proxy.outbox import outbox
from proxy.telemetry.logs import place
from proxy.telemetry.story import Story
from proxy.telemetry.traceparent import traced

__all__ = ("InboundServer", "ServerLimits")

Way = Callable[[InboundRequest, Story], Awaitable[UpstreamResponse]]

SETTLE: Final = 0.1
"""Seconds in which handshakes end and the queues of the listening sockets run empty."""
LAST_CALL: Final = 0.5
"""Seconds, SETTLE included, in which a caller who is connected may send one more request. Its answer says close.

Closing at once loses what a caller sends at that moment (nginx has keepalive_min_timeout for the same reason).
"""


class InboundServer:
    """Serves HTTP/1.1 on sockets that are handed in. Build it inside the running loop.

    `way` answers a request or raises ProxyError. `new_story` makes a Story with a fresh request id for a method;
    `tell` gets it exactly once, at the end. `complain` gets one line, without any caller's or provider's bytes, for
    a fault of ours. `seat` is this process's among others that accept from the same sockets. Without `tunnels`
    CONNECT is a method like others that are not passed on. `bodies` bounds what all requests hold together.
    """

    def __init__(
        self,
        way: Way,
        *,
        tell: Callable[[Story], None],
        new_story: Callable[[str], Story],
        clock: Clock,
        complain: Callable[[str], None],
        limits: ServerLimits | None = None,
        seat: Seat | None = None,
        tunnels: Tunnels | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        self._way = way
        self._tell = tell
        self._new_story = new_story
        self._clock = clock
        self._complain = complain
        self.limits = limits or ServerLimits()
        self.outbox = outbox()
        self._connections: dict[CallerConnection, None] = {}
        self._tunnels = tunnels
        self._bodies = bodies or Bodies(math.inf)
        self._seat = seat or Turns(1).seat(0)
        self._listening: list[Accepting] = []
        self._draining = self._last_called = False
        self._closing = False

    def listen(self, sock: socket.socket) -> None:
        """Accept on a listening TCP or unix socket, which from now on is ours to close."""
        loopback = _is_loopback(sock)
        connect = partial(self._connection, loopback, None)
        self._listening.append(Accepting(sock, connect, self._seat, self.complain_of))

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 -- what is left then is close()'s
        """Let what is in flight end, for at most `timeout` seconds, and take no more.

        Whoever is in a queue or connected already is served once more within LAST_CALL; who is idle then is closed.
        """
        self._draining = True
        for connection in tuple(self._connections):
            connection.retiring = True
        await asyncio.sleep(min(SETTLE, timeout))
        for accepting in self._listening:
            await accepting.stop()
        await self._ended(min(LAST_CALL, timeout) - SETTLE)
        await asyncio.sleep(0)  # what the loop has read already is in flight
        self._last_called = True
        for connection in tuple(self._connections):
            connection.retire()
        await self._ended(timeout - LAST_CALL)

    async def close(self) -> None:
        """End every connection; calls still in flight are answered with `shutting_down`."""
        await self.drain(0)
        self._closing = True
        for connection in tuple(self._connections):
            if connection.call is not None:
                connection.stop()
        await self._ended(1)
        for connection in tuple(self._connections):
            if connection.call is not None:  # others have said all, and are closing
                connection.reset()

    async def _ended(self, timeout: float) -> None:  # noqa: ASYNC109 -- likewise
        """Wait for every connection's task. It outlives a caller who left as long as an outcome is awaited."""
        due = self._clock.monotonic() + max(timeout, 0)
        while tasks := [each.task for each in self._connections if each.task is not None and not each.task.done()]:
            _, left = await asyncio.wait(tasks, timeout=due - self._clock.monotonic())
            if left:  # else look again: out of a connection that spoke CONNECT comes another
                return

    def _connection(self, loopback: bool, tunnel: Tunnel | None) -> CallerConnection:  # noqa: FBT001 -- bound above
        return CallerConnection(self, loopback=loopback, retiring=self._draining, tunnel=tunnel)

    # What connections tell

    def came(self, connection: CallerConnection) -> bool:
        if len(self._connections) >= self.limits.connections:
            return False
        self._connections[connection] = None
        return True

    def lost(self, connection: CallerConnection) -> None:
        self._seat.lost()
        tunnel = connection.tunnel
        if self._tunnels and tunnel and not (connection.used or self._draining):
            self._tunnels.failed(tunnel.host, "hung up")

    def ended(self, connection: CallerConnection) -> None:
        self._connections.pop(connection, None)

    def complain_of(self, fault: BaseException) -> None:
        self._complain(place(fault))

    def refuse(self, connection: CallerConnection, fault: BaseException) -> None:
        story = self._new_story("other")
        self._refuse(Call(connection, ERROR, EMPTY_PAYLOAD, story, self._bodies), unreadable(fault))
        self._end(story)

    async def answer(self, connection: CallerConnection, message: RawRequestMessage, payload: StreamReader) -> Call:
        story, headers = self._new_story(message.method), message.headers
        if "traceparent" in headers:
            story.follow(traced(headers.getall("traceparent"), headers.getall("tracestate", ())))
        call = connection.call = Call(connection, message, payload, story, self._bodies)
        try:
            if call.method == "CONNECT" and self._tunnels and call.tunnel is None:
                await self._open_tunnel(call, self._tunnels)
            else:
                call.names, call.headers = headers_of(message)
                reply, marks = await self._way(call, story), _marks(story)
                if not relayed(call, reply, marks):
                    await relay(call, reply, marks)
        except ProxyError as error:
            self._refuse(call, error)
        except CallerLeft:
            story.outcome = "abandoned"
            call.break_off()
        except asyncio.CancelledError:
            self._stopped(call)
            if not (call.left or self._closing):
                raise
        except Exception as fault:  # noqa: BLE001 -- answered, and told without its text
            self.complain_of(fault)
            self._refuse(call, ProxyError("internal", "a fault in Paraf ended the call", sent=story.sent))
        finally:
            self._bodies.held -= call.held
            if not call.passed_on:
                self._end(story)
        return call

    async def _open_tunnel(self, call: Call, tunnels: Tunnels) -> None:
        call.names, call.headers = connect_headers(call.message)
        tunnel = tunnels.admit(call, call.story)
        kept = await tunnels.context(tunnel.host)
        call.begin(200, established(_marks(call.story)), keeps=False)
        call.passed_on = True
        inside = await turn(call.connection, kept, tunnel, partial(self._connection, call.loopback), tunnels.failed)
        if inside and self._last_called:
            inside.retire()

    def _refuse(self, call: Call, error: ProxyError) -> None:
        """Answer with the error; if the provider's answer was begun, break that off instead."""
        story = call.story
        story.outcome, story.error, story.detail = "error", error.code, error.detail
        story.provider_status = error.provider_status or story.provider_status
        story.provider_code = error.provider_code or story.provider_code
        if story.sent == "maybe":
            error.sent = "maybe"
        if call.begun:
            call.break_off()
            return
        status, headers, body = problem(error, story.request_id)
        try:
            phrase = refusal_phrase(error) if call.method == "CONNECT" else None
            write_own(call, status, lines_of(headers) + _external_id(story), body, phrase)
        except CallerLeft:
            story.outcome = "abandoned"
        if error.code == "request_timeout":
            call.connection.linger_briefly()

    def _stopped(self, call: Call) -> None:
        """Cancelled: because the caller left, because we close, or because the whole loop does."""
        call.story.outcome = "abandoned"
        if self._closing and not call.left:
            self._refuse(call, ProxyError("shutting_down", "Paraf stopped before the answer came"))

    def _end(self, story: Story) -> None:
        story.total = self._clock.monotonic() - story.started
        self._tell(story)


def _marks(story: Story) -> bytes:
    """What the caller gets to know beside the provider's answer."""
    return b"X-Paraf-Request-Id: %b\r\n%b" % (story.request_id.encode(), _external_id(story))


def _external_id(story: Story) -> bytes:
    return f"X-Paraf-External-Id: {story.external_id}\r\n".encode() if story.external_id else b""


def _is_loopback(sock: socket.socket) -> bool:
    """Of the address that is listened on: behind such a one may be a browser with a rebound name."""
    if sock.family == socket.AF_UNIX:
        return False
    return ipaddress.ip_address(sock.getsockname()[0]).is_loopback
