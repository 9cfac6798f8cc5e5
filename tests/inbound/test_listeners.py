import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from proxy.errors import StartError
from proxy.inbound.handed import handed_over
from proxy.inbound.listeners import Listener, bound
from proxy.inbound.lock import locked
from proxy.settings import read_settings

CREDENTIALS = "{client_id: a, client_secret: {env: S}}"
ROUTES = f"routes: {{doku: {{provider: doku-nonsnap, environment: sandbox, credentials: {CREDENTIALS}}}}}"


def settings(listen, admin="off"):
    return read_settings(f"version: 1\nlisten: {listen}\nadmin: {admin}\n{ROUTES}", "paraf.yaml", environ={})[0]


def is_served(sock):
    with socket.socket(sock.family) as caller:
        return caller.connect_ex(sock.getsockname()) == 0


def test_every_address_of_a_name_listens_at_once():
    with bound(settings("[127.0.0.1:0, '[::1]:0']", "localhost:0"), {}) as listeners:
        assert [each.sock.family for each in listeners.callers] == [socket.AF_INET, socket.AF_INET6]
        assert all(is_served(each.sock) for each in (*listeners.callers, *listeners.admin))
        first = listeners.callers[0]
        assert first.address == f"127.0.0.1:{first.sock.getsockname()[1]}"
        assert listeners.callers[1].address.startswith("[::1]:")
    assert {each.sock.fileno() for each in (*listeners.callers, *listeners.admin)} == {-1}


def test_a_port_is_not_shared():
    with bound(settings("127.0.0.1:0"), {}) as listeners:
        address = listeners.callers[0].address
        assert not listeners.callers[0].sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        with (
            pytest.raises(StartError, match=f"cannot listen on {address}: Address already in use"),
            bound(settings(address), {}),
        ):
            pass
        assert is_served(listeners.callers[0].sock)


def test_a_unix_socket_for_owner_and_group_leaves_nothing_behind(tmp_path):
    path = tmp_path / "paraf.sock"
    with bound(settings(f"unix:{path}"), {}) as listeners:
        assert is_served(listeners.callers[0].sock)
        assert listeners.callers[0].address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE((tmp_path / "paraf.sock.lock").stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_a_unix_socket_that_is_served_is_not_taken_over(tmp_path):
    path = tmp_path / "paraf.sock"
    with bound(settings(f"unix:{path}"), {}) as listeners:
        words = f"cannot listen on unix:{path}: another process serves it and holds {path}.lock"
        with pytest.raises(StartError, match=words), bound(settings(f"unix:{path}"), {}):
            pass
        path.unlink()  # the lock holds without the name too
        with pytest.raises(StartError, match=words), bound(settings(f"unix:{path}"), {}):
            pass
        assert listeners.callers[0].sock.fileno() >= 0


def test_what_a_killed_process_left_is_taken_over(tmp_path):
    path = tmp_path / "paraf.sock"
    code = f"from proxy.inbound.listeners import _unix\nwith _unix({str(path)!r}, 0o660): print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout.read(1) == b"1"
        with pytest.raises(StartError), bound(settings(f"unix:{path}"), {}):
            pass
        killed.send_signal(signal.SIGKILL)
        killed.wait(5)
    assert path.is_socket()
    with bound(settings(f"unix:{path}"), {}) as listeners:
        assert is_served(listeners.callers[0].sock)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backlog", [0, 5])
def test_the_socket_of_a_program_without_a_lock_stays(tmp_path, backlog):
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as caller:
        other.bind(str(path))
        other.listen(backlog)
        caller.connect(str(path))  # with backlog 0 its queue is full now
        with pytest.raises(StartError, match="Address already in use"), bound(settings(f"unix:{path}"), {}):
            pass
    assert [each.name for each in tmp_path.iterdir()] == ["other.sock"]
    path.unlink()
    path.write_text("not a socket")
    with pytest.raises(StartError, match="Address already in use"), bound(settings(f"unix:{path}"), {}):
        pass
    assert path.read_text() == "not a socket"


def test_only_its_own_socket_is_removed(tmp_path):
    path = tmp_path / "paraf.sock"
    with bound(settings(f"unix:{path}"), {}) as listeners, socket.socket(socket.AF_UNIX) as newer:
        path.unlink()
        newer.bind(str(path))
        listeners.turn_away()
        assert path.is_socket()
    assert path.is_socket()


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    path = str(tmp_path / "x")
    real, times = os.open, []

    def slow(*arguments):
        handle = real(*arguments)
        if not times:
            arguments[0].unlink()  # as its holder does, between our open and our flock
        times.append(handle)
        return handle

    monkeypatch.setattr("proxy.inbound.lock.os.open", slow)
    with locked(path):
        assert len(times) == 2
        assert (tmp_path / "x.lock").exists()
        with pytest.raises(OSError, match="another process serves it") as refused, locked(path):
            pass
        assert refused.value.errno == errno.EADDRINUSE


class Rush:
    """Threads that connect, ask and hang up without pause."""

    def __init__(self, listener, threads=16):
        self.sock, self.address = listener.sock, listener.sock.getsockname()
        self.count = Counter()
        self.threads = [threading.Thread(target=self._run, args=(listener.sock.family,)) for _ in range(threads)]

    def _run(self, family):
        for _ in range(100_000):
            with socket.socket(family) as caller:
                caller.settimeout(5)
                try:
                    caller.connect(self.address)
                except OSError:
                    self.count["refused"] += 1
                    return
                try:
                    caller.sendall(b"x")
                    answered = caller.recv(1) == b"y"
                except OSError:
                    answered = False
                self.count["answered" if answered else "lost"] += 1

    def serve(self, seconds):
        self.sock.settimeout(0.05)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                accepted, _ = self.sock.accept()
            except TimeoutError:
                continue
            with accepted:
                accepted.settimeout(5)
                accepted.recv(1)
                accepted.sendall(b"y")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "'[::1]:0'", "unix"])
