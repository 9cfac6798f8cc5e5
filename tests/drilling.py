"""Real `paraf serve` processes before one sandbox, callers who keep a log of their own, and counts of both."""

import asyncio
import base64
import itertools
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from running import ANY, EVERY, of, routes

from proxy.clock import SystemClock
from proxy.commands import fresh
from proxy.commands.fresh import EXAMPLES
from proxy.sandbox.accounts import FreshAccount
from proxy.sandbox.server import Entry, Sandbox

WITH_TOKEN = tuple(profile for profile in EVERY if profile != "doku-nonsnap")


class Replica:
    """One process. `lines` are what it logged so far."""

    def __init__(self, configuration: Path) -> None:
        self._configuration = configuration
        self.lines: list[dict[str, Any]] = []
        self.address = self.admin = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self) -> None:
        command = ["-m", "proxy", "serve", "-c", str(self._configuration), "--allow-inline-secrets"]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stderr=asyncio.subprocess.PIPE, limit=1 << 20
        )
        ready = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(ready))
        said = await asyncio.wait_for(ready, 30)
        self.address, self.admin = said["listen"][0], said["admin"]

    async def _read(self, ready: "asyncio.Future[dict[str, Any]]") -> None:
        async for line in self._process.stderr or ():
            said = json.loads(line) if line.startswith(b"{") else {"event": line.decode()}
            self.lines.append(said)
            if said["event"] == "ready" and not ready.done():
                ready.set_result(said)
        if not ready.done():
            ready.set_exception(AssertionError(f"it ended before it was ready: {self.lines}"))

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        code = await asyncio.wait_for(self._process.wait(), 30)
        await self._reading
        return code

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "request"]


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the callers' log. `number` is in the target, so that the sandbox's journal can be compared."""

    number: int
    pid: int
    profile: str
    status: int
    error: str | None
    started: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """What callers saw, and what the sandbox's journal says of the same requests."""

    calls: list[Call]
    sends: Counter[int]
    accepted: Counter[int]

    @property
    def failed(self) -> int:
        return sum(call.status != 200 for call in self.calls)

    @property
    def healed(self) -> int:
        return sum(self.sends[call.number] > 1 for call in self.calls)

    @property
    def most_sends(self) -> int:
        return max((self.sends[call.number] for call in self.calls), default=0)

    @property
    def agree(self) -> bool:
        """Whoever got 200 was accepted once, and nobody else was."""
        return all(self.accepted[call.number] == (call.status == 200) for call in self.calls)

    @property
    def slowest(self) -> float:
        return max(call.seconds for call in self.calls)


_NUMBER = re.compile(r"[?&]drill=(\d+)")


