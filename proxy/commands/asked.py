"""A request as it is written on a command line, for the commands that look at one."""

import re
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from proxy.headers import names_of, value_of
from proxy.model import Headers, SignedRequest


@dataclass(frozen=True, slots=True)
class Look:
    """A request as `match` reads it: the head alone."""

    method: str
    target: str
    headers: Headers
    loopback: bool = True
    tunnel: None = None

    @property
    def names(self) -> tuple[str, ...]:
        return names_of(self.headers)

    def whole(self, _limit: int) -> bytes:
        raise NotImplementedError

    async def hold(self, _limit: int) -> bytes:
        raise NotImplementedError


def moment(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 time or of themselves."""
    if re.fullmatch(r"\d{1,15}", text, re.ASCII):
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError("--at takes an RFC 3339 time such as 2026-01-15T10:30:45+07:00, or epoch ms") from None
    if found.tzinfo is None:
        raise click.UsageError("--at needs an offset, such as +07:00 or Z")
    return int(found.timestamp()) * 1000 + found.microsecond // 1000


def body_of(value: str) -> bytes:
    """Text, or what `@FILE` holds."""
    return file_of(value[1:]) if value.startswith("@") else value.encode()


def file_of(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"-d: the file cannot be read ({error.strerror})") from None


def headers_of(lines: tuple[str, ...]) -> Headers:
    pairs = [line.partition(":") for line in lines]
    if any(not colon or not name.strip() for name, colon, _ in pairs):
        raise click.UsageError("-H takes `Name: value`")
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)


def with_host(headers: Headers) -> Headers:
    return headers if value_of(headers, "Host") else (("Host", "localhost"), *headers)


def as_curl(request: SignedRequest) -> str:
    """A line for a shell, with body and target byte for byte: curl would else fold dots and guess a content type."""
    words = ["curl", "--path-as-is", "--globoff", "-X", request.method]
    for name, value in request.headers:
        words += ["-H", shlex.quote(f"{name}: {value}")]
    if request.body:
        words += ["--data-raw", _quoted(request.body)]
        if value_of(request.headers, "Content-Type") is None:
            words += ["-H", "Content-Type:"]
    return " ".join([*words, shlex.quote(request.url)])


def _quoted(body: bytes) -> str:
    """What is no text, as bash writes bytes."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    if text and text.isprintable():
        return shlex.quote(text)
    plain = frozenset(range(32, 127)) - frozenset(b"'\\")
    return "$'" + "".join(chr(each) if each in plain else f"\\x{each:02x}" for each in body) + "'"
