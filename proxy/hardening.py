"""What keeps the memory of a process that holds keys from others on its machine. Each is done where the system can."""

import ctypes
import resource
import sys
from contextlib import suppress
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""Of prctl(2)."""


def no_dumps() -> None:
    """No core file, and on Linux none through a pipe either: the limit alone does not keep a crash catcher out.

    A process of the same user can then neither trace this one nor read its memory and environment in /proc.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    unreadable()


def unreadable() -> None:
    """The part of it that children do not inherit."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def overwrite_variable(name: str) -> None:
    """Stars over the value where the process was given it: there /proc shows it even after it was unset."""
    with suppress(AttributeError, OSError):
        getenv = ctypes.CDLL(None).getenv
        getenv.restype = ctypes.c_void_p
        if place := getenv(name.encode()):
            ctypes.memset(place, ord("*"), len(ctypes.string_at(place)))
