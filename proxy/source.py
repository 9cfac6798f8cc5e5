"""YAML text to nodes that know where they stand. Values stay text here: what they mean is decided by `shape`.

So `00012345`, `NO` and `12:30` stay what was written, as YAML 1.2 has it and YAML 1.1 readers do not.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import yaml

from proxy.errors import ConfigError, Finding

Severity = Literal["error", "warning"]
Path = tuple[str, ...]
"""Keys from the root to a node; items of a list go by their index."""

MAX_DEPTH = 32
MAX_NODES = 100_000
"""Bounds for hostile or mistaken aliases: a configuration of a hundred routes has some 3,000 nodes."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""YAML 1.2.2 section 5.1, without the C1 controls; lone surrogates come of files that are not UTF-8."""
_STEP = re.compile(r"[\w.!#$%&'*+^`|~-]{1,64}", re.ASCII)
"""What is repeated of a key: names of settings, routes and headers. `secret:abc` without its blank is a key as well."""


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str = field(repr=False)
    """Not shown: it can be a secret."""
    plain: bool = True
    """Written without quotes: only then can it stand for a number, a flag or nothing."""
    line: int = 0
    column: int = 0
    file: str = ""
    """Nodes of one tree can come from two files: a profile extends another."""


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple["Node", ...] = ()
    line: int = 0
    column: int = 0
    file: str = ""


@dataclass(frozen=True, slots=True)
class Mapping:
    members: tuple[tuple[Scalar, "Node"], ...] = ()
    line: int = 0
    column: int = 0
    file: str = ""

    def get(self, key: str) -> "Node | None":
        return next((node for name, node in self.members if name.text == key), None)

    def key(self, key: str) -> Scalar | None:
        return next((name for name, _ in self.members if name.text == key), None)


Node = Scalar | Sequence | Mapping


