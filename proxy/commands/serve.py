"""`paraf serve`: the proxy."""

import asyncio

import click

from proxy.app import App, event_loop, run
from proxy.commands.configuration import config_options, load


@click.command()
@config_options
def serve(file: str, allow_inline_secrets: bool) -> int:
    """Serve the routes of FILE until SIGTERM. One log line says when it is ready."""
    loaded = load(file, allow_inline_secrets=allow_inline_secrets)
    app = App(loaded.settings, loaded.generation)
    for warning in loaded.warnings:
        app.logger.warning("configuration", finding=str(warning))
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(run(app))
