"""A process that serves alone: an App with control, reloads, and signals around it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

from proxy import __version__
from proxy.addresses import TcpListen
from proxy.app import App, settle_process
from proxy.clock import SystemClock
from proxy.generation import Generation
from proxy.inbound.control import ControlServer, Doors
from proxy.inbound.listeners import Listeners
from proxy.inbound.operations import ENDPOINTS
from proxy.loading import ConfigFile, Loaded
from proxy.notify import Notify
from proxy.reloading import Reloading, on_hangup
from proxy.settings import Settings
from proxy.stopping import until_signalled
from proxy.telemetry.news import ReloadNews


class Alone:
    """The `Controlled` of one process. `stop` begins its end."""

    def __init__(self, app: App, stop: Callable[[], None], reloading: Reloading) -> None:
        self._app = app
        self._stop = stop
        self.reloading = reloading

    def quit(self) -> None:
        self._stop()

    async def ask(self, word: str, value: Any = None, *, one: bool = False) -> list[Any]:  # noqa: ARG002 - there is one
        return [await self._app.answers[word](value)]


def doors_of(settings: Callable[[], Settings], generation: Callable[[], Generation], listeners: Listeners) -> Doors:
    """A loopback port answers to this machine's names; another one to its own name too, for who shows the token."""

    def hosts() -> Collection[str]:
        now = settings()
        return (*now.allowed_hosts, now.control.host) if isinstance(now.control, TcpListen) else now.allowed_hosts

    remote = any(each.is_remote for each in listeners.control)
    return Doors(hosts, lambda: generation().control_token, remote)


@asynccontextmanager
async def controlled(app: App, alone: Alone) -> AsyncIterator[None]:
    """While the block runs, operators are answered."""
    control = ControlServer(ENDPOINTS, alone, doors_of(lambda: app.settings, lambda: app.generation, app.listeners))
    await control.start(*(listener.sock for listener in app.listeners.control))
    try:
        yield
    finally:
        await control.stop()


async def run(app: App, loaded: Loaded, file: ConfigFile, notify: Notify) -> int:
    """Serve until a signal comes. Exit code 0 after SIGTERM, 130 after Ctrl-C."""
    async with until_signalled() as stop, app.running():
        news = ReloadNews(app.metrics, app.logger)
        reloading = Reloading(file, loaded, swapping(app), news=news, clock=SystemClock(), notify=notify)
        async with controlled(app, Alone(app, stop.ask, reloading)), on_hangup(reloading):
            settle_process()
            app.logger.info("ready", **app.listeners.told, version=__version__)
            notify.ready(f"generation {app.generation.number}")
            await stop.wait()
            notify.stopping(app.drain_seconds)
            app.logger.info("stopping")
    return stop.exit_code


def swapping(app: App) -> Callable[[Loaded], Any]:
    async def swap(loaded: Loaded) -> None:
        app.swap(loaded.settings, loaded.generation)
        await asyncio.sleep(0)

    return swap
