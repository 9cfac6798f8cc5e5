"""What a service manager is told: sd_notify(3), for units of `Type=notify` and `notify-reload`."""

import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final


class Notify:
    """Nothing is told without an address. A manager that does not listen is no reason to fail."""

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    @classmethod
    def taken(cls, environ: MutableMapping[str, str]) -> "Notify":
        """The variable is taken out, so that no process that this one starts speaks for it."""
        return cls(environ.pop("NOTIFY_SOCKET", ""))

    def ready(self, words: str) -> None:
        self._tell("READY=1", f"STATUS={words}")

    def reloading(self) -> None:
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self, seconds: float) -> None:
        """`seconds`: how long it may take, which may be more than the unit allows."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}", "STATUS=stopping")

    def _tell(self, *lines: str) -> None:
        if self._address.startswith(("/", "\0")):
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)


NOBODY: Final = Notify()
