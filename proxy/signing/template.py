"""Templates: text with holes and pipes, `{name}` or `{name|filter|filter}`. No conditions, no loops, no code.

Compiled once at load; a name or filter that does not exist is a finding then, not a fault during a payment.
`{{` and `}}` stand for braces. The hole `now` is the one clock reading of a signature, its first pipe a time format.
"""

import base64
import hashlib
import re
from binascii import hexlify
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import reduce
from operator import itemgetter
from typing import ClassVar, Final

from proxy.shape import did_you_mean
from proxy.signing.canonical import NotJson, minify, sort_keys, strip_blanks
from proxy.signing.timestamps import time_formatter
from proxy.switches import time_format

Filter = Callable[[bytes], bytes]
Fill = Callable[[Mapping[str, bytes]], bytes]


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
    "hex": hexlify,
    "b64": base64.b64encode,
    "lower": bytes.lower,
    "upper": bytes.upper,
}

_GIVES_BYTES: Final = {"sha256": True, "sha512": True, "hex": False, "b64": False}
_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_LINE: Final = re.compile(rb"[ -~]*")


@dataclass(frozen=True, slots=True)
class Hole:
    """`binary`: does it give bytes that are no text? None: as the value is that fills it."""

    name: str
    pipes: tuple[Filter, ...] = ()
    binary: bool | None = None

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        return _piped(self.pipes, values[self.name])

    def filling(self) -> Fill:
        """As `fill`, with the least to do for each request."""
        name = self.name
        match self.pipes:
            case ():
                return itemgetter(name)
            case (only,):
                return lambda values: only(values[name])
            case (first, then):
                return lambda values: then(first(values[name]))
        return self.fill


@dataclass(frozen=True, slots=True)
class Moment:
    """`{now|FORMAT}`: the clock reading; local times are those of the value `zone`, an offset."""

    form: str
    pipes: tuple[Filter, ...] = ()
    binary: bool | None = None
    name: ClassVar[str] = "now"

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        return _piped(self.pipes, time_formatter(self.form, values["zone"].decode())(int(values["now"])))

    def filling(self) -> Fill:
        return self.fill


Part = bytes | Hole | Moment


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled text. `parts` can hold secrets after `bind`, so they are not shown."""

    parts: tuple[Part, ...] = field(repr=False)
    render: Fill = field(init=False, repr=False, compare=False)
    """The text with its holes filled."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "render", _rendering(self.parts))

    @property
    def names(self) -> frozenset[str]:
        """Names that must be given to `render`."""
        return frozenset(part.name for part in self.parts if not isinstance(part, bytes))

    def is_line(self, raw: AbstractSet[str]) -> bool:
        """One line of text, as a header is? `raw`: names whose values are none."""
        return all(_is_line(part, raw) for part in self.parts)

    def bind(self, values: Mapping[str, bytes]) -> "Template":
        """Fill what is known at load; what is left is filled for each request."""
        filled = (
            part if isinstance(part, bytes) or part.name not in values else part.fill(values) for part in self.parts
        )
        return Template(_joined(filled))


def _rendering(parts: tuple[Part, ...]) -> Fill:
    """What to do for each request, decided once."""
    fills: list[Fill] = [_always(part) if isinstance(part, bytes) else part.filling() for part in parts]
    if len(fills) == 1:
        return fills[0]
    plain = [part.name for part in parts if isinstance(part, Hole) and not part.pipes]
    if len(plain) > 1 and len(plain) == sum(not isinstance(part, bytes) for part in parts):
        form = b"".join([part.replace(b"%", b"%%") if isinstance(part, bytes) else b"%b" for part in parts])
        named = itemgetter(*plain)
        return lambda values: form % named(values)
    return lambda values: b"".join([fill(values) for fill in fills])


def _always(text: bytes) -> Fill:
    return lambda _values: text


def _is_line(part: Part, raw: AbstractSet[str]) -> bool:
    if isinstance(part, bytes):
        return bool(_LINE.fullmatch(part))
    return part.name not in raw if part.binary is None else not part.binary


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    made: list[Part] = []
    for part in parts:
        if isinstance(part, bytes) and made and isinstance(made[-1], bytes):
            made[-1] += part
        else:
            made.append(part)
    return tuple(made)


def compile_template(text: str) -> Template:
    """Raises ValueError that says what may stand there. The text is not repeated: a key can be pasted into it."""
    return Template(_joined(_part(found) for found in _PIECE.finditer(text)))


def _part(found: "re.Match[str]") -> Part:
    piece = found[0]
    if found[1] is not None:
        return _hole(found[1])
    if piece in ("{", "}"):
        raise ValueError(f"a lone {piece} (write {piece * 2} for a brace)")
    return {"{{": "{", "}}": "}"}.get(piece, piece).encode()


def _hole(text: str) -> Hole | Moment:
    name, *pipes = text.split("|")
    if not re.fullmatch(r"[a-z][a-z0-9_]*|header\.[A-Za-z0-9_-]+", name):
        raise ValueError("a hole is written {name} or {name|filter}")
    if name != "now":
        return Hole(name.lower(), tuple(map(_filter, pipes)), _binary(pipes))
    if not pipes:
        raise ValueError("{now} needs a time format: {now|iso_offset_s}")
    return Moment(time_format(pipes[0]), tuple(map(_filter, pipes[1:])), _binary(pipes[1:]))


def _binary(pipes: list[str]) -> bool | None:
    return next((_GIVES_BYTES[pipe] for pipe in reversed(pipes) if pipe in _GIVES_BYTES), None)


def _filter(name: str) -> Filter:
    if name in FILTERS:
        return FILTERS[name]
    raise ValueError(f"unknown filter{did_you_mean(name, FILTERS)}")


def _piped(pipes: tuple[Filter, ...], value: bytes) -> bytes:
    return reduce(lambda made, pipe: pipe(made), pipes, value)
