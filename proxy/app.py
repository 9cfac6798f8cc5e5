"""One process, built from Settings and a Generation: what it is made of, and the order in which it starts and stops."""

import asyncio
import gc
import math
import os
import random
import resource
import secrets
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, TextIO

import proxy.rootless  # noqa: F401 -- before what imports aiohttp
from proxy import __version__
from proxy.answers import Answerer, TokenAnswers
from proxy.clock import SystemClock
from proxy.errors import StartError
from proxy.fetch import TokenFetch, sparing
from proxy.generation import Generation, Lane
from proxy.hardening import no_dumps
from proxy.ids import RequestIds
from proxy.inbound.admin import AdminServer, State
from proxy.inbound.bodies import Bodies
from proxy.inbound.listeners import Listeners, bound
from proxy.inbound.server import InboundServer
from proxy.inbound.standin import with_standins
from proxy.inbound.tunnels import Tunnels
from proxy.inbound.turns import Seat
from proxy.inbound.ways import match
from proxy.model import Clock, InboundRequest
from proxy.outbound.dial import ResumingContext, verified_tls
from proxy.outbound.reach import Address, listening
from proxy.outbound.session import SessionTransport
from proxy.outbound.transport import Transport
from proxy.outbound.wire import WireTransport
from proxy.overview import Overview
from proxy.pipeline import Pipeline
from proxy.recent import Recent, inquest_of
from proxy.settings import Settings
from proxy.shadow import Shadows
from proxy.standing import Standing, Succession, connections, same_provider, succeeding
from proxy.storeforms import StoreKind
from proxy.stores.opening import opened
from proxy.telemetry.ended import Ended
from proxy.telemetry.labels import CircuitState
from proxy.telemetry.logs import RequestLog, configure, set_level, silence_aiohttp
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.news import RequestNews, StoreNews, TokenNews
from proxy.telemetry.story import Story
from proxy.telemetry.writer import alone, among_others
from proxy.tokens import Tokens

POOL_SPARE: Final = 8
"""Connections beside a route's concurrency, for what is given up and not yet gone."""


def transport_for(lane: Lane, system: ssl.SSLContext | None = None, listening: Collection[Address] = ()) -> Transport:
    """A pool of the route's own: routes share no connection. `system`: a context that trusts the system's roots.

    `listening`: where we do.
    """
    concurrency, outlet = lane.route.limits.concurrency, lane.outlet
    return WireTransport(
        tls=outlet.tls(system),
        road=outlet.road(system, listening),
        connections=0 if math.isinf(concurrency) else int(concurrency) + POOL_SPARE,
        keep=outlet.idle,
        age=outlet.age,
        most_idle=outlet.most_idle,
    )


def _token_transport(lane: Lane, system: ssl.SSLContext, listening: Collection[Address]) -> Transport:
    return SessionTransport(tls=lane.outlet.tls(system), road=lane.outlet.road(system, listening))


def _speaks_tls(lane: Lane) -> bool:
    token_url = lane.exchange.url if lane.exchange else ""
    return lane.route.base.scheme == "https" or token_url.startswith("https:") or lane.outlet.egress is not None


@asynccontextmanager
async def token_calls(generation: Generation, clock: Clock) -> AsyncIterator[TokenFetch]:
    """For a process that asks providers for tokens and serves nobody."""
    system = verified_tls()  # once: the roots take 60 ms to read (measured)
    sessions = {name: _token_transport(lane, system, ()) for name, lane in generation.lanes.items() if lane.exchange}
    try:
        yield TokenFetch(generation, sessions, clock)
    finally:
        for session in sessions.values():
            await session.close()


def metrics_of(
    generation: Generation,
    store: StoreKind,
    clock: Clock,
    ended: Ended | None = None,
    circuits: Callable[[], Mapping[str, CircuitState]] = dict,
) -> Metrics:
    accounts = [account.name for account in generation.accounts]
    return Metrics(
        list(generation.lanes),
        accounts,
        store=store,
        version=__version__,
        python=sys.version.split()[0],
        clock=clock,
        shadows=[name for name, lane in generation.lanes.items() if lane.bystander],
        ended=ended,
        circuits=circuits,
    )