def test_who_is_in_the_queue_when_others_are_turned_away_is_served(listen, tmp_path):
    listen = f"unix:{tmp_path}/s" if listen == "unix" else listen
    with bound(settings(listen), {}) as listeners:
        rush = Rush(listeners.callers[0])
        for thread in rush.threads:
            thread.start()
        rush.serve(0.2)
        listeners.turn_away()
        rush.serve(0.1)
        listeners.callers[0].sock.close()
        for thread in rush.threads:
            thread.join(5)
    assert rush.count["answered"] > 50
    assert rush.count["lost"] == 0
    assert rush.count["refused"] == 16


HAND = """
import os, sys, socket
pairs = [pair.split("=") for pair in sys.argv[1].split(",")]
made = []
for name, place in pairs:
    sock = socket.socket(socket.AF_UNIX if "/" in place else socket.AF_INET)
    sock.bind(place if "/" in place else ("0.0.0.0", int(place)))
    if name != "deaf":
        sock.listen()
    made.append(os.dup(sock.fileno()))
high = [os.dup2(fd, 100 + i) for i, fd in enumerate(made)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)))
if any(name for name, _ in pairs):
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in pairs)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
TAKE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_listeners import settings
from proxy.errors import StartError
from proxy.inbound.listeners import bound
try:
    with bound(settings(sys.argv[2], sys.argv[3]), os.environ) as listeners:
        print([each.address.rpartition("/")[2] for each in listeners.callers], end=" ")
        print([each.address.rpartition("/")[2] for each in listeners.admin], end=" ")
        if listeners.control:
            print([each.address.rpartition("/")[2] for each in listeners.control], end=" ")
        print([name for name in os.environ if name.startswith("LISTEN")], os.get_inheritable(3))
        listeners.turn_away()
        listeners.callers[0].sock.close()
except StartError as error:
    print(error)
"""


def handed(pairs, listen="127.0.0.1:0", admin="off"):
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", HAND, ",".join("=".join(pair) for pair in pairs)]
    done = subprocess.run(
        [*command, "-c", TAKE, here, listen, admin], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_handed_over_sockets_stand_instead_of_listen(tmp_path):
    assert handed([("", f"{tmp_path}/a"), ("", f"{tmp_path}/b")]) == "['a', 'b'] [] [] False"
    # Their names are not ours to remove.
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]


def test_admin_is_known_by_its_name_or_its_address(tmp_path):
    a, b = f"{tmp_path}/a", f"{tmp_path}/b"
    assert handed([("admin", a), ("paraf.socket", b)], admin="127.0.0.1:0") == "['b'] ['a'] [] False"
    a, b = f"{tmp_path}/c", f"{tmp_path}/d"
    assert handed([("", a), ("", b)], admin=f"unix:{b}") == "['c'] ['d'] [] False"
    only = handed([("admin", f"{tmp_path}/e")], listen=f"unix:{tmp_path}/f")
    assert only == "['f'] ['e'] [] False"


def test_control_is_known_by_its_name(tmp_path):
    a, b = f"{tmp_path}/a", f"{tmp_path}/b"
    assert handed([("control", a), ("", b)]) == "['b'] [] ['a'] [] False"


def test_control_handed_over_for_other_machines_needs_a_token(tmp_path):
    assert "set control_token" in handed([("control", "0"), ("", f"{tmp_path}/b")])


def test_what_does_not_listen_is_refused(tmp_path):
    refused = "what was handed over as file 3 is no stream socket that listens"
    assert handed([("deaf", f"{tmp_path}/a")]) == refused


def test_sockets_for_another_process_are_left_alone():
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "HOME": "/"}
    assert handed_over(environ) == []
    assert environ == {"HOME": "/"}
    assert handed_over({}) == []
    with pytest.raises(StartError, match="LISTEN_FDS is no number"):
        handed_over({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "two"})


def test_by_default_nobody_is_turned_away():
    with socket.create_server(("127.0.0.1", 0)) as lent:
        Listener(lent).turn_away()
        assert is_served(lent)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_socket_has_the_mode_that_was_asked_for(tmp_path, mode):
    with bound(settings(f"unix:{tmp_path}/paraf.sock?mode={mode:04o}"), {}):
        assert stat.S_IMODE((tmp_path / "paraf.sock").stat().st_mode) == mode
