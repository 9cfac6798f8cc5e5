"""A worker: one of several processes that serve the same sockets, from its fork to its end."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket
from typing import Any, Final

from proxy.answers import Answerer
from proxy.app import App, event_loop, settle_process
from proxy.errors import ConfigError
from proxy.files import Files
from proxy.generation import Generation
from proxy.inbound.listeners import Listener, Listeners
from proxy.inbound.turns import Turns
from proxy.line import Line
from proxy.loading import ConfigFile, Loaded
from proxy.settings import Settings
from proxy.shares import share
from proxy.sharing import joined
from proxy.standing import part_of
from proxy.stopping import Stop, stoppable
from proxy.telemetry.logs import place
from proxy.telemetry.merge import to_json
from proxy.variables import VARIABLES, named

_FAREWELL: Final = 1.0
"""Seconds for the last numbers to reach a supervisor that may be busy."""


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is given. `number` counts from 0; `directory` is the private one, if there is one."""

    number: int
    settings: Settings
    generation: Generation
    file: ConfigFile
    listeners: Listeners
    turns: Turns
    line: socket
    directory: Path | None = None
    coming: Loaded | None = None
    """What the reload under way would turn to."""


def work(post: Post) -> int:
    """The life of a forked process; its exit code. Signals are blocked when it begins."""
    _let_go_of_the_parent(post)
    lent = Listeners(tuple(Listener(each.sock) for each in post.listeners.callers), admin=())
    app = App(*_own(post.settings, post.generation, post), listeners=lent, seat=post.turns.seat(post.number))
    app.answers |= _Succeeding(app, post).by_word()
    try:
        shared = joined(post.directory) if post.directory else nullcontext()
        with shared, asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(_serve(app, post))
    except Exception as fault:  # noqa: BLE001 -- told without its text
        app.logger.error("fault", words=place(fault))  # noqa: TRY400
        app.lines.close()
        return 1
    return 0


def _own(settings: Settings, generation: Generation, post: Post) -> tuple[Settings, Generation]:
    """A worker's: the supervisor has waited for `drain.delay`, and has opened a store for all of them; of what limits
    them together it has its share.
    """
    drain, bodies = replace(settings.drain, delay=0.0), share(settings.room, post.number, settings.workers)
    own = replace(settings, drain=drain, store=post.settings.store, bodies=bodies)
    return own, part_of(generation, post.number, settings.workers)


class _Succeeding:
    """A reload, as the supervisor leads it: every worker builds of the bytes that it has read; then all turn to it."""

    def __init__(self, app: App, post: Post) -> None:
        self._app = app
        self._post = post
        self._built = post.coming

    def by_word(self) -> dict[str, Answerer]:
        return {"build": self._build, "swap": self._swap}

    async def _build(self, value: Any) -> int | None:
        """The number of what was built; None if it could not be."""
        files = Files.heard(value["files"])
        try:
            self._built = await asyncio.to_thread(self._post.file.load, files, number=value["number"])
        except ConfigError as error:
            self._app.logger.error("fault", words=str(error.findings[0]))  # noqa: TRY400
            return None
        return self._built.generation.number

    async def _swap(self, digest: Any) -> int | None:
        """To what was built of these bytes alone: one that was refused had the same number."""
        built = self._built
        if built is None or built.files.digest != digest:
            return None
        self._app.swap(*_own(built.settings, built.generation, self._post))
        VARIABLES.hide(named(built.settings))
        self._built = None
        return built.generation.number


def _let_go_of_the_parent(post: Post) -> None:
    """Its loop, its admin port and the lines of other workers: held open here they would never be seen to end.

    Closed by number: its loop's own `close` would take the parent's files out of the poll that both share.
    """
    kept = {0, 1, 2, post.line.fileno(), *(each.sock.fileno() for each in post.listeners.callers)}
    for number in _open_files() - kept:
        with suppress(OSError):  # the listing's own
            os.close(number)
    signal.set_wakeup_fd(-1)
    # A terminal's Ctrl-C and a service manager's SIGTERM reach every process: they are the supervisor's to pass on.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _open_files() -> set[int]:
    try:
        return {int(each.name) for each in Path("/dev/fd").iterdir()}
    except OSError:  # without /proc
        return set(range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


async def _serve(app: App, post: Post) -> None:
    line = await Line.over(post.line)
    async with _obeying(app, post.listeners, line) as stop, app.running():
        settle_process()
        line.say("ready")
        await stop.wait()
    line.say("numbers", to_json(app.metrics.numbers()))
    with suppress(TimeoutError):
        await asyncio.wait_for(line.close(), _FAREWELL)


@asynccontextmanager
async def _obeying(app: App, listeners: Listeners, line: Line) -> AsyncIterator[Stop]:
    with stoppable() as stop:
        ear = asyncio.create_task(_obey(app, listeners, line, stop))
        try:
            yield stop
        finally:
            ear.cancel()


async def _obey(app: App, listeners: Listeners, line: Line, stop: Stop) -> None:
    words: dict[str, Callable[[str], None]] = {
        "numbers": lambda _: line.say("numbers", to_json(app.metrics.numbers())),
        "stop": lambda _: stop.ask(),
        "hurry": lambda _: stop.hurry(),
        "ask": _Answering(app, line).begin,
    }
    async for word, text in line.heard():
        words[word](text)
    listeners.turn_away()  # the supervisor was killed, and nobody will serve after us
    stop.ask()


class _Answering:
    """The supervisor's questions, each answered when it can be: a token call must not hold up the numbers."""

    def __init__(self, app: App, line: Line) -> None:
        self._app = app
        self._line = line
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, text: str) -> None:
        task = asyncio.create_task(self._answer(*json.loads(text)))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(self, number: int, word: str, value: Any) -> None:
        self._line.say("answer", json.dumps([number, await self._app.answers[word](value)]))


def enter(post: Post) -> None:
    """Run `work` and leave at once: what the parent would do at its end is not to be done twice."""
    code = 1
    try:
        code = work(post)
        sys.stderr.flush()
    finally:
        os._exit(code)
