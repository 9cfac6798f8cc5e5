"""A curl command as people paste it: from a shell's history, a log, a browser's "copy as cURL"."""

import re
import shlex
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from proxy.model import Headers


@dataclass(frozen=True, slots=True)
class Pasted:
    """`method` is empty until one is known; `target` as it stands there, a full URL mostly."""

    method: str = ""
    target: str = ""
    headers: Headers = field(default=(), repr=False)
    pieces: tuple[bytes, ...] = field(default=(), repr=False)
    in_query: bool = False
    head: bool = False

    @property
    def body(self) -> bytes:
        return b"" if self.in_query else b"&".join(self.pieces)


Read = Callable[[str], bytes]
"""A file that `-d @NAME` names; raises ValueError."""
Take = Callable[[Pasted, str, Read], Pasted]

_ANSI: Final = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{1,4}|U[0-9a-fA-F]{1,8}|x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v"}
_NO_VALUE: Final = frozenset(
    """--compressed --insecure --silent --show-error --verbose --location --include --fail --http1.1 --http2 --ipv4
    --ipv6 --globoff --no-buffer --fail-with-body --progress-bar --path-as-is --no-keepalive --http1.0 --no-
    progress-meter --http2-prior-knowledge --http3 --tlsv1.2 --tlsv1.3 --location-trusted --disable --next
    """.split()
)
_FLAGS: Final = "ksSvLifgNq#46012jnO"
"""Single letters that take no value, and may stand together: `-sSL`."""


def parse_curl(text: str, read: Read) -> Pasted:
    """Raises ValueError that says what cannot be read; the text itself is not repeated."""
    words = _words(text)
    if words and words[0] in ("$", "#"):
        words = words[1:]
    if not words or not re.fullmatch(r"(?:.*[/\\])?curl(?:\.exe)?", words[0]):
        raise ValueError("this is no curl command: it begins with `curl`")
    pasted = Pasted()
    for name, value in _options(words[1:]):
        pasted = _TAKES[name](pasted, value, read)
    if not pasted.target:
        raise ValueError("the curl command has no URL")
    return _completed(pasted)


def _words(text: str) -> list[str]:
    joined = re.sub(r"[\\^`][ \t]*\r?\n", " ", text.strip())
    plain = _ANSI.sub(_plain, joined)
    try:
        return shlex.split(plain)
    except ValueError:
        raise ValueError("a quote of the curl command is not closed") from None


