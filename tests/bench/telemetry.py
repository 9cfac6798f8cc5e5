"""What metrics and log cost a request: the same proxy with them and without, in CPU time of its process, by hand.

    python tests/bench/telemetry.py [--rounds 6] [--requests 6000]

Three processes beside this one: a provider, and two proxies in front of it that differ in nothing but telemetry. Rounds
are interleaved, and each begins with the other proxy. A request is signed, with a kept token, over kept connections;
the log is a pipe that this process reads. The time of the thread that writes the log is counted in. What is not: the
story of a request itself, which the way of a request needs, with its four readings of the clock.
"""

import argparse
import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from running import ANY, of, routes

from proxy.app import App, event_loop, settle_process
from proxy.commands import GC_THRESHOLD, fresh
from proxy.generation import build
from proxy.settings import read_settings

CALL = (
    b"POST /doku/virtual-accounts/v1.1/transfer-va/create-va HTTP/1.1\r\nHost: localhost\r\n"
    b'Content-Type: application/json\r\nContent-Length: 52\r\n\r\n{"partnerServiceId": "  088899", "trxId": "INV-1"  }'
)
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{"responseCode": "2002700"}'
TOKEN = b'{"accessToken": "tok-1", "tokenType": "Bearer", "expiresIn": "9000"}'
CONNECTIONS = 16


class Provider(asyncio.Protocol):
    """Takes every read for a request: no caller here sends two at once."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if b"access-token" in data:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(TOKEN), TOKEN))
        else:
            self.transport.write(ANSWER)


class Nothing:
    """Metrics that count nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return nothing


def nothing(*_: object, **__: object) -> None:
    return


async def provide() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def text_of(file: str) -> str:
    return Path(file).read_text()


async def serve(kind: str, file: str) -> None:
    settings, _ = read_settings(text_of(file), file, environ={}, allow_inline_secrets=True)
    generation = build(settings, environ={}, folder=Path())
    app = App(settings, generation)
    if kind == "quiet":
        app.metrics, app.ended.tells[:] = Nothing(), []  # type: ignore[assignment]
    async with app.running():
        gc.set_threshold(*GC_THRESHOLD)
        settle_process()
        print(app.addresses[0].rpartition(":")[2], flush=True)
        await asyncio.Event().wait()


class Child:
    """A process that prints its port; its stderr is read and counted."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, __file__, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.lines = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        while data := os.read(self.process.stderr.fileno(), 1 << 20):
            self.lines += data.count(b"\n")

    def cpu(self) -> float:
        """Seconds of all its threads."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in tasks) / 1e9


async def load(port: int, requests: int) -> None:
    await asyncio.gather(*(ask(port, requests // CONNECTIONS) for _ in range(CONNECTIONS)))


async def ask(port: int, requests: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(requests):
        writer.write(CALL)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(27)
    writer.close()


def measured(child: Child, requests: int) -> float:
    """Microseconds a request."""
    before = child.cpu()
    asyncio.run(load(child.port, requests))
    return (child.cpu() - before) / requests * 1e6


def compare(rounds: int, requests: int) -> None:
    provider = Child("--provide")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "paraf.yaml"
        configured = routes(of("doku"), f"http://127.0.0.1:{provider.port}")
        file.write_text(fresh.text({**configured, "listen": ANY, "admin": ANY, "log": {"format": "json"}}))
        told, quiet = Child("--serve", "told", str(file)), Child("--serve", "quiet", str(file))
        try:
            for child in (told, quiet):
                measured(child, requests)
            print("round  told  quiet  difference (us of CPU a request)")
            differences = []
            for number in range(rounds):
                order = (told, quiet) if number % 2 else (quiet, told)
                took = {child: measured(child, requests) for child in order}
                differences.append(took[told] - took[quiet])
                print(f"{number + 1:5} {took[told]:6.1f} {took[quiet]:6.1f} {differences[-1]:6.1f}")
            print(f"median {statistics.median(differences):.1f}")
        finally:
            for child in (told, quiet, provider):
                child.process.kill()
        print(f"log lines: {told.lines} told, {quiet.lines} quiet")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--provide", action="store_true")
    parser.add_argument("--serve", nargs=2)
    chosen = parser.parse_args()
    if chosen.provide:
        asyncio.run(provide())
    elif chosen.serve:
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(serve(*chosen.serve))
    else:
        compare(chosen.rounds, chosen.requests)


if __name__ == "__main__":
    main()
