"""Templates: text with holes and pipes, `{name}` or `{name|filter|filter}`. No conditions, no loops, no code.

Compiled once at load; a name or filter that does not exist is a finding then, not a fault during a payment.
`{{` and `}}` stand for braces. The hole `now` is the one clock reading of a signature, its first pipe a time format.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Final

from proxy.shape import did_you_mean
from proxy.signing.canonical import NotJson, minify, sort_keys, strip_blanks
from proxy.signing.timestamps import time_formatter
from proxy.switches import time_format

Filter = Callable[[bytes], bytes]


def or_raw(canonical: Filter) -> Filter:
    """What is not JSON has no canonical form: its bytes stand as they are."""

    def apply(body: bytes) -> bytes:
        try:
            return canonical(body)
        except NotJson:
            return body

    return apply


FILTERS: Final[dict[str, Filter]] = {
    "minify": or_raw(minify),
    "sort_keys": or_raw(sort_keys),
    "strip_blanks": strip_blanks,
    "sha256": lambda value: hashlib.sha256(value).digest(),
    "sha512": lambda value: hashlib.sha512(value).digest(),
    "hex": lambda value: value.hex().encode(),
    "b64": base64.b64encode,
    "lower": bytes.lower,
    "upper": bytes.upper,
}

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


@dataclass(frozen=True, slots=True)
class Hole:
    name: str
    apply: Filter

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        return self.apply(values[self.name])


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled text. `parts` can hold secrets after `bind`, so they are not shown."""

    parts: tuple[bytes | Hole, ...] = field(repr=False)

    @property
    def names(self) -> frozenset[str]:
        """Names that must be given to `render`."""
        return frozenset(part.name for part in self.parts if isinstance(part, Hole))

    def bind(self, values: Mapping[str, bytes]) -> "Template":
        """Fill what is known at load; what is left is filled for each request."""
        filled = (part.fill(values) if isinstance(part, Hole) and part.name in values else part for part in self.parts)
        return Template(_joined(filled))

    def render(self, values: Mapping[str, bytes]) -> bytes:
        return b"".join([part if isinstance(part, bytes) else part.fill(values) for part in self.parts])


def _joined(parts: Iterable[bytes | Hole]) -> tuple[bytes | Hole, ...]:
    made: list[bytes | Hole] = []
    for part in parts:
        if isinstance(part, bytes) and made and isinstance(made[-1], bytes):
            made[-1] += part
        else:
            made.append(part)
    return tuple(made)


def compile_template(text: str) -> Template:
    """Raises ValueError that says which hole is wrong and what may stand there."""
    return Template(_joined(_part(found) for found in _PIECE.finditer(text)))


def _part(found: "re.Match[str]") -> bytes | Hole:
    piece = found[0]
    if found[1] is not None:
        return _hole(found[1])
    if piece in ("{", "}"):
        raise ValueError(f"a lone {piece} (write {piece * 2} for a brace)")
    return {"{{": "{", "}}": "}"}.get(piece, piece).encode()


def _hole(text: str) -> Hole:
    name, *pipes = text.split("|")
    if not re.fullmatch(r"[a-z][a-z0-9_]*|header\.[A-Za-z0-9_-]+", name):
        raise ValueError(f"{{{text}}} is no hole: write {{name}} or {{name|filter}}")
    first = _moment(pipes) if name == "now" else None
    filters = [_filter(pipe) for pipe in (pipes[1:] if first else pipes)]
    return Hole(name.lower(), _chain([first, *filters] if first else filters))


def _moment(pipes: list[str]) -> Filter:
    if not pipes:
        raise ValueError("{now} needs a time format: {now|iso_offset_s}")
    formatter = time_formatter(time_format(pipes[0]))
    return lambda value: formatter(int(value))


def _filter(name: str) -> Filter:
    if name in FILTERS:
        return FILTERS[name]
    raise ValueError(f"unknown filter {name}{did_you_mean(name, FILTERS)}")


def _chain(filters: list[Filter]) -> Filter:
    if len(filters) == 1:
        return filters[0]
    return lambda value: reduce(lambda so_far, each: each(so_far), filters, value)