def _plain(found: re.Match[str]) -> str:
    """`$'...'` of bash as an ordinary quoted word."""
    text = _ESCAPE.sub(_unescaped, found[1])
    return shlex.quote(text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"))


def _unescaped(found: re.Match[str]) -> str:
    text = found[1]
    if text[0] in "uU":
        number = int(text[1:], 16)
        if number > sys.maxunicode:
            raise ValueError("a \\U escape of the curl command names no character")
        return chr(number)
    if text[0] in "x01234567":
        number = int(text[1:], 16) if text[0] == "x" else int(text, 8) & 255
        return bytes((number,)).decode("ascii", "surrogateescape")
    return _ESCAPES.get(text, text)


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and value of each that matters."""
    rest = iter(words)
    for word in rest:
        name, value = _split(word)
        if value is None and name in _VALUED:
            value = next(rest, None)
            if value is None:
                raise ValueError(f"{name} of the curl command has no value")
        if name in _TAKES:
            yield name, value or ""


def _split(word: str) -> tuple[str, str | None]:
    """The long name of an option and the value that is written with it; a word that is no option is a URL."""
    if not word.startswith("-") or word == "-":
        return "--url", word
    if word.startswith("--"):
        name, mark, value = word.partition("=")
        if name not in _VALUED | _BARE | _NO_VALUE:
            raise ValueError("an option of the curl command is not known here: leave it out")
        return name, value if mark else None
    bare = word[1:].lstrip(_FLAGS)
    if not bare:
        return "", None
    if bare[0] not in _SHORT:
        raise ValueError("an option of the curl command is not known here: leave it out")
    return _SHORT[bare[0]], bare[1:] or None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _data(pasted: Pasted, piece: bytes) -> Pasted:
    return replace(pasted, pieces=(*pasted.pieces, piece))


def _from_file(value: str, read: Read) -> bytes:
    return read(value[1:]) if value.startswith("@") else _bytes(value)


def _header(pasted: Pasted, line: str) -> Pasted:
    name, mark, value = line.partition(":")
    if not mark:
        return replace(pasted, headers=(*pasted.headers, (name.removesuffix(";").strip(), "")))
    if not value.strip():  # it takes away what curl would send itself
        return pasted
    return replace(pasted, headers=(*pasted.headers, (name.strip(), value.strip())))


def _user(pasted: Pasted, value: str) -> Pasted:
    return _header(pasted, f"Authorization: Basic {b64encode(_bytes(value)).decode()}")


def _json(pasted: Pasted, value: str, read: Read) -> Pasted:
    named = {name.lower() for name, _ in pasted.headers}
    for name in ("Content-Type", "Accept"):
        pasted = pasted if name.lower() in named else _header(pasted, f"{name}: application/json")
    return _data(pasted, _from_file(value, read))


def _encoded(pasted: Pasted, value: str, _: Read) -> Pasted:
    name, mark, content = value.partition("=")
    text = f"{name}={quote(content, safe='')}" if mark and name else quote(content or name, safe="")
    return _data(pasted, text.encode())


def _without_lines(value: str, read: Read) -> bytes:
    """`-d @FILE` drops line breaks and NUL, as curl's own page says."""
    text = _from_file(value, read)
    return text.translate(None, b"\r\n\x00") if value.startswith("@") else text


_TAKES: Final[dict[str, Take]] = {
    "--url": lambda pasted, value, _: pasted if pasted.target else replace(pasted, target=value),
    "--request": lambda pasted, value, _: replace(pasted, method=value.upper()),
    "--header": lambda pasted, value, _: _header(pasted, value),
    "--data": lambda pasted, value, read: _data(pasted, _without_lines(value, read)),
    "--data-ascii": lambda pasted, value, read: _data(pasted, _without_lines(value, read)),
    "--data-raw": lambda pasted, value, _: _data(pasted, _bytes(value)),
    "--data-binary": lambda pasted, value, read: _data(pasted, _from_file(value, read)),
    "--data-urlencode": _encoded,
    "--json": _json,
    "--user": lambda pasted, value, _: _user(pasted, value),
    "--oauth2-bearer": lambda pasted, value, _: _header(pasted, f"Authorization: Bearer {value}"),
    "--user-agent": lambda pasted, value, _: _header(pasted, f"User-Agent: {value}"),
    "--referer": lambda pasted, value, _: _header(pasted, f"Referer: {value}"),
    "--cookie": lambda pasted, value, _: _header(pasted, f"Cookie: {value}"),
    "--get": lambda pasted, _value, _read: replace(pasted, in_query=True),
    "--head": lambda pasted, _value, _read: replace(pasted, head=True),
}
_BARE: Final = frozenset({"--get", "--head"})
_SKIPPED: Final = frozenset(
    """--output --max-time --connect-timeout --proxy --cacert --cert --key --resolve --write-out --retry --unix-
    socket --interface --max-redirs --cert-type --key-type --pass --noproxy --ciphers --connect-to --dump-header
    --retry-delay --limit-rate --cookie-jar --proxy-user --expect100-timeout --config --capath --stderr --trace
    --trace-ascii
    """.split()
)
"""What takes a value that plays no part in a signature."""
_VALUED: Final = (frozenset(_TAKES) | _SKIPPED) - _BARE
_SHORT: Final = {
    "X": "--request", "H": "--header", "d": "--data", "u": "--user", "A": "--user-agent", "e": "--referer",
    "b": "--cookie", "G": "--get", "I": "--head", "o": "--output", "m": "--max-time", "x": "--proxy", "E": "--cert",
    "w": "--write-out", "c": "--cookie-jar", "D": "--dump-header", "U": "--proxy-user", "K": "--config",
}  # fmt: skip


def _completed(pasted: Pasted) -> Pasted:
    """With the method, query and type that curl gives a request by itself."""
    if pasted.in_query and pasted.pieces:
        mark = "&" if "?" in pasted.target else "?"
        pasted = replace(pasted, target=f"{pasted.target}{mark}{b'&'.join(pasted.pieces).decode()}")
    sends = bool(pasted.pieces) and not pasted.in_query
    method = pasted.method or ("HEAD" if pasted.head else "POST" if sends else "GET")
    if sends and "content-type" not in {name.lower() for name, _ in pasted.headers}:
        pasted = _header(pasted, "Content-Type: application/x-www-form-urlencoded")
    return replace(pasted, method=method)
