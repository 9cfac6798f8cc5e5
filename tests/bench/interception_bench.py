"""What interception costs: CPU of `paraf serve` for a request by prefix and for one in a tunnel, in one run, by hand.

    .venv/bin/python tests/bench/interception_bench.py [ROUNDS]

Provider and callers are processes of their own; the rounds of both ways alternate. Signed with HMAC-SHA256, body 1 KiB.
"""

import asyncio
import os
import re
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from rawpeer import RawCaller
from tunnelling import HOST, authority, on_disk, post, trusting

from proxy.authority import Authority, utc_now
from proxy.inbound.leaves import LeafContext

CONNECTIONS = 16
REQUESTS = 250
"""Of each connection and round."""
FRESH = 200
"""Connections of a round with one request each."""
BODY = b'{"order": "' + b"x" * 1010 + b'"}'
PROVIDER = """
import asyncio
class Provider(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\\r\\n\\r\\n")) >= 0 and len(self.data) >= end + 4 + BODY:
            self.data = self.data[end + 4 + BODY:]
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
async def main():
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def cpu(pid: int) -> float:
    """Seconds, of user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, port: int, pid: int, tls: ssl.SSLContext) -> None:
        self.port, self.pid, self.tls = port, pid, tls
        self.plain = post("/pay/x", BODY, "localhost")
        self.inside = post("/x", BODY)

    async def one(self, requests: int, *, intercepted: bool) -> None:
        async with RawCaller("127.0.0.1", self.port, 30) as caller:
            if intercepted:
                await caller.tunnel(f"{HOST}:443", self.tls)
            for _ in range(requests):
                caller.send(self.inside if intercepted else self.plain)
                answer = await caller.answer()
                assert answer.status == 200, answer

    async def measured(self, work: Callable[[], Awaitable[None]], count: int) -> float:
        """Microseconds of CPU for each of `count`."""
        before = cpu(self.pid)
        await work()
        return (cpu(self.pid) - before) / count * 1e6

    async def kept(self, *, intercepted: bool) -> float:
        async def work() -> None:
            await asyncio.gather(*(self.one(REQUESTS, intercepted=intercepted) for _ in range(CONNECTIONS)))

        return await self.measured(work, REQUESTS * CONNECTIONS)

    async def fresh(self, *, intercepted: bool) -> float:
        async def work() -> None:
            for _ in range(FRESH // 10):
                await asyncio.gather(*(self.one(1, intercepted=intercepted) for _ in range(10)))

        return await self.measured(work, FRESH)


def minted() -> tuple[float, float]:
    """Milliseconds to sign a certificate, and with its TLS context: medians of 200."""
    made = authority(HOST)
    signer, spans = Authority.read(made.chain, made.key), []
    for _ in range(200):
        began = time.perf_counter()
        leaf = signer.leaf(HOST, utc_now())
        signed = time.perf_counter()
        LeafContext(HOST, leaf)
        spans.append((signed - began, time.perf_counter() - began))
    return statistics.median(first for first, _ in spans) * 1e3, statistics.median(all_ for _, all_ in spans) * 1e3


async def main(rounds: int) -> None:
    print("a certificate: {:.2f} ms signed, {:.2f} ms with its context".format(*minted()))
    with tempfile.TemporaryDirectory() as name:
        folder, made = Path(name), authority(HOST)
        pipe = asyncio.subprocess.PIPE
        code = PROVIDER.replace("BODY", str(len(BODY)))
        provider = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe)
        upstream = int(await provider.stdout.readline())
        route = {
            "provider": "doku-nonsnap",
            "upstream": f"http://127.0.0.1:{upstream}",
            "hosts": [HOST],
            "intercept": True,
            "credentials": {"client_id": "BENCH", "client_secret": {"env": "BENCH_SECRET"}},
        }
        configured = {"version": 1, "listen": "127.0.0.1:0", "admin": "off", "routes": {"pay": route}}
        configured["ca"] = on_disk(made, folder)
        (folder / "paraf.yaml").write_text(yaml.safe_dump(configured), "utf-8")
        serving = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", "-c", str(folder / "paraf.yaml"),
            env=os.environ | {"BENCH_SECRET": "s" * 20, "PARAF_LOG_LEVEL": "info"}, stderr=pipe,
        )  # fmt: skip
        while not (ready := re.search(rb'"ready".*"127\.0\.0\.1:(\d+)"', await serving.stderr.readline())):
            pass
        bench = Bench(int(ready[1]), serving.pid, trusting(made.root))
        eaten = asyncio.create_task(serving.stderr.read())
        figures: dict[str, list[float]] = {}
        await bench.kept(intercepted=False)
        await bench.kept(intercepted=True)
        for _ in range(rounds):
            for intercepted in (False, True):
                way = "in a tunnel" if intercepted else "by prefix"
                figures.setdefault(f"kept connection, {way}", []).append(await bench.kept(intercepted=intercepted))
                figures.setdefault(f"new connection, {way}", []).append(await bench.fresh(intercepted=intercepted))
        for way, values in sorted(figures.items()):
            print(f"{way:32} {statistics.median(values):7.0f} us of CPU ({min(values):.0f} to {max(values):.0f})")
        for process in (serving, provider):
            process.terminate()
            await process.wait()
        await eaten


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
