"""The profiles at hand: those that come with Paraf, and those of the operator's own folders, which win."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from proxy.errors import ConfigError, Finding
from proxy.files import Files
from proxy.shape import Anything, did_you_mean
from proxy.signing.profile import Profile
from proxy.signing.vocabulary import read_profile
from proxy.source import Mapping as Node
from proxy.source import Report, Scalar, Source, overlay, parse

SUFFIX = ".yaml"


@dataclass(frozen=True, slots=True)
class _File:
    """`label`: how findings name it, an operator's own by its path."""

    place: Path
    label: str
    files: Files

    @property
    def name(self) -> str:
        return self.place.name.removesuffix(SUFFIX)

    def text(self) -> str:
        """Raises ConfigError."""
        return text_of(self.place, self.label, self.files)


class Catalogue:
    """`folders` must be there."""

    def __init__(self, folders: Iterable[Path] = (), files: Files | None = None) -> None:
        self._folders = tuple(folders)
        self._disk = files or Files()
        self._read: dict[str, Profile] = {}

    @cached_property
    def _files(self) -> Mapping[str, _File]:
        packaged = [_File(place, place.name, Files()) for place in _packaged().iterdir()]
        own = [
            _File(folder / name, str(folder / name), self._disk)
            for folder in self._folders
            for name in self._disk.folder(folder).names
        ]
        return {file.name: file for file in (*packaged, *own) if file.place.name.endswith(SUFFIX)}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._files))

    def profile(self, name: str) -> Profile:
        """Raises KeyError for a name that no file has, ConfigError for a file with mistakes."""
        if name not in self._read:
            self._read[name] = read_profile(name, self._laid_out(name, ()))
        return self._read[name]

    def laid_out(self, name: str) -> Any:
        """The file with all that it extends, as plain values."""
        source = self._laid_out(name, ())
        return Anything().read(source.root, (), Report(source.file))

    def _laid_out(self, name: str, below: tuple[str, ...]) -> Source:
        """A file over the one that it extends, and so on."""
        source = parse(self._files[name].text(), self._files[name].label)
        if not isinstance(source.root, Node):
            raise ConfigError([Finding(source.file, 1, 1, "(file)", "must be a mapping")])
        parent = source.root.get("extends")
        if not isinstance(parent, Scalar):
            return source
        if parent.text in (*below, name):
            raise ConfigError([source.finding(("extends",), "leads back to this profile")])
        if parent.text not in self._files:
            others = set(self._files) - {name}
            raise ConfigError([source.finding(("extends",), f"no such profile{did_you_mean(parent.text, others)}")])
        base = self._laid_out(parent.text, (*below, name)).root
        return Source(source.file, overlay(base, source.root)) if isinstance(base, Node) else source


def text_of(path: Path, label: str, files: Files, *, pipe: bool = False) -> str:
    """`label`: how findings name it. Raises ConfigError."""
    look = files.file(path, pipe=pipe)
    if look.error:
        words = f"cannot be read: {os.strerror(look.error)}"
    elif not look.is_ordinary and not look.content:
        words = "cannot be read: it is no ordinary file, and nobody writes into it"
    else:
        with suppress(UnicodeDecodeError):
            return look.content.decode()
        words = "is not UTF-8 text"
    raise ConfigError([Finding(label, 1, 1, "(file)", words)])


def _packaged() -> Path:
    """Those of the installation, or of the checkout."""
    installed = Path(__file__).parent / "providers"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "config" / "providers"