class App:
    """`log` is where log lines go. `async with app.running(): ...` serves; `addresses` are then the real ones.

    Without `listeners` it binds its own. `seat` is its place among workers that share them.
    One that `spares` fetches no token for exclusive accounts.
    """

    def __init__(
        self,
        settings: Settings,
        generation: Generation,
        log: TextIO = sys.stderr,
        *,
        listeners: Listeners | None = None,
        seat: Seat | None = None,
        spares: bool = False,
    ) -> None:
        self._settings = settings
        self._generation = generation
        self._listeners = listeners
        self._seat = seat
        self._spares = spares
        self._clock = SystemClock()
        self.logger = configure(
            settings.log.level, settings.log.format, log, self._clock, writer=among_others if seat else alone
        )
        if seat is not None:
            self.logger = self.logger.bind(worker=seat.number)
        self.ended = Ended(self._clock)
        self.metrics = metrics_of(generation, settings.store.kind, self._clock, self.ended, self._circuits)
        self.lines = RequestLog(self.logger, self.ended)
        self._bodies = Bodies(settings.room)
        self._clocks_off: set[str] = set()
        self._system: ssl.SSLContext | None = None
        self.state: State = "starting"
        self.addresses: list[str] = []
        self.admin_address: str | None = None
        self.recent = Recent(lambda: self._generation.lanes, self.ended)
        self.answers: dict[str, Answerer] = {}
        """What it can be asked of itself while it runs, by word."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["App"]:
        """Started in this order, stopped in the other. Sockets come first, so that an address in use ends it all;
        callers wait in their queues until the last step.
        """
        silence_aiohttp(self.logger)
        async with AsyncExitStack() as stack:
            stack.callback(self.lines.close)
            self.listeners = listeners = self._listeners or stack.enter_context(bound(self._settings, {}))
            self._own = [address for listener in listeners.callers for address in listening(listener.sock)]
            self._succession = Succession(self.ended)
            stack.push_async_callback(self._succession.close)
            tokens = self._tokens = await self._open_tokens(stack)
            self._succession.follow(self._standing(None))
            self.answers |= TokenAnswers(lambda: self.generation.accounts, tokens, self._clock).by_word()
            self.answers |= Overview(lambda: self.generation, self.metrics.numbers, self.recent.rows).by_word()
            await self._start_admin(listeners, stack)
            self._start_inbound(listeners, stack)
            self.metrics.loaded()
            self.state = "ready"
            yield self
            self.state = "stopping"

    @property
    def generation(self) -> Generation:
        """What new requests are served by."""
        return self._generation

    @property
    def settings(self) -> Settings:
        """As new requests are served by them."""
        return self._settings

    @property
    def in_service(self) -> list[int]:
        """The generations that requests or token calls are under way on, and the newest."""
        return self._succession.numbers

    @property
    def drain_seconds(self) -> float:
        """How long it may take to stop."""
        return self._settings.drain.delay + self._settings.drain.timeout + 1

    def swap(self, settings: Settings, generation: Generation) -> None:
        """From here on every new request is served by this generation; what is under way ends with its own.

        Nothing is changed if it cannot be done.
        """
        before = self._settings, self._generation
        self._settings, self._generation = settings, succeeding(generation, self._generation)
        try:
            standing = self._standing(self._succession.newest)
        except BaseException:
            self._settings, self._generation = before
            raise
        self.ended.flush()  # what has ended is told as it was
        self._bodies.most = settings.room
        set_level(self.logger, settings.log.level)
        self.lines.follow()
        self._tokens.adopt(generation.accounts)
        self._store.log_in(generation.store.login)
        self.metrics.follow(metrics_of(generation, self._settings.store.kind, self._clock))
        for name in self._generation.lanes:
            if not same_provider(name, generation, before[1]):  # nothing is known of the clock there
                self.metrics.skew(name, 0.0)
                self._clocks_off.discard(name)
        self.recent.follow(before[1].lanes, generation.number)
        self._succession.follow(standing)
        self.metrics.loaded()

    async def _open_tokens(self, stack: AsyncExitStack) -> Tokens:
        """Closed before its store, and that before the connections to providers."""
        news, login = StoreNews(self._settings.store.kind, self.metrics, self.logger), self._generation.store.login
        store = await stack.enter_async_context(
            opened(self._settings.store, login, self._succession.store_secrets, self._clock, news)
        )
        self._store = store
        tokens = Tokens(
            store,
            sparing(self._succession.fetch) if self._spares else self._succession.fetch,
            self._clock,
            owner=f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}",
            jitter=random.random,
            watch=TokenNews(self.metrics, self.logger),
            using=self._succession.using,
        )
        stack.push_async_callback(tokens.close)
        return tokens

    def _standing(self, before: Standing | None) -> Standing:
        """The generation, with all that serves its requests."""
        generation, lanes, table = self._generation, self._generation.lanes, self._generation.table
        system = self._roots()
        transports, sessions = connections(
            generation,
            before,
            lambda lane: transport_for(lane, system, self._own),
            lambda lane: _token_transport(lane, system, self._own),
        )
        sending = transports
        if any(lane.bystander for lane in lanes.values()):
            shadows = Shadows(generation, self._clock, self.metrics, self.logger)
            lanes, sending = shadows.lanes, shadows.over(transports)

        def lane_of(request: InboundRequest) -> tuple[Lane, str]:
            found = match(table, request)
            return lanes[found.route.name], found.target

        def window(route: str) -> float | None:
            return lanes[route].profile.time_window if same_provider(route, generation, self._generation) else None

        watch = RequestNews(self.metrics, self.logger, window, self._clocks_off)
        told = watch, self._circuit, self._settings.trace.propagate, inquest_of(lanes.values())
        pipeline = Pipeline(lane_of, sending, self._tokens, self._clock, *told)
        way = with_standins(lanes, self._settings.allowed_hosts, pipeline.handle, self._clock, self.metrics)
        fetch = TokenFetch(generation, sessions, self._clock)
        return Standing(generation, way, fetch, transports, sessions)

    def _roots(self) -> ssl.SSLContext:
        """Read once, and only if a lane speaks TLS: that takes 60 ms and most of a MiB (measured)."""
        if self._system is None and any(map(_speaks_tls, self._generation.lanes.values())):
            self._system = verified_tls()
        return self._system or ResumingContext()

    async def _start_admin(self, listeners: Listeners, stack: AsyncExitStack) -> None:
        if not listeners.admin:
            return
        admin = AdminServer(self._page, lambda: self.state)
        await admin.start(*(listener.sock for listener in listeners.admin))
        stack.push_async_callback(admin.stop)
        self.admin_address = listeners.admin[0].address

    async def _page(self) -> tuple[bytes, str]:
        return self.metrics.render()

    def _start_inbound(self, listeners: Listeners, stack: AsyncExitStack) -> None:
        request_id, succession, monotonic = RequestIds().request_id, self._succession, self._clock.monotonic
        story, tell = self._traced(stack)
        server = InboundServer(
            way=succession.way,
            tell=tell,
            new_story=lambda method: story(request_id(), method, monotonic(), succession.newest.number),
            clock=self._clock,
            complain=lambda words: self.logger.error("fault", words=words),
            seat=self._seat,
            bodies=self._bodies,
            tunnels=Tunnels(
                lambda: self._generation,
                self._clock,
                arrived=self.metrics.arrived,
                remark=lambda route, words: self.logger.warning("interception", route=route, words=words),
            ),
        )
        stack.push_async_callback(self._drain, listeners, server)
        for listener in listeners.callers:
            server.listen(listener.sock)
            self.addresses.append(listener.address)

    def _traced(self, stack: AsyncExitStack) -> tuple[type[Story], Callable[[Story], None]]:
        """What the story of a request is, and who is told of it. Raises StartError."""
        if self._settings.trace.otlp is None:
            return Story, self.ended.add
        try:
            from proxy.telemetry.traces import TracedStory, Traces  # noqa: PLC0415 -- an extra, and dear to load
        except ImportError:
            raise StartError("`trace.otlp` needs OpenTelemetry: pip install 'paraf[otel]'") from None
        traces = Traces(self._settings.trace.otlp, __version__)
        stack.push_async_callback(traces.close)

        def tell(story: Story) -> None:
            self.ended.add(story)
            traces.told(story)

        return TracedStory, tell

    def _circuit(self, lane: Lane) -> None:
        """Of a breaker that new requests meet: that of a generation before may speak of another provider."""
        name, breaker = lane.route.name, lane.breaker
        newest = self._generation.lanes.get(name)
        if newest is not None and newest.breaker is breaker:
            self.lines.circuit(name, breaker.state(self._clock.monotonic()))

    def _circuits(self) -> dict[str, CircuitState]:
        """As they are now: nothing happens when a probe becomes due, so nobody could tell of it."""
        now = self._clock.monotonic()
        return {name: lane.breaker.state(now) for name, lane in self._generation.lanes.items()}

    async def _drain(self, listeners: Listeners, server: InboundServer) -> None:
        drain, task = self._settings.drain, asyncio.current_task()
        try:
            if not (task and task.cancelling()):  # else the second signal came before this began
                await asyncio.sleep(drain.delay)
                listeners.turn_away()
                await server.drain(drain.timeout)
        finally:
            await server.close()  # also when a second signal does not wait: what is cut off is told why


def prepare_process() -> None:
    """What a process that holds keys and connections wants of its system. SIGHUP reloads; until somebody listens to it,
    it must not end what is in flight.
    """
    no_dumps()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever ignores it and starts us would hide how workers end


def settle_process() -> None:
    """All that serves stands now, and stays: no collection need walk through it. Loading leaves hardly a circle (18
    objects, measured), for which a last walk would hold the loop for 20 ms.
    """
    gc.freeze()


def event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """That of uvloop where it is installed (`paraf[fast]`), asyncio's own elsewhere."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 -- an extra, and dear to load where nothing is served
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop
