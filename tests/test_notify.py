"""What a service manager is told, by `paraf serve` as a real process."""

import os
import signal
import socket
import time

import pytest
from processes import configuration, serving
from rotating import rotation

from proxy.notify import Notify


def listening(address):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address)
    manager.settimeout(20)
    return manager


def told(manager):
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def test_an_abstract_socket_is_told():
    name = f"paraf-test-{os.getpid()}"
    with listening(f"\0{name}") as manager:
        Notify(f"@{name}").ready("generation 1")
        assert told(manager) == {"READY": "1", "STATUS": "generation 1"}


def test_nobody_is_told_and_nothing_fails(tmp_path):
    for address in ("", f"{tmp_path}/nobody", "relative", "@nobody-listens-here", "vsock:2:1"):
        Notify(address).ready("generation 1")


def test_the_variable_is_taken_out():
    environ = {"NOTIFY_SOCKET": "/x", "HOME": "/"}
    Notify.taken(environ)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_ready_reloading_stopping(tmp_path, monkeypatch, workers):
    address = str(tmp_path / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listening(address) as manager:
        async with rotation(tmp_path, "--workers", workers) as (made, _, paraf):
            assert told(manager) == {"READY": "1", "STATUS": "generation 1"}
            before = time.monotonic_ns() // 1000
            made.turn()
            paraf.kill(signal.SIGHUP)
            reloading = told(manager)
            assert reloading["RELOADING"] == "1"
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert told(manager) == {"READY": "1", "STATUS": "generation 2"}
            (tmp_path / "paraf.yaml").write_text("{")
            paraf.kill(signal.SIGHUP)
            assert told(manager)["RELOADING"] == "1"
            assert told(manager) == {"READY": "1", "STATUS": "generation 2"}
            paraf.kill(signal.SIGTERM)
            stopping = told(manager)
            assert stopping["STOPPING"] == "1"
            assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 25_000_000
            assert await paraf.ended() == 0


async def test_a_manager_that_does_not_read_holds_nothing_up(tmp_path, monkeypatch):
    address = str(tmp_path / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listening(address):
        for _ in range(2000):
            Notify(address).ready("x")
        async with serving(tmp_path, configuration("http://127.0.0.1:9")) as paraf:
            paraf.kill(signal.SIGTERM)
            assert await paraf.ended() == 0
