"""Paraf beside a Go reverse proxy and a naive aiohttp one, all signing the same calls: what each costs.

    .venv/bin/python tests/bench/bench.py [--python PYTHON] [--rounds 9] [--seconds 1] [SCENARIO ...]

By hand, never in CI: the figures are of one machine in one hour. Needs `go`. PYTHON is the interpreter for the Python
proxies, with Paraf and `paraf[fast]` in it; it is worth one that was built with optimisations, such as Debian's.

Scenarios (default: all): `plain` 1 KiB POST, 32 callers; `tls` the same to a provider with TLS; `64k` a body of
64 KiB, 8 callers; `one` one caller, and the median beside a direct call; `idle` 1,000 idle callers beside 32 busy
ones; `workers` one worker (or thread of Go) beside two, which need a core more than callers and provider take.

Each launch of a proxy signs for a warm-up first; then rounds go from proxy to proxy, so that all meet the same
machine. Cost is user and system CPU time of the proxy and its children a request, from the scheduler's own account.
The ratio to the first is the median of the ratios inside each round. Access log and metrics of Paraf are on.
"""

import argparse
import contextlib
import datetime as dt
import ipaddress
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

HERE = Path(__file__).parent
SECRET = "bench-secret"
SCENARIOS = ("plain", "tls", "64k", "one", "idle", "workers")
PEERS = ("go", "paraf", "aiohttp")
WORKERS = ("paraf", "2 paraf", "go", "2 go")
IDLE = 1000
ONE_THREAD = {**os.environ, "GOMAXPROCS": "1"}
"""Of Go: callers and provider shall take little from the proxies."""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def body_of(size: int) -> bytes:
    """JSON as people write it, with blanks; about so many bytes."""
    rows = [{"partnerReferenceNo": f"R{number:08}", "value": "10000.00"} for number in range(size // 56)]
    return json.dumps({"note": "x" * 40, "rows": rows}).encode()


@dataclass
class Peer:
    """A launched proxy, and what the rounds gave: microseconds a request, and the callers' side."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    start: float
    costs: list[float] = field(default_factory=list)
    seen: list[dict[str, float]] = field(default_factory=list)

    def family(self) -> list[int]:
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        below: dict[int, list[int]] = {}
        for pid, parent in (map(int, line.split()) for line in listed.splitlines()):
            below.setdefault(parent, []).append(pid)
        found = [self.process.pid]
        for pid in found:
            found += below.get(pid, [])
        return found

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        tasks = [task for pid in self.family() for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> float:
        """MiB resident."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.family()]
        return sum(int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) for text in texts) / 1024


class Bench:
    def __init__(self, folder: Path, python: str, *, rounds: int, seconds: float) -> None:
        self.folder, self.python = folder, python
        self.rounds, self.seconds = rounds, seconds
        self.tool = str(folder / "peers")
        subprocess.run(["go", "build", "-o", self.tool, str(HERE / "peers.go")], check=True)
        self._credentials()

    def _credentials(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
        now = dt.datetime.now(dt.UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        made = made.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
        local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = made.add_extension(local, critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        form = serialization.Encoding.PEM
        (self.folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(form))
        text = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.folder / "key.pem").write_bytes(text)
        (self.folder / "key.pem").chmod(0o600)

    @contextlib.contextmanager
    def launched(self, *command: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            command, env={**ONE_THREAD, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)

    def command(self, name: str, port: int, upstream: str, workers: int) -> list[str]:
        ca = [str(self.folder / "cert.pem")] if upstream.startswith("https") else []
        if name == "go":
            return [self.tool, "proxy", f"127.0.0.1:{port}", upstream, *ca]
        if name == "aiohttp":
            return [self.python, str(HERE / "naive_peer.py"), str(port), upstream, *ca]
        file = self.folder / f"paraf-{port}.yaml"
        file.write_text(
            f"version: 1\nlisten: 127.0.0.1:{port}\nadmin: 127.0.0.1:{free_port()}\nworkers: {workers}\n"
            f"log: {{format: json}}\nroutes:\n  bench:\n    provider: ifortepay-disbursement\n    prefix: /\n"
            f"    upstream: {upstream}\n    allow_private: true\n    credentials: {{client_id: bench,"
            f" client_secret: {SECRET}, private_key: {{file: key.pem}}}}\n"
            + (f"    tls: {{ca: {ca[0]}}}\n" if ca else "")
        )
        return [self.python, "-m", "proxy", "serve", "-c", str(file), "--allow-inline-secrets"]

    @contextlib.contextmanager
    def peer(self, name: str, upstream: str) -> Iterator[Peer]:
        """`2 paraf` is one with two workers."""
        kind, workers = (name[2:], 2) if name.startswith("2 ") else (name, 1)
        port, begun = free_port(), time.monotonic()
        with self.launched(*self.command(kind, port, upstream, workers), GOMAXPROCS=str(workers)) as process:
            while not self._answers(port):
                if process.poll() is not None or time.monotonic() > begun + 20:
                    raise SystemExit(f"{name} does not start")
                time.sleep(0.01)
            yield Peer(name, process, port, time.monotonic() - begun)

    @staticmethod
    def _answers(port: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as one:
                one.sendall(b"POST /v1.0/transfer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}")
                return b" 200 " in one.recv(64)
        except OSError:
            return False

    def asked(self, port: int, body: Path, *, callers: int, seconds: float, direct: bool = False) -> dict[str, float]:
        command = [self.tool, "callers", f"127.0.0.1:{port}", str(callers), str(seconds), str(body)]
        command += ["direct"] if direct else []
        told = subprocess.run(command, env=ONE_THREAD, capture_output=True, check=True).stdout
        return dict(json.loads(told))

    def measure(self, peer: Peer, body: Path, callers: int) -> None:
        before = peer.cpu()
        seen = self.asked(peer.port, body, callers=callers, seconds=self.seconds)
        if seen["errors"] or not seen["requests"]:
            raise SystemExit(f"{peer.name}: {seen['errors']} of {seen['requests']} requests failed")
        peer.costs.append((peer.cpu() - before) / seen["requests"] * 1e6)
        peer.seen.append(seen)

    def run(self, scenario: str) -> None:
        secure = scenario == "tls"
        port, callers = free_port(), {"64k": 8, "one": 1}.get(scenario, 32)
        body = self.folder / "body.json"
        body.write_bytes(body_of(65_536 if scenario == "64k" else 1000))
        credentials = [str(self.folder / name) for name in ("cert.pem", "key.pem")] if secure else []
        upstream = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
        names = WORKERS if scenario == "workers" else PEERS
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.launched(self.tool, "provider", f"127.0.0.1:{port}", *credentials))
            time.sleep(0.3)
            peers = [stack.enter_context(self.peer(name, upstream)) for name in names]
            resting = {peer.name: peer.memory() for peer in peers}
            for peer in peers:
                self.asked(peer.port, body, callers=callers, seconds=0.5)
            if scenario == "idle":
                for peer in peers:
                    self._rest(stack, peer.port)
            for _ in range(self.rounds):
                for peer in peers:
                    self.measure(peer, body, callers)
            direct = self.asked(port, body, callers=1, seconds=1, direct=True)["p50_ms"] if scenario == "one" else None
            self._tell(scenario, peers, resting, direct)

    def _rest(self, stack: contextlib.ExitStack, port: int) -> None:
        """Callers who asked once and stay."""
        for _ in range(IDLE):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            one.sendall(b"POST /v1.0/transfer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}")
            one.recv(4096)

    def _tell(self, scenario: str, peers: list[Peer], resting: dict[str, float], direct: float | None) -> None:
        first = peers[0].name
        say(f"\n{scenario}: us/request median (best), x {first} paired, req/s, p50 ms, MiB at rest and now, start s")
        for peer in peers:
            ratios = [mine / theirs for mine, theirs in zip(peer.costs, peers[0].costs, strict=True)]
            rate = statistics.median(seen["requests"] for seen in peer.seen) / self.seconds
            p50 = statistics.median(seen["p50_ms"] for seen in peer.seen)
            added = "" if direct is None else f" (+{p50 - direct:.2f} to a direct call)"
            say(
                f"{peer.name:8} {statistics.median(peer.costs):8.1f} ({min(peer.costs):.1f})"
                f" {statistics.median(ratios):6.2f} {rate:8.0f} {p50:7.2f}{added}"
                f" {resting[peer.name]:6.1f} {peer.memory():6.1f} {peer.start:5.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.python, rounds=asked.rounds, seconds=asked.seconds)
        for scenario in asked.scenarios or SCENARIOS:
            bench.run(scenario)


if __name__ == "__main__":
    main()
