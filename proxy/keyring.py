"""Secrets by reference: where each lies is known to `references`, here it is fetched, once for a generation.

Every refusal is a ValueError of our own words: never a part of a secret, never another library's message.
"""

import errno
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.errors import Finding
from proxy.files import Files, Look
from proxy.keyforms import PUBLISHED_KEYS, load_private_key, spki_fingerprint
from proxy.model import Secret
from proxy.references import EnvReference, FileReference, Inline, Reference
from proxy.source import Path as Place
from proxy.source import Severity, Source

__all__ = ["PUBLISHED_KEYS", "Keyring", "ReferenceReader", "load_private_key", "spki_fingerprint"]

T = TypeVar("T")

_MOST_BYTES: Final = 1 << 20
"""A bundle of a few hundred authorities has 250 KB."""

_TROUBLES: Final = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist",
    errno.EISDIR: "is a folder, not a file",
    errno.EACCES: "may not be read by this user",
    errno.EPERM: "may not be read by this user",
    errno.ELOOP: "is a link that leads to itself",
}


class Keyring:
    """What references lead to; `base` is the folder of the configuration file.

    `strict_permissions`: a secret file that others can read is refused, not only remarked on.
    """

    def __init__(self, *, strict_permissions: bool = False, files: Files | None = None) -> None:
        self._files = files or Files()
        self._forbidden = stat.S_IWOTH | (stat.S_IROTH if strict_permissions else 0)
        self._keys: dict[tuple[Reference, Path, bool], RSAPrivateKey] = {}

    def read(self, reference: Reference, *, environ: Mapping[str, str], base: Path) -> Secret:
        """A text secret: one newline at a file's end is not part of it, everything else is."""
        text = self._text(reference, environ, base, self._forbidden)
        if isinstance(reference, FileReference) and text.endswith("\n"):
            text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise ValueError(f"{_place(reference, base)} is empty")
        return Secret(text)

    def private_key(
        self, reference: Reference, *, environ: Mapping[str, str], base: Path, allow_small: bool = False
    ) -> RSAPrivateKey:
        """An RSA key, opened with the passphrase that the reference names."""
        known = (reference, base, allow_small)
        if known not in self._keys:
            below = _passphrase(reference)
            passphrase = self.read(below, environ=environ, base=base) if below else None
            material = self._fetched(reference, environ, base, self._forbidden)
            self._keys[known] = load_private_key(material, passphrase, allow_small=allow_small)
        return self._keys[known]

    def authorities(self, reference: Reference, *, environ: Mapping[str, str], base: Path) -> str:
        """PEM certificates to trust. They are no secret: others may read them, but not write."""
        return self._text(reference, environ, base, stat.S_IWOTH)

    def remarks(self, reference: Reference, *, base: Path) -> list[str]:
        """What an operator should mend, though it works: secret files that others can read."""
        files = (each for each in (reference, _passphrase(reference)) if isinstance(each, FileReference))
        return [remark for each in files for remark in self._remarks(base / each.path)]

    def _remarks(self, path: Path) -> Iterator[str]:
        look = self._files.file(path)
        if not look.error and look.mode & stat.S_IROTH:
            yield f"{path} can be read by others (mode {stat.S_IMODE(look.mode):04o}): chmod o-rwx"

    def _fetched(self, reference: Reference, environ: Mapping[str, str], base: Path, forbidden: int) -> bytes:
        match reference:
            case Inline(value):
                return value.reveal().encode()
            case EnvReference(name):
                return _variable(name, environ)
            case FileReference(path):
                return _material(base / path, self._files.file(base / path), forbidden)

    def _text(self, reference: Reference, environ: Mapping[str, str], base: Path, forbidden: int) -> str:
        material = self._fetched(reference, environ, base, forbidden)
        if material.startswith(b"\xef\xbb\xbf"):
            raise ValueError(f"{_place(reference, base)} begins with a byte order mark: save it without")
        try:
            return material.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{_place(reference, base)} is not text in UTF-8") from None


class ReferenceReader:
    """Reads what a part of the file refers to; what is wrong with it is in `findings`, at its place.

    `above`: the part, in front of every place.
    """

    def __init__(
        self, source: Source, keyring: Keyring, environ: Mapping[str, str], folder: Path, above: Place = ()
    ) -> None:
        self.findings: list[Finding] = []
        self._source = source
        self._keyring = keyring
        self._environ, self._folder = environ, folder
        self._above = above

    def _secret(self, reference: Reference | None, place: Place) -> Secret | None:
        if reference is None:
            return None
        for remark in self._keyring.remarks(reference, base=self._folder):
            self._find(place, remark, "warning")
        return self._found(place, self._keyring.read, reference)

    def _found(self, place: Place, read: Callable[..., T], reference: Reference) -> T | None:
        """A ValueError of reading becomes a finding at that place."""
        try:
            return read(reference, environ=self._environ, base=self._folder)
        except ValueError as error:
            self._find(place, str(error))
        return None

    def _find(self, place: Place, message: str, severity: Severity = "error") -> None:
        self.findings.append(self._source.finding((*self._above, *place), message, severity))


def _passphrase(reference: Reference) -> Reference | None:
    return None if isinstance(reference, Inline) else reference.passphrase


def _variable(name: str, environ: Mapping[str, str]) -> bytes:
    value = environ.get(name)
    if not value:
        raise ValueError(f"environment variable {name} is {'not set' if value is None else 'empty'}")
    return value.encode("utf-8", "surrogatepass")  # what is not UTF-8 is then refused by `_text`


def _material(path: Path, look: Look, forbidden: int) -> bytes:
    if look.error:
        raise ValueError(f"{path} {_TROUBLES.get(look.error, 'cannot be read')}")
    _refuse(path, look.mode, forbidden)
    if not 0 < len(look.content) <= _MOST_BYTES:
        raise ValueError(f"{path} is {'over 1 MiB: no secret is that long' if look.content else 'empty'}")
    return look.content


def _refuse(path: Path, mode: int, forbidden: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no ordinary file")
    if mode & forbidden:
        can = "written" if mode & stat.S_IWOTH else "read"
        raise ValueError(f"{path} can be {can} by others (mode {stat.S_IMODE(mode):04o}): chmod o-rwx")


def _place(reference: Reference, base: Path) -> str:
    match reference:
        case Inline():
            return "the text"
        case EnvReference(name):
            return f"environment variable {name}"
        case FileReference(path):
            return str(base / path)
