"""Sockets that a service manager bound and hands over: sd_listen_fds(3)."""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from proxy.errors import StartError

FIRST: Final = 3
"""SD_LISTEN_FDS_START."""


def handed_over(environ: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    """Name ("" if none was given) and socket of each. The variables are taken out of `environ`: no process that this
    one starts shall think that they are meant for it. Raises StartError.
    """
    process, count, names = (environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if process != str(os.getpid()):
        return []
    if not count.isdecimal():
        raise StartError("LISTEN_FDS is no number: no socket can be taken over")
    given = names.split(":") if names else []
    return [(given[i] if i < len(given) else "", _listening(FIRST + i)) for i in range(int(count))]


def _listening(number: int) -> socket.socket:
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        if sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return sock
        sock.detach()
    except OSError:
        pass
    raise StartError(f"what was handed over as file {number} is no stream socket that listens")
