"""`paraf serve`: the proxy."""

import asyncio
import os
from dataclasses import replace
from typing import Final

import click

from proxy.alone import run
from proxy.app import App, event_loop, prepare_process
from proxy.commands.configuration import config_options
from proxy.inbound.listeners import Listeners, bound
from proxy.loading import ConfigFile, Loaded
from proxy.notify import Notify
from proxy.settings import MOST_WORKERS, Settings
from proxy.sharing import shared_store
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
        return replace(settings, workers=workers or settings.workers)

    prepare_process()
    config = ConfigFile(file, allow_inline_secrets, adjust)
    loaded = config.load()
    VARIABLES.hide(named(loaded.settings))
    with bound(loaded.settings, os.environ) as listeners:
        serving = _alone if loaded.settings.workers == 1 else _together
        return serving(config, loaded, listeners)


def _alone(config: ConfigFile, loaded: Loaded, listeners: Listeners) -> int:
    app = App(loaded.settings, loaded.generation, listeners=listeners)
    for warning in loaded.warnings:
        app.logger.warning("configuration", finding=str(warning))
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(run(app, loaded, config, Notify.taken(os.environ)))


def _together(config: ConfigFile, loaded: Loaded, listeners: Listeners) -> int:
    from proxy.supervisor import Supervisor

    with shared_store(loaded.settings, os.environ) as (settings, directory):
        supervisor = Supervisor(
            settings, loaded, config, listeners, notify=Notify.taken(os.environ), directory=directory
        )
        for warning in loaded.warnings:
            supervisor.logger.warning("configuration", finding=str(warning))
        if directory is not None:
            supervisor.logger.info("store", words=PRIVATE_STORE, store=f"file://{directory}")
        return supervisor.run()
