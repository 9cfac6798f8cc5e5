"""`paraf serve`: the proxy."""

import asyncio
import os
from dataclasses import replace
from typing import Final

import click

from proxy.app import App, event_loop, prepare_process, run
from proxy.commands.configuration import Loaded, config_options, load
from proxy.inbound.listeners import Listeners, bound
from proxy.settings import MOST_WORKERS, Settings
from proxy.sharing import shared_store, with_parts
from proxy.variables import VARIABLES, named

PRIVATE_STORE: Final = "workers share tokens in a private folder, which goes when Paraf ends; `store` sets another"


@click.command()
@config_options
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    metavar="N",
    help="Processes that serve together (`workers` in FILE).",
)
def serve(file: str, allow_inline_secrets: bool, workers: int | None) -> int:
    """Serve the routes of FILE until SIGTERM. One log line says when it is ready."""

    def adjust(settings: Settings) -> Settings:
        return with_parts(replace(settings, workers=workers or settings.workers))

    prepare_process()
    loaded = load(file, allow_inline_secrets=allow_inline_secrets, adjust=adjust)
    VARIABLES.hide(named(loaded.settings))
    with bound(loaded.settings, os.environ) as listeners:
        return _alone(loaded, listeners) if loaded.settings.workers == 1 else _together(loaded, listeners)


def _alone(loaded: Loaded, listeners: Listeners) -> int:
    app = App(loaded.settings, loaded.generation, listeners=listeners)
    for warning in loaded.warnings:
        app.logger.warning("configuration", finding=str(warning))
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(run(app))


def _together(loaded: Loaded, listeners: Listeners) -> int:
    from proxy.supervisor import Supervisor

    with shared_store(loaded.settings, os.environ) as (settings, directory):
        supervisor = Supervisor(settings, loaded.generation, listeners, directory=directory)
        for warning in loaded.warnings:
            supervisor.logger.warning("configuration", finding=str(warning))
        if directory is not None:
            supervisor.logger.info("store", words=PRIVATE_STORE, store=f"file://{directory}")
        return supervisor.run()
