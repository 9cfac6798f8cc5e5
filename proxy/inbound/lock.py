"""The lock beside a unix socket: a name in the file system, unlike a port, can be taken from the one who serves it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Holds `PATH.lock` for as long as the block runs or the process lives. Raises OSError, also if another does."""
    lock = Path(f"{path}.lock")
    handle = _held(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before it is let go, so that the next one's is not removed
        os.close(handle)


def _held(lock: Path) -> int:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise OSError(errno.EADDRINUSE, f"another process serves it and holds {lock}") from None
        if _is_still(lock, handle):
            return handle
        os.close(handle)


def _is_still(lock: Path, handle: int) -> bool:
    """Does the name still stand for this file, or did its holder remove it while we waited for it?"""
    try:
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
