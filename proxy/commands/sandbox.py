"""`paraf sandbox`: the providers' side alone, for a merchant's own CI."""

import asyncio
import os
from pathlib import Path

import click

from proxy.addresses import TcpListen, parse_listen
from proxy.clock import SystemClock
from proxy.commands import fresh
from proxy.errors import StartError
from proxy.sandbox.accounts import FreshAccount, fresh_accounts
from proxy.sandbox.rules import RULES
from proxy.sandbox.server import Sandbox
from proxy.stopping import until_signalled


@click.command()
@click.option("--listen", default="127.0.0.1:9080", show_default=True, help="HOST:PORT.")
@click.option(
    "--provider", "providers", multiple=True, type=click.Choice(sorted(RULES)), help="Profiles; default: all."
)
@click.option(
    "--write", "folder", type=click.Path(path_type=Path), help="Write paraf.yaml and its secrets into FOLDER."
)
def sandbox(listen: str, providers: tuple[str, ...], folder: Path | None) -> int:
    """Serve the providers' side: tokens, signatures checked by code of its own, refusals that say why.

    The accounts are fresh at each start. Their configuration goes to stdout, for `paraf serve
    --allow-inline-secrets`, or with --write into a folder, with the secrets in files.
    """
    try:
        address = parse_listen(listen)
    except ValueError as error:
        raise click.UsageError(f"--listen {error}") from None
    if not isinstance(address, TcpListen):
        raise click.UsageError("--listen takes HOST:PORT")
    return asyncio.run(_serve(address, providers or tuple(sorted(RULES)), folder))


async def _serve(address: TcpListen, providers: tuple[str, ...], folder: Path | None) -> int:
    accounts = await asyncio.to_thread(fresh_accounts, providers)
    served = Sandbox([each.account for each in accounts], clock=SystemClock())
    async with until_signalled() as stop:
        try:
            host, port = await served.start(address.host, address.port)
        except OSError as error:
            raise StartError(f"cannot listen on {address}: {error.strerror or 'no such address'}") from None
        try:
            _hand_out(accounts, f"http://{host}:{port}", folder)
        except OSError as error:
            await served.stop()
            raise StartError(f"cannot write into {folder}: {error.strerror or 'unknown'}") from None
        await stop.wait()
        await served.stop()
    return stop.exit_code


def _hand_out(accounts: list[FreshAccount], url: str, folder: Path | None) -> None:
    configured = fresh.configuration(accounts, url, "127.0.0.1:8080", "127.0.0.1:9464")
    if folder is None:
        click.echo(fresh.text(configured), nl=False)
    else:
        click.echo(f"sandbox on {url}; paraf serve -c {_written(configured, folder)}", err=True)


def _written(configured: dict[str, object], folder: Path) -> Path:
    """The configuration with every secret in a file that only the owner can read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, route in configured["routes"].items():  # type: ignore[attr-defined]
        for key in ("client_secret", "private_key"):
            if key in route["credentials"]:
                route["credentials"][key] = {"file": _secret(folder, f"{name}.{key}", route["credentials"][key])}
    file = folder / "paraf.yaml"
    file.write_text(fresh.text(configured), encoding="utf-8")
    return file


def _secret(folder: Path, name: str, value: str) -> str:
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value)
    return name
