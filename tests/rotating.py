"""Reloads under load: a sandbox that knows every secret there was, and tells which generation signed each request."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from operating import operate
from processes import Callers, Serving, hung_up, serving
from running import of, routes

from proxy.clock import SystemClock
from proxy.commands import fresh
from proxy.model import Secret
from proxy.sandbox.desk import Desk
from proxy.sandbox.judge import Judge, RawRequest, Verdict
from proxy.sandbox.server import EntryKind, Sandbox

MARK = "X-Generation"


def secret(number: int) -> str:
    return f"SK-{number:06}-of-this-generation"


class Rotating(Sandbox):
    """One account. The mark says with which secret a request must be signed: another's does not pass."""

    def __init__(self) -> None:
        (fresh_account,) = of("doku")
        self.account = fresh_account.account
        super().__init__([self.account], clock=SystemClock())
        self.marks: Counter[int] = Counter()
        self.refused: list[str] = []
        self.probes: list[tuple[int, int]] = []
        """Which generation was asked for, after a reload had been answered, and which signed."""

    async def _judged(self, desk: Desk, request: RawRequest) -> tuple[EntryKind, Verdict]:
        headers = dict(request.headers)
        number = int(headers[MARK]) if MARK in headers else None
        if number is None:
            return await super()._judged(desk, request)
        desk.judge = Judge.of(replace(self.account, client_secret=Secret(secret(number))))
        verdict = desk.call(request, SystemClock().now_ms())
        self.marks[number] += 1
        if "X-Probe" in headers:
            self.probes.append((int(headers["X-Probe"]), number))
        if not verdict.accepted:
            self.refused.append(f"{number}: {verdict.words}")
        return "call", verdict


class Rotation:
    """A served configuration whose secret and mark are changed together."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.number = 0
        (route,) = routes(of("doku"), url)["routes"].values()
        self._route = {**route, "prefix": "/pay"}

    def configuration(self, **more: Any) -> dict[str, Any]:
        (self.folder / "secret").write_text(secret(self.number))
        (self.folder / "secret").chmod(0o600)
        credentials = {**self._route["credentials"], "client_secret": {"file": "secret"}}
        route = {**self._route, "credentials": credentials, "headers": {"set": {MARK: str(self.number)}}}
        listening = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "control": f"unix:{self.folder}/control.sock"}
        return {"version": 1, **listening, "log": {"format": "json"}, "routes": {"doku": route}, **more}

    def turn(self, **more: Any) -> None:
        self.number += 1
        new = self.folder / "paraf.yaml.new"
        new.write_text(fresh.text(self.configuration(**more)))
        new.replace(self.folder / "paraf.yaml")


@asynccontextmanager
async def rotation(folder: Path, *arguments: str) -> AsyncIterator[tuple[Rotation, Rotating, Serving]]:
    sandbox = Rotating()
    made = Rotation(folder, "http://{}:{}".format(*await sandbox.start("127.0.0.1", 0)))
    try:
        async with serving(folder, made.configuration(), *arguments) as paraf:
            yield made, sandbox, paraf
    finally:
        await sandbox.stop()


async def reloaded_under_load(folder: Path, *, workers: int, seconds: float, every: float = 0.1) -> dict[str, Any]:
    """What was counted. `stale`: requests that began after a reload had been answered, and were not signed by it."""
    async with (
        rotation(folder, "--workers", str(workers)) as (made, sandbox, paraf),
        Callers(paraf.address) as callers,
    ):
        callers.start(6, kept=True)
        callers.start(2, kept=False)
        until, spent = time.monotonic() + seconds, []
        while time.monotonic() < until or made.number < 4:
            began = time.monotonic()
            made.turn()
            status, _, told = await operate(paraf.ready["control"], "POST", "/-/reload")
            assert (status, told["generation"]) == (200, made.number + 1), told
            spent.append(time.monotonic() - began)
            await _probe(paraf, made.number)
            await asyncio.sleep(max(0.0, every - (time.monotonic() - began)))
        await callers.stop()
        assert paraf.other == []
        return {
            "answers": dict(callers.count),
            "reloads": made.number,
            "generations that signed": len(sandbox.marks),
            "signed": sum(sandbox.marks.values()),
            "refused by the sandbox": len(sandbox.refused),
            "probes": len(sandbox.probes),
            "stale": sum(asked != signed for asked, signed in sandbox.probes),
            "slowest reload, s": round(max(spent), 2),
        }


async def _probe(paraf: Serving, number: int) -> None:
    """Two new connections: to two workers if there are two."""
    for _ in range(2):
        reader, writer = await asyncio.open_connection(*paraf.address)
        head = f"POST /pay/v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Probe: {number}\r\n"
        writer.write(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        await hung_up(writer)
