"""A small language for what a configuration file may hold: shapes read nodes and report all that is wrong.

The same shapes give the JSON Schema and the list of settings that the documentation is tested against.
(pydantic and jsonschema were weighed: neither knows line and column, both cost more at start than all of ours.)
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from proxy.source import Mapping, Node, Path, Report, Scalar, Sequence

_NOTHING: Final = ("", "~", "null", "Null", "NULL")

BAD: Final = object()
"""What a shape gives for a node it has reported; it never outlives `Report.raise_if_failed`."""


class Shape(Protocol):
    def read(self, node: Node, path: Path, report: Report) -> Any:
        """The value, or BAD after a finding was added."""
        ...

    def schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of what is accepted."""
        ...


def closest(word: str, known: Iterable[str]) -> str | None:
    """The name that was probably meant."""
    names = sorted(known)
    same = [name for name in names if name.lower() == word.lower()]
    return next(iter(same or difflib.get_close_matches(word[:64], names, n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean x?)`, or the known names when there are few, or nothing. `word` itself is not repeated."""
    names = sorted(known)
    close = closest(word, names)
    if close:
        return f" (did you mean {close}?)"
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 12 else ""


def scalar(node: Node, path: Path, report: Report, wanted: str) -> str | None:
    """The text of a scalar. What stands for nothing in YAML is no text: a template that filled no value in."""
    if not isinstance(node, Scalar):
        report.add(node, path, f"must be {wanted}")
    elif node.plain and node.text in _NOTHING:
        report.add(node, path, f"is empty: must be {wanted}")
    else:
        return node.text
    return None


def _bare(node: Node, path: Path, report: Report, wanted: str) -> str | None:
    """The text of a scalar without quotes: a number or a flag."""
    if isinstance(node, Scalar) and not node.plain:
        report.add(node, path, f"must be {wanted}, without quotes")
        return None
    return scalar(node, path, report, wanted)


@dataclass(frozen=True, slots=True)
class Text:
    """Text, optionally of a pattern; `words` says the pattern to people."""

    pattern: str = r"(?s).+"
    words: str = "some text"

    def read(self, node: Node, path: Path, report: Report) -> Any:
        text = scalar(node, path, report, self.words)
        if text is None:
            return BAD
        if re.fullmatch(self.pattern, text):
            return text
        report.add(node, path, f"must be {self.words}")
        return BAD

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"], "description": self.words}


@dataclass(frozen=True, slots=True)
class Choice:
    names: tuple[str, ...]

    def read(self, node: Node, path: Path, report: Report) -> Any:
        text = scalar(node, path, report, "one of " + ", ".join(self.names))
        if text is None or text in self.names:
            return BAD if text is None else text
        report.add(node, path, f"unknown value{did_you_mean(text, self.names)}")
        return BAD

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.names)}


@dataclass(frozen=True, slots=True)
class Only:
    """One value."""

    value: int | str

    def read(self, node: Node, path: Path, report: Report) -> Any:
        text = scalar(node, path, report, str(self.value))
        if text is None or text == str(self.value):
            return BAD if text is None else self.value
        report.add(node, path, f"unknown value; known: {self.value}")
        return BAD

    def schema(self) -> dict[str, Any]:
        return {"const": self.value}


@dataclass(frozen=True, slots=True)
class Parsed:
    """Text that a function turns into a value; its ValueError is the finding's message."""

    parse: Callable[[str], Any]
    words: str

    def read(self, node: Node, path: Path, report: Report) -> Any:
        text = scalar(node, path, report, self.words)
        if text is None:
            return BAD
        try:
            return self.parse(text)
        except ValueError as error:
            report.add(node, path, str(error))
            return BAD

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "number"], "description": self.words}


@dataclass(frozen=True, slots=True)
class Whole:
    minimum: int
    maximum: int

    def read(self, node: Node, path: Path, report: Report) -> Any:
        words = f"a whole number from {self.minimum} to {self.maximum}"
        text = _bare(node, path, report, words)
        if text is None:
            return BAD
        if re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", text) and self.minimum <= int(text) <= self.maximum:
            return int(text)
        report.add(node, path, f"must be {words}")
        return BAD

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


_FLAGS: Final = {**dict.fromkeys(("true", "True", "TRUE"), True), **dict.fromkeys(("false", "False", "FALSE"), False)}


@dataclass(frozen=True, slots=True)
class Flag:
    def read(self, node: Node, path: Path, report: Report) -> Any:
        text = _bare(node, path, report, "true or false")
        if text in _FLAGS:
            return _FLAGS[text]
        if text is not None:
            report.add(node, path, "must be true or false")
        return BAD

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


def _too_few(count: int, least: int, node: Node, path: Path, report: Report) -> bool:
    if count < least:
        report.add(node, path, "is empty: needs at least one entry")
    return count < least


@dataclass(frozen=True, slots=True)
class Listing:
    """A list; with `single`, one item may stand without the brackets."""

    item: Shape
    single: bool = False
    least: int = 0

    def read(self, node: Node, path: Path, report: Report) -> Any:
        if isinstance(node, Sequence):
            read = tuple(self.item.read(item, (*path, str(i)), report) for i, item in enumerate(node.items))
        elif self.single:
            read = (self.item.read(node, path, report),)
        else:
            report.add(node, path, "must be a list")
            return BAD
        return BAD if BAD in read or _too_few(len(read), self.least, node, path, report) else read

    def schema(self) -> dict[str, Any]:
        many = {"type": "array", "items": self.item.schema(), "minItems": self.least}
        return {"anyOf": [self.item.schema(), many]} if self.single else many


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping whose keys the operator chooses."""

    item: Shape
    pattern: str = r"[^\s]+"
    words: str = "a name without blanks"
    least: int = 0

    def read(self, node: Node, path: Path, report: Report) -> Any:
        if not isinstance(node, Mapping):
            report.add(node, path, "must be a mapping")
            return BAD
        read = {key.text: self._member(key, value, (*path, key.text), report) for key, value in node.members}
        return BAD if BAD in read.values() or _too_few(len(read), self.least, node, path, report) else read

    def _member(self, key: Scalar, value: Node, path: Path, report: Report) -> Any:
        read = self.item.read(value, path, report)
        if re.fullmatch(self.pattern, key.text):
            return read
        report.add(key, path, f"the name must be {self.words}")
        return BAD

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^{self.pattern}$"},
            "additionalProperties": self.item.schema(),
            "minProperties": self.least,
        }


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record. `default` is what stands for it when it is absent, in the shape's value form."""

    shape: Shape
    doc: str
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with known keys; `build` makes the value of them and may raise ValueError for the whole."""

    keys: dict[str, Key]
    build: Callable[..., Any] = field(default=dict)

    def read(self, node: Node, path: Path, report: Report) -> Any:
        if not isinstance(node, Mapping):
            report.add(node, path, f"must be a mapping{did_you_mean('', self.keys)}")
            return BAD
        strangers = [key for key, _ in node.members if key.text not in self.keys]
        for key in strangers:
            report.add(key, (*path, key.text), f"unknown key{did_you_mean(key.text, self.keys)}")
        meant = {closest(key.text, self.keys) for key in strangers}
        values = {name: self._read_key(node, name, path, report, meant) for name in self.keys}
        if any(value is BAD for value in values.values()):
            return BAD
        try:
            return self.build(**values)
        except ValueError as error:
            report.add(node, path, str(error))
            return BAD

    def _read_key(self, node: Mapping, name: str, path: Path, report: Report, meant: set[str | None]) -> Any:
        key, value = self.keys[name], node.get(name)
        if value is not None:
            return key.shape.read(value, (*path, name), report)
        if key.required and name not in meant:
            report.add(node, path, f"{name} is missing: {key.doc}")
        return BAD if key.required else key.default

    def schema(self) -> dict[str, Any]:
        properties = {name: _documented(key) for name, key in self.keys.items()}
        required = [name for name, key in self.keys.items() if key.required]
        made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**made, "required": required} if required else made


def _documented(key: Key) -> dict[str, Any]:
    schema = key.shape.schema()
    words = schema.get("description")
    return {**schema, "description": f"{key.doc}: {words}" if words else key.doc}


@dataclass(frozen=True, slots=True)
class OrOff:
    """A shape, or the word `off`, which stands for `off`."""

    shape: Shape
    off: Any

    def read(self, node: Node, path: Path, report: Report) -> Any:
        if not isinstance(node, Scalar):
            return self.shape.read(node, path, report)
        if node.text == "off":
            return self.off
        tried = Report(report.file)
        read = self.shape.read(node, path, tried)
        report.findings += [replace(found, message=f"{found.message}, or off") for found in tried.findings]
        return read

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"const": "off"}, self.shape.schema()]}


@dataclass(frozen=True, slots=True)
class Either:
    """Text in one shape, a mapping in another."""

    text: Shape
    mapping: Shape

    def read(self, node: Node, path: Path, report: Report) -> Any:
        shape = self.mapping if isinstance(node, Mapping) else self.text
        return shape.read(node, path, report)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.text.schema(), self.mapping.schema()]}


_PLAIN: Final[tuple[tuple[str, Callable[[str], Any]], ...]] = (
    (r"|~|null|Null|NULL", lambda _: None),
    (r"true|True|TRUE", lambda _: True),
    (r"false|False|FALSE", lambda _: False),
    (r"[-+]?(0|[1-9][0-9]{0,17})", int),
    (r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?", float),
)


@dataclass(frozen=True, slots=True)
class Anything:
    """Any YAML value, plain scalars read as YAML 1.2 (a number with leading zeros stays text)."""

    def read(self, node: Node, path: Path, report: Report) -> Any:
        if isinstance(node, Mapping):
            return {key.text: self.read(value, (*path, key.text), report) for key, value in node.members}
        if isinstance(node, Sequence):
            return [self.read(item, path, report) for item in node.items]
        for pattern, convert in _PLAIN if node.plain else ():
            if re.fullmatch(pattern, node.text):
                return convert(node.text)
        return node.text

    def schema(self) -> dict[str, Any]:
        return {}
