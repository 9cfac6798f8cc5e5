"""`paraf exec` and `paraf env`: a program run behind Paraf, and the variables by which one finds it."""

import os
import shlex
from pathlib import Path
from typing import Final

import click

from proxy.addresses import TcpListen
from proxy.commands.ca import chain_and_key
from proxy.commands.configuration import config_options, load, settings_of
from proxy.errors import StartError
from proxy.generation import hosts_of
from proxy.settings import Settings
from proxy.storeforms import MEMORY

STARVED: Final = (
    "is exclusive, and `store: memory` holds none of its tokens: calls get token_unavailable unless --take-token is "
    "given, which ends the token in use elsewhere"
)


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@config_options
@click.option(
    "--take-token", is_flag=True, help="Fetch tokens of exclusive accounts too, which ends those in use elsewhere."
)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def exec(  # noqa: A001 -- the name of the command
    file: str, allow_inline_secrets: bool, take_token: bool, words: tuple[str, ...]
) -> int:
    """Run COMMAND with Paraf in front of the providers, on a free port and with an authority for this run alone.

    The variables that secrets are read from are taken out of its environment. Exits as COMMAND does.
    """
    from proxy.child import plan, run_child

    settings, _ = settings_of(file, allow_inline_secrets=allow_inline_secrets)
    planned = plan(settings, hosts_of(settings, Path(file).resolve().parent), os.environ)
    loaded = load(file, allow_inline_secrets=allow_inline_secrets, adjust=lambda _: planned.settings)
    for finding in loaded.warnings:
        click.echo(str(finding), err=True)
    if not take_token and settings.store == MEMORY:
        for account in loaded.generation.accounts:
            if account.exclusive:
                click.echo(f"paraf: account {account.name} {STARVED}", err=True)
    return run_child(planned, loaded.generation, words, take_token=take_token)


@click.command()
@config_options
def env(file: str, allow_inline_secrets: bool) -> None:
    """Print `export` lines for programs that shall call through the Paraf that serves FILE."""
    from proxy.surroundings import Trust, environment

    settings, _ = settings_of(file, allow_inline_secrets=allow_inline_secrets)
    folder = Path(file).resolve().parent
    intercepts = settings.ca and any(route.intercept for route in settings.routes)
    trust = Trust.within(chain_and_key(settings, folder)[0].parent) if intercepts else None
    if trust and not all(path.exists() for path in (trust.root, trust.bundle, trust.java)):
        raise StartError(f"{trust.root.parent} lacks what programs must trust: `paraf ca init -c {file}` makes it")
    hosts = [host for each in hosts_of(settings, folder).values() for host in each]
    prefixes = {route.name: route.prefix for route in settings.routes}
    for name, value in environment(_address(settings), prefixes, hosts, trust, os.environ).items():
        click.echo(f"export {name}={shlex.quote(value)}")
    if trust is None:
        click.echo("# no https_proxy: no route sets `intercept: true`")


def _address(settings: Settings) -> str:
    """The first that a program on this machine can reach over TCP."""
    for listen in settings.listen:
        if isinstance(listen, TcpListen) and listen.port:
            local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104 -- compared
            return str(TcpListen(local, listen.port))
    raise StartError("`listen` has no HOST:PORT with a fixed port, and programs find a proxy by no other")
