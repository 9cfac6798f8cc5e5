"""A program run behind Paraf: its own listener and authority for this one run, and nothing left when it is over."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from proxy.addresses import TcpListen, is_address
from proxy.app import App, event_loop
from proxy.authority import MadeAuthority, make_authority, utc_now
from proxy.bounds import LogSettings
from proxy.generation import Generation
from proxy.hardening import no_dumps
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
    )


def _quiet(log: LogSettings) -> LogSettings:
    """The terminal is the program's."""
    return replace(log, level="warning") if log.level in ("debug", "info") else log


def run_child(plan: Plan, generation: Generation, words: Sequence[str], *, take_token: bool) -> int:
    """The program's own exit status. Raises StartError when Paraf cannot listen."""
    app = App(plan.settings, generation, spares=not take_token)
    with _trust(plan.made) as trust, asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(_run(app, plan.settings, generation, trust, words))


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


async def _run(app: App, settings: Settings, generation: Generation, trust: Trust | None, words: Sequence[str]) -> int:
    async with app.running():
        environ = surroundings(app.addresses[0], settings, generation, trust, os.environ)
        VARIABLES.hide(named(settings))
        try:
            process = await asyncio.create_subprocess_exec(*words, env=environ)
        except OSError as error:
            sys.stderr.write(f"paraf: {words[0]}: {error.strerror or 'cannot be run'}\n")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        no_dumps()  # now: what it forbids would be the program's too
        with _passing_signals_to(process):
            status = await process.wait()
    return status if status >= 0 else SIGNALLED - status


def surroundings(
    address: str, settings: Settings, generation: Generation, trust: Trust | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """The program's whole environment: ours, without what our secrets are read from."""
    secret = set(named(settings))
    own = {name: value for name, value in environ.items() if name not in secret}
    routes = generation.table.routes
    prefixes = {route.name: route.prefix for route in routes}
    hosts = [host for route in routes for host in route.hosts]
    return own | environment(address, prefixes, hosts, trust, own)


@contextmanager
def _passing_signals_to(process: asyncio.subprocess.Process) -> Iterator[None]:
    """Those that are not the program's already."""
    loop = asyncio.get_running_loop()
    there_already = _BY_TERMINAL if _in_foreground() else ()
    for number in (*_PASSED_ON, *_BY_TERMINAL):
        loop.add_signal_handler(number, _send, process, None if number in there_already else number)
    try:
        yield
    finally:
        for number in (*_PASSED_ON, *_BY_TERMINAL):
            loop.remove_signal_handler(number)


def _send(process: asyncio.subprocess.Process, number: signal.Signals | None) -> None:
    if number is not None:
        with suppress(ProcessLookupError):
            process.send_signal(number)


def _in_foreground() -> bool:
    """Does a terminal send its signals to our process group, in which the program is?"""
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False
