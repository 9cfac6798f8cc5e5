"""An operator at the control listener: one request, its status, headers and JSON; and a proxy with such a listener."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from running import ANY, Running, of, routes

from proxy.alone import Alone, controlled, swapping
from proxy.app import App
from proxy.clock import SystemClock
from proxy.commands import fresh
from proxy.loading import ConfigFile
from proxy.reloading import Reloading
from proxy.sandbox.server import Sandbox
from proxy.telemetry.news import ReloadNews

Answered = tuple[int, dict[str, str], Any]


async def operate(address: str, method: str, target: str, *lines: str, host: str | None = "localhost") -> Answered:
    """`address` as the ready line has it: `127.0.0.1:1234` or `unix:/PATH`. `lines` are further header lines."""
    kind, _, rest = address.rpartition(":")
    unix = kind == "unix"
    connected = asyncio.open_unix_connection(rest) if unix else asyncio.open_connection(kind.strip("[]"), int(rest))
    reader, writer = await connected
    own = [f"Host: {host}"] if host is not None else []
    head = "\r\n".join((f"{method} {target} HTTP/1.1", *own, *lines))
    writer.write(f"{head}\r\n\r\n".encode())
    try:
        raw = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
    return answered(raw)


def answered(raw: bytes) -> Answered:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    told = json.loads(body) if body and "json" in headers["content-type"] else body.decode()
    return int(status.split()[1]), headers, told


@dataclass
class Operated(Running):
    """A proxy in this process whose configuration is a file, with its control listener."""

    file: Path
    configuration: dict[str, Any]
    reloading: Reloading
    sandbox: Sandbox
    quits: list[int] = field(default_factory=list)

    async def __call__(self, method: str, target: str, *lines: str, **more: Any) -> Answered:
        return await operate(self.control, method, target, *lines, **more)

    @property
    def control(self) -> str:
        return self.app.listeners.control[0].address.replace("0.0.0.0:", "127.0.0.1:")

    async def token(self, account: str) -> Any:
        told = (await self("GET", "/tokens"))[2]["tokens"]
        return next(each for each in told if each["account"] == account)

    def calls(self, kind: str = "call") -> list[Any]:
        return [entry for entry in self.sandbox.journal if entry.kind == kind]

    @property
    def token_calls(self) -> int:
        return len(self.calls("token"))

    def write(self, **changes: Any) -> None:
        """Of the top of the file."""
        self.configuration |= changes
        self.file.write_text(fresh.text(self.configuration))


@asynccontextmanager
async def operated(folder: Path, *profiles: str, **configuration: Any) -> AsyncIterator[Operated]:
    """In front of the sandbox, for these profiles."""
    chosen = of(*profiles)
    sandbox = Sandbox([account.account for account in chosen], clock=SystemClock())
    url = "http://{}:{}".format(*await sandbox.start("127.0.0.1", 0))
    try:
        async with started(folder, routes(chosen, url) | configuration, sandbox) as made:
            yield made
    finally:
        await sandbox.stop()


@asynccontextmanager
async def started(folder: Path, configuration: dict[str, Any], sandbox: Sandbox) -> AsyncIterator[Operated]:
    whole = {"log": {"level": "debug", "format": "json"}, "control": ANY} | configuration
    path = folder / "paraf.yaml"
    path.write_text(fresh.text(whole))
    file, log = ConfigFile(str(path), allow_inline_secrets=True), io.StringIO()
    loaded = file.load()
    app = App(loaded.settings, loaded.generation, log)
    async with app.running():
        news = ReloadNews(app.metrics, app.logger)
        reloading = Reloading(file, loaded, swapping(app), news=news, clock=SystemClock())
        made = Operated(app, log, path, whole, reloading, sandbox)
        async with controlled(app, Alone(app, lambda: made.quits.append(1), reloading)):
            yield made
