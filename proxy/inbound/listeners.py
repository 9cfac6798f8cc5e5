"""The sockets that Paraf listens on: bound once for all workers, or handed over, and let go when they end."""

import ctypes
import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from proxy.addresses import Listen, TcpListen, UnixListen
from proxy.errors import StartError
from proxy.inbound.handed import handed_over
from proxy.inbound.lock import locked
from proxy.settings import Settings

BACKLOG: Final = 1024
"""Callers that may wait to be accepted; the kernel cuts it to net.core.somaxconn."""

_OWNER_AND_GROUP: Final = 0o660
_OWNER_ALONE: Final = 0o600
"""Modes of unix sockets."""

_SO_ATTACH_FILTER: Final = 26
_SYN_ALONE: Final = (
    (0x30, 0, 0, 13),  # load byte 13 of the TCP header: its flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK of them
    (0x15, 0, 1, 0x02),  # SYN alone? then the next line, else the one after it
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)
"""A classic BPF program: code, jump if true, jump if false, operand (linux/filter.h)."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket. After `turn_away` nobody new comes into its queue; who is in it can still be accepted.

    Closing a socket resets everybody in its queue: under load 29 of 30 connected callers were lost (measured).
    By default nothing is turned away: what was handed over is somebody else's, and its queue outlives us.
    """

    sock: socket.socket
    turn_away: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        name = self.sock.getsockname()
        if self.sock.family == socket.AF_UNIX:
            return f"unix:{name}"
        return f"[{name[0]}]:{name[1]}" if self.sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"

    @property
    def is_remote(self) -> bool:
        """Can other machines reach it?"""
        if self.sock.family == socket.AF_UNIX:
            return False
        return not ipaddress.ip_address(self.sock.getsockname()[0]).is_loopback


@dataclass(frozen=True, slots=True)
class Listeners:
    callers: tuple[Listener, ...]
    admin: tuple[Listener, ...]
    control: tuple[Listener, ...] = ()

    @property
    def told(self) -> dict[str, Any]:
        """Their addresses, for a log line."""
        control = {"control": self.control[0].address} if self.control else {}
        admin = self.admin[0].address if self.admin else "off"
        return {"listen": [each.address for each in self.callers], "admin": admin, **control}

    def turn_away(self) -> None:
        for listener in self.callers:
            listener.turn_away()


@contextmanager
def bound(settings: Settings, environ: MutableMapping[str, str]) -> Iterator[Listeners]:
    """Every socket of the settings, listening. Handed-over sockets stand instead of `listen`, and one with the name
    or the address of `admin` or `control` instead of that. Raises StartError.
    """
    with ExitStack() as stack:
        given: dict[str, list[Listener]] = {"listen": [], "admin": [], "control": []}
        for name, sock in handed_over(environ):
            listener = Listener(stack.enter_context(closing(sock)))
            given[_purpose(settings, name, listener)].append(listener)
        callers = given["listen"] or [each for listen in settings.listen for each in _bind(listen, stack)]
        admins = given["admin"] or (_bind(settings.admin, stack) if settings.admin else [])
        control = given["control"] or (_bind(settings.control, stack, mode=_OWNER_ALONE) if settings.control else [])
        _refuse_open(control, settings)
        yield Listeners(tuple(callers), tuple(admins), tuple(control))


def _purpose(settings: Settings, name: str, listener: Listener) -> str:
    """What a handed-over socket is for: by the name it was given, else by its address."""
    for purpose, listen in (("admin", settings.admin), ("control", settings.control)):
        if name == purpose or (listen is not None and listener.address == str(listen)):
            return purpose
    return "listen"


def _refuse_open(control: list[Listener], settings: Settings) -> None:
    """What the configuration would be refused for can still be handed over."""
    if settings.control_token is None and any(each.is_remote for each in control):
        raise StartError("the socket handed over for control can be reached by other machines: set control_token")


def _bind(listen: Listen, stack: ExitStack, *, mode: int = _OWNER_AND_GROUP) -> list[Listener]:
    """A listener for every address of the name. `mode`: of a unix socket that is written without one."""
    try:
        if isinstance(listen, UnixListen):
            return [stack.enter_context(_unix(listen.path, mode if listen.mode is None else listen.mode))]
        return [_tcp(stack.enter_context(closing(socket.socket(family))), at) for family, at in _resolved(listen)]
    except OSError as error:
        raise StartError(f"cannot listen on {listen}: {error.strerror or 'no such address'}") from None


def _resolved(listen: TcpListen) -> list[tuple[socket.AddressFamily, Any]]:
    infos = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, address) for family, _, _, _, address in infos]


def _tcp(sock: socket.socket, address: Any) -> Listener:
    """It listens at once: two processes can bind one address with SO_REUSEADDR as long as neither does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    sock.listen(BACKLOG)
    return Listener(sock, partial(_drop_syns, sock))


def _drop_syns(sock: socket.socket) -> None:
    """Handshakes that have begun come to their end. A caller who is turned away tries again after 1 s and is refused.

    Accepting until the queue is empty does not do: under load it never is, or fills between the look and the close.
    """
    if sys.platform == "linux" and sock.fileno() >= 0:
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _SYN_ALONE))
        program = struct.pack("HP", len(_SYN_ALONE), ctypes.addressof(code))
        with suppress(OSError):  # a kernel without it: then as everywhere else
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


@contextmanager
def _unix(path: str, mode: int) -> Iterator[Listener]:
    """With `mode` from the first moment on. Whoever holds the lock takes a socket over that nobody serves any more."""
    with locked(path), closing(socket.socket(socket.AF_UNIX)) as sock:
        _clear(path)
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
        remove = partial(_remove, Path(path), Path(path).stat().st_ino)
        try:
            yield Listener(sock, remove)
        finally:
            remove()


def _clear(path: str) -> None:
    """Take away what an ended process left. A full queue (EAGAIN) is served too: by one that knows no lock."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            Path(path).unlink()


def _remove(path: Path, inode: int) -> None:
    """Only our own: the inode is not given away as long as the socket is open."""
    with suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()
