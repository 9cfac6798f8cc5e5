"""When a configuration is loaded again, and what becomes of it: all of it, or nothing and the reason why.

On SIGHUP, when control is asked to, and when the bytes of any file that it was made of have changed: those are looked
at, not their times, because Kubernetes swaps a symbolic link and some editors keep a file's time.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import Any, Final, Literal, cast

from proxy.errors import ConfigError, Finding
from proxy.files import Files
from proxy.inbound.control import Status
from proxy.loading import ConfigFile, Loaded
from proxy.model import Clock
from proxy.notify import NOBODY, Notify
from proxy.settings import Settings
from proxy.telemetry.logs import place
from proxy.telemetry.news import ReloadNews
from proxy.variables import VARIABLES, named

POLL: Final = 5.0
"""Seconds between two looks at the files."""
SETTLED: Final = 1.0
"""Seconds for which changed files must stay as they are, unless somebody asks: half a secret must not be taken."""
RESTART: Final = ("listen", "admin", "control", "store", "workers", "log.format", "trace.otlp")
"""What is bound, opened or forked once."""

Why = Literal["signal", "control", "files"]


Aside = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs what takes a while where it does not hold up the event loop."""

Swap = Callable[[Loaded], Awaitable[None]]
"""Puts a generation into service. Raises ConfigError if it could not."""


class Reloading:
    """`running`: what serves now."""

    def __init__(
        self,
        file: ConfigFile,
        running: Loaded,
        swap: Swap,
        *,
        news: ReloadNews,
        clock: Clock,
        notify: Notify = NOBODY,
        aside: Aside = asyncio.to_thread,
    ) -> None:
        self._file = file
        self._running = running
        self._swap = swap
        self._news = news
        self._clock = clock
        self._notify = notify
        self._aside = aside
        self._one_at_a_time = asyncio.Lock()
        self._awaited = False
        """An attempt waits for its turn, and will see what is there by then."""
        self._seen = running.files
        self.status = Status(running.generation.number, clock.now_ms())

    async def reload(self, why: Why) -> Loaded:
        """What serves from now on. Raises ConfigError: then it is what served before."""
        async with self._one_at_a_time:
            self._awaited = False
            self._notify.reloading()
            try:
                loaded = await self._taken_over()
            except ConfigError as error:
                self._refused(error, why)
                raise
            else:
                self._took(loaded, why)
                return loaded
            finally:
                self._notify.ready(f"generation {self.status.generation}")

    async def watch(self) -> None:
        """Look at the files for ever."""
        while True:
            await asyncio.sleep(POLL)
            if await self._changed():
                await self.attempt("files")

    async def attempt(self, why: Why) -> None:
        """Reload, unless one is about to begin anyway; that it was refused has been told."""
        if not self._awaited:
            self._awaited = True
            with suppress(ConfigError):
                await self.reload(why)

    async def _taken_over(self) -> Loaded:
        """A fault that nobody thought of is a reason too: unsaid, it would end `watch` for good."""
        try:
            loaded = await self._loaded()
            await self._swap(loaded)
        except ConfigError:
            raise
        except Exception as fault:
            raise ConfigError([self._finding((), f"could not be taken: {place(fault)}")]) from fault
        return loaded

    async def _loaded(self) -> Loaded:
        if not self._running.files.is_repeatable:
            raise ConfigError([self._finding((), "came out of a pipe and cannot be read again: restart Paraf")])
        files, number = Files(), self.status.generation + 1
        try:
            loaded = cast("Loaded", await self._aside(lambda: self._file.load(files, number=number)))
        finally:
            self._seen = files
        if bound := list(_bound(self._running.settings, loaded.settings)):
            raise ConfigError(bound)
        return loaded

    async def _changed(self) -> bool:
        """Another look than the last one, and then twice the same."""
        if not self._seen.is_repeatable or self._one_at_a_time.locked():
            return False
        seen = self._seen
        first = await self._aside(lambda: seen.again().digest)
        if first == seen.digest:
            return False
        await asyncio.sleep(SETTLED)
        return first == await self._aside(lambda: seen.again().digest) and seen is self._seen

    def _finding(self, path: tuple[str, ...], words: str) -> Finding:
        return self._running.settings.source.finding(path, words)

    def _took(self, loaded: Loaded, why: Why) -> None:
        self._running = loaded
        VARIABLES.hide(named(loaded.settings))
        number = loaded.generation.number
        self.status = Status(number, self._clock.now_ms(), self.status.refused_at_ms)
        self._news.took(number, why, loaded.warnings)

    def _refused(self, error: ConfigError, why: Why) -> None:
        before = self.status
        self.status = Status(before.generation, before.loaded_at_ms, self._clock.now_ms(), tuple(error.findings))
        self._news.refused(before.generation, why, error.findings)


@asynccontextmanager
async def on_hangup(reloading: Reloading) -> AsyncIterator[None]:
    """While the block runs, SIGHUP reloads, and so does a change of the files."""
    under_way: set[asyncio.Task[None]] = set()

    def begin(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: begin(reloading.attempt("signal")))
    begin(reloading.watch())
    try:
        yield
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for task in under_way:
            task.cancel()


def _bound(old: Settings, new: Settings) -> Iterator[Finding]:
    for key in RESTART:
        said = attrgetter(key)
        if said(old) != said(new):
            words = "changing this needs a restart: a reload leaves all as it is"
            yield new.source.finding(key.split("."), words, key=True)
