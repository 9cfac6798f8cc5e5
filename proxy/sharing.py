"""What a process alone has for itself, and several workers must share: the store of tokens."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from proxy.errors import StartError
from proxy.settings import Settings
from proxy.storeforms import MEMORY, FileForm

_IN_MEMORY: Final = "/dev/shm"  # noqa: S108 -- only a folder of our own in it, made by mkdtemp
"""Beside the places that a service manager names: it is there in containers too, whose other folders are read-only."""


@contextmanager
def shared_store(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[Settings, Path | None]]:
    """Settings with a store that workers can share, and the private folder in which it lies, if one was needed.

    Tokens in memory are one process's own: each worker would fetch, and end the exclusive token of the others. Only
    this user can enter the folder; the last process that has it `joined` removes it. Raises StartError.
    """
    if settings.store != MEMORY:
        yield settings, None
        return
    directory = _made(environ)
    with joined(directory):
        yield replace(settings, store=FileForm(str(directory))), directory


def _made(environ: Mapping[str, str]) -> Path:
    named = (environ.get(name, "").partition(":")[0] for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"))
    for place in (*named, _IN_MEMORY, tempfile.gettempdir()):
        with suppress(OSError):
            if place:
                return Path(tempfile.mkdtemp(prefix="paraf-", dir=place))
    raise StartError("no folder for the tokens that workers share can be made: set `store`, or RUNTIME_DIRECTORY")


@contextmanager
def joined(directory: Path) -> Iterator[None]:
    """Keep the folder for as long as the block runs. After a supervisor was killed its last worker clears up."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        yield
    finally:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        os.close(handle)
