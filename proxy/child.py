"""A program run behind Paraf: its own listener and authority for this one run, and nothing left when it is over."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from proxy.addresses import TcpListen, is_address
from proxy.app import App, event_loop
from proxy.authority import MadeAuthority, make_authority, utc_now
from proxy.bounds import LogSettings
from proxy.generation import Generation
from proxy.hardening import no_dumps, unreadable
from proxy.model import Secret
from proxy.references import Inline
from proxy.settings import CaForm, Settings
from proxy.surroundings import Trust, environment
from proxy.variables import VARIABLES, named

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit codes as a shell has them."""
SIGNALLED: Final = 128
"""To which the number of the signal is added that ended the program."""

_PASSED_ON: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_BY_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""A terminal sends these to the program itself as well."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings for one run, and the authority that they name, if a route has a host to intercept."""

    settings: Settings
    made: MadeAuthority | None
    secret: frozenset[str]
    """Variables that no program may see: all that the file names, what this run does without included."""


def plan(settings: Settings, hosts: Mapping[str, frozenset[str]], environ: Mapping[str, str]) -> Plan:
    """A free port of loopback and nothing else to listen on; every route that is found by names is intercepted."""
    named_only = {name for name, each in hosts.items() if each and not any(map(is_address, each))}
    made = (
        make_authority(frozenset[str]().union(*(hosts[name] for name in named_only)), utc_now()) if named_only else None
    )
    return Plan(
        replace(
            settings,
            listen=(TcpListen("127.0.0.1", 0),),
            admin=None,
            control=None,
            workers=1,
            drain=replace(settings.drain, delay=0.0),
            log=settings.log if environ.get("PARAF_LOG_LEVEL") else _quiet(settings.log),
            routes=tuple(replace(route, intercept=route.name in named_only) for route in settings.routes),
            ca=CaForm(Inline(Secret(made.chain)), Inline(made.key)) if made else None,
        ),
        made,
        frozenset(named(settings)),
    )


def _quiet(log: LogSettings) -> LogSettings:
    """The terminal is the program's."""
    return replace(log, level="warning") if log.level in ("debug", "info") else log


def run_child(plan: Plan, generation: Generation, words: Sequence[str], *, take_token: bool) -> int:
    """The program's own exit status. Raises StartError when Paraf cannot listen."""
    app = App(plan.settings, generation, spares=not take_token)
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(_run(app, plan, generation, words))


@contextmanager
def _trust(made: MadeAuthority | None) -> Iterator[Trust | None]:
    """Files for the program, gone with it. The authority's key is in none: it never leaves this process' memory."""
    if made is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="paraf-exec-"))
    try:
        trust = Trust.within(folder)
        trust.write(made.root)
        yield trust
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(app: App, plan: Plan, generation: Generation, words: Sequence[str]) -> int:
    unreadable()  # a program that is quick could open our memory before the rest is done
    with _Course().listening() as course:
        try:
            with _trust(plan.made) as trust:
                async with app.running():
                    environ = surroundings(app.addresses[0], plan.secret, generation, trust, os.environ)
                    VARIABLES.hide(plan.secret)
                    course.status = await _status(course, words, environ)
        except asyncio.CancelledError:
            if course.status is None:
                raise
        return course.status


async def _status(course: "_Course", words: Sequence[str], environ: Mapping[str, str]) -> int:
    try:
        process = await course.started(words, environ)
    except OSError as error:
        sys.stderr.write(f"paraf: {words[0]}: {error.strerror or 'cannot be run'}\n")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    no_dumps()  # now: its limit would be the program's too
    status = await process.wait()
    return status if status >= 0 else SIGNALLED - status


def surroundings(
    address: str, secret: Collection[str], generation: Generation, trust: Trust | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """The program's whole environment: ours, without what our secrets are read from."""
    own = {name: value for name, value in environ.items() if name not in secret}
    routes = generation.table.routes
    prefixes = {route.name: route.prefix for route in routes}
    hosts = [host for route in routes for host in route.hosts]
    return own | environment(address, prefixes, hosts, trust, own)


class _Course:
    """How far the run has come, which decides whom a signal ends: the program while there is one, else the run.

    By its default action it would end the run at once, and the folder of the run would be left.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self._run = asyncio.current_task()
        self._process: asyncio.subprocess.Process | None = None
        self._early: list[signal.Signals] | None = None
        self._there_already: tuple[signal.Signals, ...] = ()

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """To all that are not ignored: what the shell had us ignore, the program ignores too."""
        loop = asyncio.get_running_loop()
        heard = [each for each in (*_PASSED_ON, *_BY_TERMINAL) if signal.getsignal(each) != signal.SIG_IGN]
        for number in heard:
            loop.add_signal_handler(number, self._take, number)
        try:
            yield self
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    async def started(self, words: Sequence[str], environ: Mapping[str, str]) -> asyncio.subprocess.Process:
        """Raises OSError. A signal that comes meanwhile waits for the program."""
        early: list[signal.Signals] = []
        self._early = early
        try:
            self._process = await asyncio.create_subprocess_exec(*words, env=environ)
        finally:
            self._early = None
        for number in early:
            self._pass_on(number)
        self._there_already = _BY_TERMINAL if _in_foreground() else ()
        return self._process

    def _take(self, number: signal.Signals) -> None:
        if self._early is not None:
            self._early.append(number)
        elif self._process is not None and self._process.returncode is None:
            self._pass_on(number)
        else:
            self._end(number)

    def _pass_on(self, number: signal.Signals) -> None:
        if self._process is not None and number not in self._there_already:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        """What waits is cut off. The program's own status counts, if it had one."""
        if self.status is None:
            self.status = SIGNALLED + number
        if self._run is not None:
            self._run.cancel()


def _in_foreground() -> bool:
    """Does a terminal send its signals to our process group, in which the program is?"""
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False
