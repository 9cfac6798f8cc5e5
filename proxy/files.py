"""Files as they were at one moment: each is looked at once, so that a whole generation is built of the same bytes.

What was seen can be compared with a later look, to tell whether anything has changed, and be handed to another
process, which then builds the very same.
"""

import base64
import errno
import hashlib
import os
import select
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

MOST: Final = 16 << 20
"""Bytes of one file that are looked at: a configuration of ten thousand routes has some 5 MB."""
_WRITER: Final = 5.0
"""Seconds to wait for whoever writes into a pipe."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found under a path: `content` and `mode` of a file, or `names` in a folder, or why there was neither."""

    content: bytes = field(default=b"", repr=False)
    mode: int = 0
    error: int = 0
    """An errno; 0 when it could be read."""
    names: tuple[str, ...] = ()
    as_folder: bool = False
    """It was looked at as a folder, whatever is there: a file can become a folder, and a folder be gone."""

    @property
    def is_ordinary(self) -> bool:
        return stat.S_ISREG(self.mode)


class Files:
    """`seen`: what another look found; then nothing is read here, and what it did not look at is not there."""

    def __init__(self, seen: Mapping[str, Look] | None = None) -> None:
        self._looks = dict(seen or {})
        self._reads = seen is None

    def file(self, path: Path, *, pipe: bool = False) -> Look:
        """`pipe`: what comes out of one is taken too. Of all that is no ordinary file else, only the mode is told."""
        return self._looks.get(str(path)) or self._kept(path, _file(path, pipe=pipe) if self._reads else _NONE)

    def folder(self, path: Path) -> Look:
        return self._looks.get(str(path)) or self._kept(path, _folder(path) if self._reads else _NONE)

    def _kept(self, path: Path, look: Look) -> Look:
        self._looks[str(path)] = look
        return look

    @property
    def is_repeatable(self) -> bool:
        """Can all of it be looked at again? Not what came out of a pipe."""
        return not any(look.content and not look.is_ordinary for look in self._looks.values())

    def again(self) -> "Files":
        """A fresh look at the same paths."""
        fresh = Files()
        for path, look in self._looks.items():
            (fresh.folder if look.as_folder else fresh.file)(Path(path))
        return fresh

    @property
    def digest(self) -> str:
        whole = hashlib.sha256()
        for path, look in sorted(self._looks.items()):
            parts = (os.fsencode(path), look.content, repr((look.mode, look.error, look.names)).encode())
            whole.update(b"".join(b"%d:%b" % (len(part), part) for part in parts))
        return whole.hexdigest()

    def told(self) -> dict[str, Any]:
        """In JSON's types, contents as base64: for a process of the same user alone."""
        return {
            path: asdict(look) | {"content": base64.b64encode(look.content).decode()}
            for path, look in self._looks.items()
        }

    @classmethod
    def heard(cls, told: Mapping[str, Any]) -> "Files":
        return cls({path: _look(**members) for path, members in told.items()})


_NONE: Final = Look(error=errno.ENOENT)


def _look(content: str, names: list[str], **others: Any) -> Look:
    return Look(base64.b64decode(content), names=tuple(names), **others)


def _file(path: Path, *, pipe: bool) -> Look:
    try:
        with _opened(path) as descriptor:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode) and _is_written(descriptor)):
                return Look(_content(descriptor), mode)
            return Look(mode=mode, error=errno.EISDIR if stat.S_ISDIR(mode) else 0)
    except OSError as error:
        return Look(error=error.errno or errno.EIO)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A pipe without a writer would hold the start for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_written(pipe: int) -> bool:
    return bool(select.select([pipe], [], [], _WRITER)[0])


def _content(descriptor: int) -> bytes:
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(MOST)


def _folder(path: Path) -> Look:
    try:
        return Look(as_folder=True, names=tuple(sorted(os.listdir(path))))  # noqa: PTH208 - names are wanted
    except OSError as error:
        return Look(as_folder=True, error=error.errno or errno.EIO)
