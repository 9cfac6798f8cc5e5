"""Several workers on the same sockets: started, watched, started again, and asked for their numbers.

SO_REUSEPORT was weighed: closing one of two such listeners reset 93 of 200 callers in its queue (measured), and a
second process of the same user takes half of them without a word. So every socket is bound once and inherited.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from socket import socket, socketpair
from typing import Any, Final, TextIO

from proxy import __version__
from proxy.alone import doors_of
from proxy.app import metrics_of
from proxy.clock import SystemClock
from proxy.crew import HUNG, Member
from proxy.errors import ConfigError, StartError
from proxy.inbound.admin import AdminServer, State
from proxy.inbound.control import ControlServer
from proxy.inbound.listeners import Listeners
from proxy.inbound.operations import ENDPOINTS
from proxy.inbound.turns import Turns
from proxy.loading import ConfigFile, Loaded
from proxy.notify import NOBODY, Notify
from proxy.reloading import Reloading, on_hangup
from proxy.settings import Settings
from proxy.standing import remembering
from proxy.telemetry.logs import configure, set_level, silence_aiohttp
from proxy.telemetry.merge import current, merge
from proxy.telemetry.metrics import page
from proxy.telemetry.news import ReloadNews
from proxy.telemetry.writer import without_thread
from proxy.variables import VARIABLES, named
from proxy.worker import Post, enter

FALSE_STARTS: Final = 5
"""Times in a row that a worker may end before it is ready, until all have been ready once."""
SCRAPE: Final = 0.5
"""Seconds in which workers tell their numbers; of one that does not, the last ones known stand."""
PULSE: Final = 1.0
"""Seconds between two looks at the numbers: what a crash can take out of the counters, and how a hang is found."""
ANSWER: Final = 60.0
"""Seconds in which a worker answers a question: a token call may take `timeouts.token`."""
START: Final = 10.0
"""Seconds in which a worker that was forked is ready."""
SPARE: Final = 5.0
"""Seconds beyond the drain, until a worker that has not ended is hurried, and then killed."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """`run()` serves until a signal comes. The listeners are closed by it, their owner need not."""

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        file: ConfigFile,
        listeners: Listeners,
        *,
        notify: Notify = NOBODY,
        directory: Path | None = None,
        log: TextIO = sys.stderr,
    ) -> None:
        self._settings = settings
        self._generation = loaded.generation
        self._file = file
        self._listeners = listeners
        self._directory = directory
        self._notify = notify
        clock = self._clock = SystemClock()
        self.logger = configure(settings.log.level, settings.log.format, log, clock, writer=without_thread)
        self._metrics = metrics_of(self._generation, settings.store.kind, clock)
        self._metrics.loaded()  # a worker that is started again would tell a later moment
        news = ReloadNews(self._metrics, self.logger)
        self.reloading = Reloading(file, loaded, self._swap, news=news, clock=clock, notify=notify, aside=_at_once)
        self._coming: Loaded | None = None
        """What a reload under way would turn to: who begins meanwhile has it built."""
        self._turns = Turns(settings.workers)
        self._changed = asyncio.Event()
        self._hurried = asyncio.Event()
        self._crew = [Member(number, self._changed.set) for number in range(settings.workers)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._was_ready = False
        self._signal: signal.Signals | None = None
        self._by_hand = False
        """It was `quit`: the signal that a pod's end brings next hurries nobody."""
        self._killed = False

    def run(self) -> int:
        """Exit code 0 after SIGTERM, 130 after Ctrl-C, 1 if a worker had to be killed. Raises StartError.

        Workers are forked while the loop stands still, so that none of its callbacks is half done in a child.
        """
        with asyncio.Runner() as runner:
            servers = AsyncExitStack()
            runner.run(self._open(servers))
            try:
                while due := runner.run(self._due()):
                    for member in due:
                        self._man(member, runner)
            finally:
                runner.run(servers.aclose())
        if self._signal is None:
            raise StartError(f"a worker ended {FALSE_STARTS} times before it was ready")
        return 1 if self._killed else 128 + signal.SIGINT if self._signal == signal.SIGINT else 0

    @property
    def state(self) -> State:
        """Ready once all are, and as long as one is: callers whose worker has crashed are served by the others."""
        if self._signal is not None:
            return "stopping"
        enough = any if self._was_ready else all
        return "ready" if enough(member.ready for member in self._crew) else "starting"

    def quit(self) -> None:
        if self._signal is None:
            self._signal, self._by_hand = signal.SIGTERM, True
        self._changed.set()

    async def ask(self, word: str, value: Any = None, *, one: bool = False) -> list[Any]:
        """As `Controlled`: of every worker that is ready, or of the first that answers."""
        if not one:
            return [answer for answers in await self._ask_each(word, value) for answer in answers]
        for member in self._crew:
            # One that is silent is not told: it would do again, when it wakes, what another one has done.
            if member.ready and (answers := await _in_time(member.inquire(word, value))):
                return answers
        return []

    async def _swap(self, loaded: Loaded) -> None:
        """In two steps, so that no worker serves it much before the others. Who is forked between them turns to it as
        they do, and who comes later comes with it. Raises ConfigError.
        """
        self._coming = loaded
        try:
            await _within(START, self._all_started())
            await self._build_everywhere(loaded)
            await _within(START, self._all_started())
        finally:
            self._coming = None
        self._generation = remembering(loaded.generation, self._generation)
        self._settings = replace(loaded.settings, store=self._settings.store)
        VARIABLES.hide(named(loaded.settings))  # before the next one is forked, who would show them
        set_level(self.logger, self._settings.log.level)
        self._metrics.follow(metrics_of(self._generation, self._settings.store.kind, self._clock))
        self._metrics.loaded()
        await self._swap_everywhere(loaded)

    async def _build_everywhere(self, loaded: Loaded) -> None:
        value = {"number": loaded.generation.number, "files": loaded.files.told()}
        if None in await self.ask("build", value):
            finding = loaded.settings.source.finding((), "a worker could not build it: its log line says why")
            raise ConfigError([finding])

    async def _swap_everywhere(self, loaded: Loaded) -> None:
        """A worker that does not follow is ended, and begins again with the new one: a hung one might wake with the old
        one. Who has begun again meanwhile has it.
        """
        before = [member.pid for member in self._crew]
        answered = await self._ask_each("swap", loaded.files.digest)
        for member, pid, answers in zip(self._crew, before, answered, strict=True):
            if answers != [loaded.generation.number] and member.pid == pid:
                self._kill(member, "it did not turn to the new configuration")

    async def _all_started(self) -> None:
        while any(member.starting for member in self._crew):
            self._changed.clear()
            await self._changed.wait()

    async def _ask_each(self, word: str, value: Any) -> list[list[Any]]:
        return await asyncio.gather(*(_in_time(member.inquire(word, value)) for member in self._crew))

    async def _open(self, servers: AsyncExitStack) -> None:
        silence_aiohttp(self.logger)
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)
            servers.callback(asyncio.get_running_loop().remove_signal_handler, number)
        self._start(self._pulse())
        admin = AdminServer(self._page, lambda: self.state)
        await admin.start(*(listener.sock for listener in self._listeners.admin))
        servers.push_async_callback(admin.stop)
        doors = doors_of(lambda: self._settings, lambda: self._generation, self._listeners)
        control = ControlServer(ENDPOINTS, self, doors)
        await control.start(*(listener.sock for listener in self._listeners.control))
        servers.push_async_callback(control.stop)
        await servers.enter_async_context(on_hangup(self.reloading))

    def _signalled(self, number: signal.Signals) -> None:
        if self._signal is not None and not self._by_hand:
            self._hurried.set()
        self._signal, self._by_hand = self._signal or number, False
        self._changed.set()

    async def _due(self) -> list[Member]:
        """Those to start now; none when all is over."""
        while True:
            self._changed.clear()
            self._announce()
            now = time.monotonic()
            absent = [member for member in self._crew if member.pid is None]
            if self._signal is not None or self._fails():
                await self._stop()
                return []
            if due := [member for member in absent if member.due <= now]:
                return due
            with suppress(TimeoutError):
                patience = min((member.due - now for member in absent), default=None)
                await asyncio.wait_for(self._changed.wait(), patience)

    def _announce(self) -> None:
        if not self._was_ready and self.state == "ready":
            self._was_ready = True
            self.logger.info("ready", **self._listeners.told, version=__version__, workers=len(self._crew))
            self._notify.ready(f"generation {self._generation.number}")

    def _fails(self) -> bool:
        return not self._was_ready and any(member.false_starts >= FALSE_STARTS for member in self._crew)

    def _man(self, member: Member, runner: asyncio.Runner) -> None:
        try:
            pid, line = self._fork(member)
        except OSError as error:
            self.logger.error("worker not started", worker=member.number, words=error.strerror)  # noqa: TRY400
            member.fail()
        else:
            self.logger.info("worker started", worker=member.number, pid=pid)
            runner.run(self._follow(member, pid, line))

    def _fork(self, member: Member) -> tuple[int, socket]:
        """Process id, and our end of the line to it. Raises OSError."""
        ours, theirs = socketpair()
        post = Post(
            number=member.number,
            settings=self._settings,
            generation=self._generation,
            file=self._file,
            listeners=self._listeners,
            turns=self._turns,
            line=theirs,
            directory=self._directory,
            coming=self._coming,
        )
        with ExitStack() as undo, closing(theirs), _signals_blocked():
            undo.callback(ours.close)
            gc.freeze()  # a collection in the child must neither touch shared pages nor close what is the parent's
            pid = os.fork()
            if pid == 0:
                enter(post)
            undo.pop_all()
        return pid, ours

    async def _follow(self, member: Member, pid: int, line: socket) -> None:
        await member.begin(pid, line)
        self._start(self._life(member))

    async def _life(self, member: Member) -> None:
        await member.live()
        self._turns.vacate(member.number)
        if self._signal is None or member.exit_code:
            self.logger.warning(
                "worker ended", worker=member.number, by=_how(member.exit_code), after=round(member.lived, 3)
            )

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(PULSE)
            await self._ask()
            for member in self._crew:
                member.count_silence()
                if member.unanswered == HUNG and self._signal is None:  # else its time is `drain.timeout`
                    self._kill(member, f"it hangs: no answer for {HUNG * (PULSE + SCRAPE):.0f} s")

    async def _ask(self) -> None:
        await _within(SCRAPE, *(member.ask() for member in self._crew), until=asyncio.ALL_COMPLETED)

    async def _page(self) -> tuple[bytes, str]:
        await self._ask()
        own = self._metrics.numbers()
        return page(current(merge([own, *(member.numbers for member in self._crew)]), own))

    async def _stop(self) -> None:
        """Drain, hurry, kill: each for those whom the step before did not end."""
        drain = self._settings.drain
        self.logger.info("stopping")
        self._notify.stopping(drain.delay + drain.timeout + 3 * SPARE)
        await _within(drain.delay, self._hurried.wait())
        self._listeners.turn_away()
        for listener in self._listeners.callers:
            listener.sock.close()  # the workers still have it; the last one to close it frees the address
        self._say("stop")
        await _within(drain.timeout + SPARE, self._all_ended(), self._hurried.wait())
        self._say("hurry")
        await _within(SPARE, self._all_ended())
        for member in self._crew:
            self._killed |= member.pid is not None
            self._kill(member, "it did not end in time")
        await self._all_ended()

    def _say(self, word: str) -> None:
        for member in self._crew:
            member.say(word)

    def _kill(self, member: Member, words: str) -> None:
        if member.pid is not None:
            self.logger.error("worker killed", worker=member.number, words=words)
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(member.pid, signal.SIGKILL)

    async def _all_ended(self) -> None:
        while any(member.pid is not None for member in self._crew):
            self._changed.clear()
            await self._changed.wait()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _at_once(work: Callable[[], Any]) -> Any:
    """A supervisor serves no callers, and must have no thread when it forks."""
    return work()


async def _in_time(answers: Awaitable[list[Any]]) -> list[Any]:
    try:
        return await asyncio.wait_for(answers, ANSWER)
    except TimeoutError:
        return []


async def _within(seconds: float, *awaited: Awaitable[Any], until: str = asyncio.FIRST_COMPLETED) -> None:
    """Until one of them is done, or all, or the time is over."""
    tasks = [asyncio.ensure_future(each) for each in awaited]
    await asyncio.wait(tasks, timeout=seconds, return_when=until)
    for task in tasks:
        task.cancel()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A signal between fork and the child's own handlers would be written into the loop that it has from its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_SIGNALS, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(exit_code: int) -> str:
    return f"exit code {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name
