"""`paraf demo`: the sandbox, and the proxy routed to it, in one process with fresh keys."""

import asyncio
import http.client
import json
import os
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final

import click

from proxy.app import App
from proxy.clock import SystemClock
from proxy.commands import EXIT_FAILURE, fresh
from proxy.commands.configuration import text_of
from proxy.generation import build
from proxy.sandbox.accounts import fresh_accounts
from proxy.sandbox.server import Sandbox
from proxy.settings import read_settings
from proxy.stopping import until_signalled

PROFILES: Final = ("klikoo", "netzme", "ifortepay-payment", "ifortepay-disbursement", "doku")
USUAL: Final = ("127.0.0.1:8080", "127.0.0.1:9464")
ANY: Final = "127.0.0.1:0"


@click.command()
@click.option("--once", is_flag=True, help="One request of each account, shown before and after; then end.")
@click.option("-c", "--config", "file", metavar="FILE", help="Addresses, log and all else but the routes.")
def demo(once: bool, file: str | None) -> int:
    """Run sandbox and proxy together: no account, no files, no network. Prints curl lines to paste."""
    text = text_of(file) if file else _addresses(ANY, ANY) if once else _addresses(*map(_free, USUAL))
    return asyncio.run(_once(text) if once else _stay(text))


def _addresses(listen: str, admin: str) -> str:
    return fresh.text({"version": 1, "listen": listen, "admin": admin})


@asynccontextmanager
async def _stage(text: str, log: Any) -> AsyncIterator[App]:
    """Sandbox and proxy, up and routed to each other. `text`: a configuration without routes."""
    accounts = await asyncio.to_thread(fresh_accounts, PROFILES)
    sandbox = Sandbox([each.account for each in accounts], clock=SystemClock())
    host, port = await sandbox.start("127.0.0.1", 0)
    try:
        whole = f"{text.rstrip()}\n{fresh.text(fresh.routes(accounts, f'http://{host}:{port}'))}"
        settings, _ = read_settings(whole, "(demo)", environ=os.environ, allow_inline_secrets=True)
        app = App(settings, build(settings, environ={}, folder=Path()), log)
        async with app.running():
            yield app
    finally:
        await sandbox.stop()


async def _stay(text: str) -> int:
    async with until_signalled() as stop, _stage(text, sys.stderr) as app:
        click.echo(f"The sandbox of {len(PROFILES)} providers is up, and Paraf in front of it. Paste one of these:\n")
        for name in PROFILES:
            click.echo(_curl(app.addresses[0], name) + "\n")
        click.echo(f"Metrics: curl -s http://{app.admin_address}/metrics    Stop: Ctrl-C")
        await stop.wait()
    return stop.exit_code


def _free(address: str) -> str:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return ANY if probe.connect_ex((host, int(port))) == 0 else address


def _curl(address: str, name: str) -> str:
    target, body, headers = fresh.EXAMPLES[name]
    added = "".join(f" -H {shlex.quote(f'{key}: {value}')}" for key, value in headers)
    kind = "-H 'Content-Type: application/json'"
    url = shlex.quote(f"http://{address}/{name}{target}")
    return f"curl -s {url} {kind}{added} \\\n  -d {shlex.quote(body)}"


@dataclass(frozen=True, slots=True)
class Shown:
    """One request through the proxy and what came of it."""

    name: str
    status: int
    answer: Any

    @property
    def accepted(self) -> bool:
        return self.status == 200

    def lines(self) -> list[str]:
        target, body, headers = fresh.EXAMPLES[self.name]
        seen, own = _echo(self.answer), {key for key, _ in headers}
        added = {key: value for key, value in seen.get("headers", {}).items() if key not in own}
        return [
            f"{self.name}",
            f"  before          POST /{self.name}{target}",
            *(f"                  {key}: {value}" for key, value in headers),
            f"                  {body}",
            f"  string-to-sign  {seen.get('stringToSign', '(none)')}".replace("\n", "\n                  "),
            *(f"  added           {key}: {value}" for key, value in added.items()),
            f"  answer          {self.status} {json.dumps(self.answer, ensure_ascii=False)[:160]}",
        ]


def _echo(answer: Any) -> dict[str, Any]:
    """What the sandbox says it received, wherever the provider's shape has room for it."""
    if not isinstance(answer, dict):
        return {}
    if "stringToSign" in answer:
        return answer
    return next((found for value in answer.values() if (found := _echo(value))), {})


async def _once(text: str) -> int:
    async with _stage(text, StringIO()) as app:
        shown = [await asyncio.to_thread(_ask, app.addresses[0], name) for name in PROFILES]
    for each in shown:
        click.echo("\n".join(each.lines()) + "\n")
    for each in shown:
        click.echo(f"{each.name} {'accepted' if each.accepted else 'REFUSED'}")
    return 0 if all(each.accepted for each in shown) else EXIT_FAILURE


def _ask(address: str, name: str) -> Shown:
    target, body, headers = fresh.EXAMPLES[name]
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        sent: dict[str, str] = {"Content-Type": "application/json", **dict(headers)}
        connection.request("POST", f"/{name}{target}", body.encode(), sent)
        answer = connection.getresponse()
        return Shown(name, answer.status, json.loads(answer.read()))
    finally:
        connection.close()