@dataclass(slots=True)
class Report:
    """Collects everything that is wrong in one file, so that an operator mends it in one go."""

    file: str
    findings: list[Finding] = field(default_factory=list)

    def add(self, node: Node, path: Path, message: str, severity: Severity = "error") -> None:
        self.findings.append(Finding(node.file or self.file, node.line, node.column, dotted(path), message, severity))

    def failed(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def raise_if_failed(self) -> None:
        if self.failed():
            raise ConfigError(sorted(self.findings))


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file."""

    file: str
    root: Node = field(repr=False)
    """Not shown: a text in it can be a secret."""

    def finding(self, path: Iterable[str], message: str, severity: Severity = "error", *, key: bool = False) -> Finding:
        """A finding at the node under `path`, or at the deepest one above it that is written down.

        `key`: point at the last key itself, not at its value.
        """
        steps = tuple(path)
        node = self._deepest(steps, key=key)
        return Finding(node.file or self.file, node.line, node.column, dotted(steps), message, severity)

    def _deepest(self, steps: Path, *, key: bool) -> Node:
        node, name = self.root, None
        for step in steps:
            below = _step(node, step)
            if below is None:
                return name or node
            name = node.key(step) if isinstance(node, Mapping) else None
            node = below
        return name if key and name else node


def dotted(path: Path) -> str:
    return ".".join(step if _STEP.fullmatch(step) else "?" for step in path) or "(file)"


def _step(node: Node, step: str) -> Node | None:
    if isinstance(node, Mapping):
        return node.get(step)
    if isinstance(node, Sequence) and step.isdigit() and int(step) < len(node.items):
        return node.items[int(step)]
    return None


def overlay(base: Mapping, over: Mapping) -> Mapping:
    """`over` laid on `base`, mapping by mapping; anything else is replaced, and a bare `~` takes a key away."""
    merged = {key.text: (key, node) for key, node in base.members}
    for key, node in over.members:
        below = base.get(key.text)
        if isinstance(below, Mapping) and isinstance(node, Mapping):
            merged[key.text] = (key, overlay(below, node))
        elif isinstance(node, Scalar) and node.plain and node.text == "~":
            merged.pop(key.text, None)
        else:
            merged[key.text] = (key, node)
    return Mapping(tuple(merged.values()), over.line, over.column, over.file)


def parse(text: str, file: str) -> Source:
    """Parse one YAML document. Raises ConfigError, also for a key that stands twice."""
    report = Report(file)
    text = text.removeprefix("\ufeff")
    try:
        root = _Composer(text, report).document()
    except yaml.MarkedYAMLError as error:
        report.add(_at(error.problem_mark), (), f"not valid YAML: {_problem(error, text)}")
    report.raise_if_failed()
    return Source(file, root)


def _at(mark: Any) -> Scalar:
    return Scalar("", line=mark.line + 1, column=mark.column + 1) if mark else Scalar("", line=1, column=1)


def _problem(error: "yaml.MarkedYAMLError", text: str) -> str:
    """The parser's words without what they quote, which may be a secret."""
    problem, mark = error.problem or "cannot be read", error.problem_mark
    if mark and "cannot start any token" in problem:
        found = text.split("\n")[mark.line : mark.line + 1]
        tab = any(line[mark.column : mark.column + 1] == "\t" for line in found)
        return "a tab stands here: indent with blanks" if tab else "a text that begins like this needs quotes"
    if "mapping values are not allowed" in problem:
        return "a key cannot stand here: check the indent, and put a text that holds ': ' in quotes"
    return re.sub(r" '[^' ]{2,}'", "", problem)


class _Composer:
    """Makes nodes of the parser's events. PyYAML's own composer ends the process when brackets nest 200,000 deep
    (measured with 6.0.3), and does not tell `!!str 5` from `5`.
    """

    def __init__(self, text: str, report: Report) -> None:
        self._report = report
        self._left = MAX_NODES
        self._anchors: dict[str, tuple[Node, int]] = {}
        """Nodes by anchor, each with the count of nodes in it."""
        if bad := _NOT_YAML.search(text):
            line = text.count("\n", 0, bad.start())
            column = bad.start() - (text.rfind("\n", 0, bad.start()) + 1)
            self._stop(Scalar("", line=line + 1, column=column + 1), (), "holds a character that YAML does not allow")
        self._events: Iterator[Any] = yaml.parse(text, Loader=_Loader)

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if root and isinstance(event, yaml.DocumentStartEvent):
                self._stop(_at(event.start_mark), (), "a second document begins here: only one is read")
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, ())
        return root or self._stop(Scalar("", line=1, column=1), (), "the file is empty")

    def _stop(self, node: Node, path: Path, message: str) -> NoReturn:
        self._report.add(node, path, message)
        raise ConfigError(sorted(self._report.findings))

    def _node(self, event: Any, path: Path) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._again(event, path)
        before = self._left
        self._spend(1, 1, event, path)
        node = self._fresh(event, path)
        if event.anchor:
            self._anchors[event.anchor] = node, before - self._left
        return node

    def _spend(self, count: int, height: int, event: Any, path: Path) -> None:
        self._left -= count
        if self._left < 0 or len(path) + height > MAX_DEPTH:
            self._stop(_at(event.start_mark), path, "nests too deep or repeats itself through aliases")

    def _again(self, event: Any, path: Path) -> Node:
        if event.anchor not in self._anchors:
            self._stop(_at(event.start_mark), path, "an alias of nothing above: a text that begins with * needs quotes")
        node, count = self._anchors[event.anchor]
        self._spend(count, _height(node), event, path)
        return node

    def _fresh(self, event: Any, path: Path) -> Node:
        line, column, file = event.start_mark.line + 1, event.start_mark.column + 1, self._report.file
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._report.add(_at(event.start_mark), path, "tags (!name) have no meaning here: leave it out")
        if isinstance(event, yaml.MappingStartEvent):
            return Mapping(tuple(self._members(path)), line, column, file)
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(tuple(self._items(path)), line, column, file)
        return Scalar(event.value, event.implicit[0], line, column, file)

    def _until(self, end: type[yaml.Event]) -> Iterator[Any]:
        return itertools.takewhile(lambda event: not isinstance(event, end), self._events)

    def _items(self, path: Path) -> Iterator[Node]:
        for index, event in enumerate(self._until(yaml.SequenceEndEvent)):
            yield self._node(event, (*path, str(index)))

    def _members(self, path: Path) -> Iterator[tuple[Scalar, Node]]:
        seen: dict[str, Scalar] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = self._key(event, path)
            if first := seen.get(key.text):
                self._report.add(key, (*path, key.text), f"stands twice; the first is in line {first.line}")
            seen.setdefault(key.text, key)
            yield key, self._node(next(self._events), (*path, key.text))

    def _key(self, event: Any, path: Path) -> Scalar:
        node = self._node(event, path)
        if not isinstance(node, Scalar):
            self._report.add(node, path, "a key must be plain text")
            return Scalar("", True, node.line, node.column, node.file)
        if node.plain and node.text == "<<":
            self._report.add(node, path, "YAML 1.2 has no merge key (<<): write the keys out")
        return node


def _height(node: Node) -> int:
    below: Iterable[Node] = ()
    if isinstance(node, Sequence):
        below = node.items
    elif isinstance(node, Mapping):
        below = (value for _, value in node.members)
    return 1 + max(map(_height, below), default=0)
