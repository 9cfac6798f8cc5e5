"""A redis-server of the test's own: on a unix socket or a loopback port, killed, restarted empty, put to sleep."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

PROGRAM = shutil.which("redis-server")


class RedisServer:
    """Started by `start`. Keeps nothing on disk unless `durable`: then it comes back with every write it answered."""

    def __init__(self, folder: Path, *, port: int = 0, durable: bool = False, options: tuple[str, ...] = ()) -> None:
        self.socket = folder / "redis.sock"
        self.port = port
        self._folder = folder
        keep = ("--appendonly", "yes", "--appendfsync", "always") if durable else ("--save", "")
        self._options = (*keep, *options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}?db=0"

    def client(self, **login: str) -> "redis.Redis[Any]":
        place = {"port": self.port} if self.port else {"unix_socket_path": str(self.socket)}
        return redis.Redis(**place, socket_timeout=20, retry=None, **login)

    def start(self) -> None:
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self._folder), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with self.client() as asking:
                return bool(asking.ping())
        except redis.AuthenticationError:
            return True
        except (redis.RedisError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL: no farewell, nothing written."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Answers nobody meanwhile, and then whoever asked."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        with self.client() as asking:
            asking.flushall()

    def commands(self) -> int:
        """All commands served so far, those of this question not among them."""
        with self.client() as asking:
            stats = asking.info("commandstats")
        own = {"cmdstat_info", "cmdstat_client|setinfo", "cmdstat_select", "cmdstat_hello", "cmdstat_auth"}
        return sum(stat["calls"] for name, stat in stats.items() if name not in own)


@contextmanager
def redis_server(folder: Path, **ways: Any) -> Iterator[RedisServer]:
    if PROGRAM is None:
        pytest.fail("redis-server is not installed: tests/run installs it where it is root")
    server = RedisServer(folder, **ways)
    server.start()
    try:
        yield server
    finally:
        server.kill()
