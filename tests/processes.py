"""`paraf serve` as real processes, and callers that count what became of each of their requests."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from proxy.commands import fresh

Line = dict[str, Any]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def configuration(upstream: str, **more: Any) -> dict[str, Any]:
    """One route `pay` that needs no token."""
    credentials = {"client_id": "MCH-1", "client_secret": "s3cret"}
    route = {"provider": "doku-nonsnap", "environment": "sandbox", "upstream": upstream, "credentials": credentials}
    listening = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    return {"version": 1, **listening, "log": {"format": "json"}, "routes": {"pay": route}, **more}


@dataclass
class Serving:
    process: asyncio.subprocess.Process
    lines: list[Line] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    """What was written to stderr and is no log line."""
    over: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            try:
                self.lines.append(json.loads(raw))
            except ValueError:
                self.other.append(raw.decode())
            self._news.set()
        self.over = True
        self._news.set()

    def told(self, event: str, **fields: Any) -> list[Line]:
        return [line for line in self.lines if line["event"] == event and fields.items() <= line.items()]

    async def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> Any:
        """Wait for what a log line brings about."""
        async with asyncio.timeout(seconds):
            while not (found := condition()):
                self._news.clear()
                await self._news.wait()
        return found

    @property
    def ready(self) -> Line:
        return self.told("ready")[0]

    @property
    def address(self) -> tuple[str, int] | str:
        """Of the first listener."""
        host, _, port = self.ready["listen"][0].rpartition(":")
        return port if host == "unix" else (host, int(port))

    @property
    def workers(self) -> dict[int, int]:
        """Process ids by number."""
        return {line["worker"]: line["pid"] for line in self.told("worker started")}

    def kill(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = 15.0) -> int:
        return await asyncio.wait_for(self.process.wait(), seconds)

    async def probe(self, path: str) -> tuple[int, str]:
        reader, writer = await asyncio.open_connection(*self.ready["admin"].rsplit(":", 1))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 5)
        await hung_up(writer)
        head, _, body = answer.decode().partition("\r\n\r\n")
        return int(head.split()[1]), body

    async def metric(self, name: str, **labels: str) -> float:
        _, page = await self.probe("/metrics")
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


@asynccontextmanager
async def serving(
    folder: Path,
    configured: dict[str, Any],
    *arguments: str,
    command: Sequence[str] = ("-m", "proxy"),
    inherited: Sequence[socket.socket] = (),
    files: Sequence[int] = (),
) -> AsyncIterator[Serving]:
    """Ready, or ended before it was. In a process group of its own; nothing of it is left afterwards."""
    file = folder / "paraf.yaml"
    file.write_text(fresh.text(configured))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "serve", "-c", str(file), "--allow-inline-secrets", *arguments,
        stderr=asyncio.subprocess.PIPE, limit=1 << 20, start_new_session=True,
        env={**os.environ, "RUNTIME_DIRECTORY": str(folder)}, pass_fds=[*(sock.fileno() for sock in inherited), *files],
    )  # fmt: skip
    made = Serving(process)
    following = asyncio.create_task(made.follow())
    try:
        await made.until(lambda: made.told("ready") or made.over)
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await asyncio.wait_for(following, 5)


def measured(*words: object) -> None:
    """Shown by `pytest -s` or `-rP`."""
    print("measured:", *words)  # noqa: T201


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def pss(pid: int) -> int:
    """KiB of memory, shared pages divided by those who share them."""
    return int(re.findall(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[0])


def alive(pid: int) -> bool:
    """Is it a process, and no zombie?"""
    with suppress(FileNotFoundError, ProcessLookupError):
        return re.search(r"^State:\s+[^Z]", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is not None
    return False


@dataclass
class Callers:
    """Send one request after the other until `over`; each counts what became of its own.

    `kept`: over one connection as long as it lasts, else over a new one each. Leaving the block ends all.
    """

    address: tuple[str, int] | str
    """Of a TCP or unix socket."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    count: Counter[str] = field(default_factory=Counter)
    lost_at: list[str] = field(default_factory=list)
    """Whose connection broke: the mark of the process that had answered on it before, "" if none had."""
    marks: Counter[str] = field(default_factory=Counter)
    """Answers by process: the start of the request id is its own."""
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await hung_up(*self._writers)

    async def connect(self) -> Connection:
        unix = isinstance(self.address, str)
        connected = asyncio.open_unix_connection(self.address) if unix else asyncio.open_connection(*self.address)
        reader, writer = await connected
        self._writers.append(writer)
        return reader, writer

    def start(self, number: int, *, kept: bool) -> None:
        self._tasks += [asyncio.create_task(self._run(kept=kept)) for _ in range(number)]

    async def stop(self, seconds: float = 10.0) -> None:
        self.over.set()
        async with asyncio.timeout(seconds):
            await asyncio.gather(*self._tasks)

    async def _run(self, *, kept: bool) -> None:
        while not self.over.is_set():
            try:
                reader, writer = await self.connect()
            except OSError:
                self.count["refused"] += 1
                return
            await self._converse(reader, writer, kept=kept)
            await hung_up(writer)
            self._writers.remove(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, kept: bool) -> None:
        mark = ""
        while not self.over.is_set():
            try:
                status, again, mark = await ask(reader, writer, keep=kept)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.count["lost"] += 1
                self.lost_at.append(mark)
                return
            self.count[str(status)] += 1
            self.marks[mark] += 1
            if not (kept and again):
                return


async def hung_up(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool = True
) -> tuple[int, bool, str]:
    """Status, whether the connection stays, and the mark of the process."""
    closing = "" if keep else "Connection: close\r\n"
    writer.write(f"POST /pay/v1/x HTTP/1.1\r\nHost: localhost\r\n{closing}Content-Length: 2\r\n\r\n{{}}".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = {name.lower(): value for name, value in re.findall(r"^(\S+): (.*)\r$", head, re.MULTILINE)}
    await reader.readexactly(int(fields["content-length"]))
    return int(head.split()[1]), fields.get("connection", "").lower() != "close", fields["x-paraf-request-id"][:16]