@dataclass
class World:
    sandbox: Sandbox
    accounts: list[FreshAccount]
    configuration: Path
    http: aiohttp.ClientSession
    replicas: list[Replica] = field(default_factory=list)
    log: list[Call] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def profiles(self) -> list[str]:
        return [each.account.profile for each in self.accounts]

    async def start(self, processes: int) -> None:
        started = [Replica(self.configuration) for _ in range(processes)]
        self.replicas += started
        await asyncio.gather(*(replica.start() for replica in started))

    async def restart(self) -> list[int]:
        """All of them, none up before all are down. Gives their exit codes."""
        codes = await asyncio.gather(*(replica.end() for replica in self.replicas))
        self.replicas, before = [], len(self.replicas)
        await self.start(before)
        return codes

    async def lose(self, pid: int) -> None:
        """SIGKILL for one of them."""
        (lost,) = [replica for replica in self.replicas if replica.pid == pid]
        await lost.end(signal.SIGKILL)
        self.replicas.remove(lost)

    async def ask(self, replica: Replica, profile: str) -> Call:
        number = next(self._numbers)
        target, body, headers = EXAMPLES[profile]
        mark = "&" if "?" in target else "?"
        url = f"http://{replica.address}/{profile}{target}{mark}drill={number}"
        started = time.monotonic()
        sent = {"Content-Type": "application/json", **dict(headers)}
        async with self.http.post(url, data=body.encode(), headers=sent) as answer:
            await answer.read()
            error = answer.headers.get("X-Paraf-Error")
            call = Call(number, replica.pid, profile, answer.status, error, started, time.monotonic() - started)
        self.log.append(call)
        return call

    async def burst(self, each: int, profiles: Iterable[str] | None = None) -> Load:
        """`each` requests of every process for every profile, all at once."""
        wanted = list(profiles or self.profiles)
        asked = itertools.product(self.replicas, wanted, range(each))
        return self.looked_at(await asyncio.gather(*(self.ask(replica, profile) for replica, profile, _ in asked)))

    @asynccontextmanager
    async def under_load(
        self, profiles: Iterable[str] | None = None, *, callers: int = 1, pause: float = 0.1
    ) -> AsyncIterator[list[Call]]:
        """That many callers for every process and profile, one request after another, until the block ends."""
        going, calls = True, []

        async def call(replica: Replica, profile: str) -> None:
            while going:
                calls.append(await self.ask(replica, profile))
                await asyncio.sleep(pause)

        asked = itertools.product(self.replicas, list(profiles or self.profiles), range(callers))
        tasks = [asyncio.create_task(call(replica, profile)) for replica, profile, _ in asked]
        try:
            yield calls
        finally:
            going = False
            await asyncio.gather(*tasks)

    def looked_at(self, calls: Iterable[Call]) -> Load:
        entries = [(int(found[1]), entry) for entry in self.sandbox.journal if (found := _NUMBER.search(entry.target))]
        sends = Counter(number for number, _ in entries)
        accepted = Counter(number for number, entry in entries if entry.part is None and entry.status == 200)
        return Load(list(calls), sends, accepted)

    def fetched(self) -> Counter[str]:
        """Token calls of each account so far, by the sandbox's journal."""
        return Counter(entry.account for entry in self.sandbox.journal if is_token(entry))

    def expire(self, profiles: Iterable[str] | None = None) -> None:
        for profile in profiles or self.profiles:
            self.sandbox.expire_tokens(profile)

    async def metric(self, name: str) -> float:
        """The sum over all series and processes."""
        total = 0.0
        for replica in self.replicas:
            async with self.http.get(f"http://{replica.admin}/metrics") as answer:
                families = text_string_to_metric_families(await answer.text())
            total += sum(each.value for family in families for each in family.samples if each.name == name)
        return total

    async def outsider(self, profile: str) -> None:
        """A token call of somebody else's system with the same client id."""
        (account,) = [each.account for each in self.accounts if each.account.profile == profile]
        pair = f"{account.client_id}:{account.client_secret.reveal()}".encode()
        sent = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
        url = f"{self.sandbox_url}/{profile}/oauth/merchant/accesstoken"
        async with self.http.post(url, json={"grant_type": "client_credentials"}, headers=sent) as answer:
            assert answer.status == 200

    sandbox_url: str = ""


def is_token(entry: Entry) -> bool:
    return entry.kind == "token"


@asynccontextmanager
async def world(
    folder: Path, store: str, *, processes: int = 4, profiles: Iterable[str] = WITH_TOKEN, **each: Any
) -> AsyncIterator[World]:
    """`each` goes into every route."""
    accounts = of(*profiles)
    sandbox = Sandbox([account.account for account in accounts], clock=SystemClock())
    host, port = await sandbox.start("127.0.0.1", 0)
    configured = routes(accounts, f"http://{host}:{port}", **each)
    configured |= {"listen": ANY, "admin": ANY, "store": store, "log": {"format": "json"}}
    configuration = folder / "paraf.yaml"
    configuration.write_text(fresh.text(configured))
    http = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=90), auto_decompress=False
    )
    made = World(sandbox, accounts, configuration, http, sandbox_url=f"http://{host}:{port}")
    try:
        await made.start(processes)
        yield made
    finally:
        await http.close()
        for replica in made.replicas:
            with suppress(ProcessLookupError):
                replica.send(signal.SIGCONT)
            await replica.end(signal.SIGKILL)
        await sandbox.stop()
