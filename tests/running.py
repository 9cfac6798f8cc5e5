"""The product in a test: proxy in front of sandbox or raw peer, in this process, on ports of its own."""

import io
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from proxy import app as app_module
from proxy.app import App
from proxy.clock import SystemClock
from proxy.commands import fresh
from proxy.generation import Generation, build
from proxy.sandbox.accounts import FreshAccount, fresh_accounts
from proxy.sandbox.server import Sandbox
from proxy.settings import Settings, read_settings

app_module.verified_tls = cache(app_module.verified_tls)  # type: ignore[assignment]
"""The system's roots take 60 ms to read: one context serves all proxies of a test run."""

ANY = "127.0.0.1:0"
EVERY = (
    "klikoo",
    "netzme",
    "netzme-main",
    "netzme-vsnap",
    "ifortepay-payment",
    "ifortepay-disbursement",
    "doku",
    "doku-nonsnap",
    "snap",
)


@cache
def accounts() -> tuple[FreshAccount, ...]:
    """One of every profile; RSA keys are dear, so they are made once."""
    return tuple(fresh_accounts(EVERY))


def of(*profiles: str) -> list[FreshAccount]:
    return [each for each in accounts() if each.account.profile in profiles]


@dataclass
class Running:
    app: App
    log: io.StringIO

    @property
    def port(self) -> int:
        return int(self.app.addresses[0].rpartition(":")[2])

    @property
    def lines(self) -> list[dict[str, Any]]:
        self.app.ended.flush()
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "request"]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series of a metric that have these labels."""
        samples = [sample for metric in self.app.metrics.collect() for sample in metric.samples]
        return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


def built(configuration: dict[str, Any]) -> tuple[Settings, Generation]:
    """The dear part of a start, when a test makes many."""
    text = fresh.text({"listen": ANY, "admin": ANY, "log": {"level": "debug", "format": "json"}, **configuration})
    settings, _ = read_settings(text, "paraf.yaml", environ={}, allow_inline_secrets=True)
    return settings, build(settings, environ={}, folder=Path())


@asynccontextmanager
async def started(settings: Settings, generation: Generation) -> AsyncIterator[Running]:
    log = io.StringIO()
    app = App(settings, generation, log)
    async with app.running():
        yield Running(app, log)


@asynccontextmanager
async def proxy(configuration: dict[str, Any]) -> AsyncIterator[Running]:
    async with started(*built(configuration)) as running:
        yield running


def routes(chosen: Iterable[FreshAccount], upstream: str, **each: Any) -> dict[str, Any]:
    """A configuration of these accounts; `each` goes into every route."""
    made = fresh.configuration(chosen, upstream, ANY, ANY)
    for route in made["routes"].values():
        route.update(each)
    return made


@asynccontextmanager
async def through_sandbox(*profiles: str, **each: Any) -> AsyncIterator[tuple[Running, Sandbox]]:
    """Proxy in front of the sandbox, for these profiles."""
    chosen = of(*(profiles or EVERY))
    sandbox = Sandbox([account.account for account in chosen], clock=SystemClock())
    host, port = await sandbox.start("127.0.0.1", 0)
    try:
        async with proxy(routes(chosen, f"http://{host}:{port}", **each)) as running:
            yield running, sandbox
    finally:
        await sandbox.stop()


__all__ = ["EVERY", "Running", "accounts", "built", "of", "proxy", "routes", "started", "through_sandbox"]
