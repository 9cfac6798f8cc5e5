"""Routes: what a caller can address, and which method and path it may use there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from proxy.addresses import AllowRule, BaseUrl
from proxy.remembered import Bounded
from proxy.settings import Limits, Timeouts

INSIDE: Final = "\x00"
"""Stands for an encoded slash or backslash inside one segment: only `**` goes over it."""


@dataclass(frozen=True, slots=True)
class Route:
    """`prefix` ends without a slash ("" is everything); `base` is the provider's, from configuration alone."""

    name: str
    prefix: str
    hosts: frozenset[str]
    base: BaseUrl
    allow: tuple[AllowRule, ...]
    limits: Limits
    timeouts: Timeouts
    intercept: bool = False

    def allows(self, method: str, target: str) -> bool:
        below = below_base(target, self.base)
        return not self.allow or any(rule_matches(rule, method, below) for rule in self.allow)


@dataclass(frozen=True, slots=True)
class Match:
    route: Route
    target: str
    """The provider's raw target, the path of the base included."""


class RouteTable:
    """All routes, by host and by prefix; the longest prefix wins."""

    def __init__(self, routes: Iterable[Route], allowed_hosts: Iterable[str] = ()) -> None:
        self.routes = tuple(routes)
        self._by_host = {host: route for route in self.routes for host in route.hosts}
        self._by_prefix = sorted(self.routes, key=lambda route: len(route.prefix), reverse=True)
        self.matched = Bounded[tuple[str, ...], Match]()
        """What was found before, by method, target, Host and kind of listener."""
        self._known = frozenset(self._by_host) | frozenset(allowed_hosts)

    def by_host(self, host: str) -> Route | None:
        return self._by_host.get(host)

    def by_prefix(self, path: str) -> Route | None:
        """The prefix must end on a segment border: `/doku` is not in front of `/dokux`."""
        return next((route for route in self._by_prefix if _under(path, route.prefix)), None)

    def knows(self, host: str) -> bool:
        return host in self._known


def _under(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


def below_base(target: str, base: BaseUrl) -> str:
    """The provider's target without the path of the base, which is in front of it."""
    below = target[len(base.path) :]
    return below if below.startswith("/") else f"/{below}"


def under_base(target: str, base: BaseUrl) -> bool:
    return _under(target.partition("?")[0], base.path)


def rule_matches(rule: AllowRule, method: str, target: str) -> bool:
    """Matched segment by segment on a copy decoded once; the query plays no part."""
    if rule.method not in ("*", method):
        return False
    segments = target.partition("?")[0].split("/")
    decoded = [unquote(segment, "latin-1").replace("/", INSIDE).replace("\\", INSIDE) for segment in segments]
    return _reach(rule.pattern.split("/"), decoded)


def _reach(pattern: Sequence[str], segments: Sequence[str]) -> bool:
    """Every place of the path that the pattern can have come to, step by step: no pattern makes it try again."""
    places = {0}
    for piece in pattern:
        if piece == "**":
            places = set(range(min(places), len(segments) + 1)) if places else places
        else:
            places = {at + 1 for at in places if at < len(segments) and _segment(piece, segments[at])}
    return len(segments) in places


def _segment(piece: str, text: str) -> bool:
    """`*` is any text without an encoded slash or backslash, and not nothing where it is the whole segment."""
    first, *rest = piece.split("*")
    if not rest:
        return piece == text
    if INSIDE in text or not text.startswith(first) or (piece == "*" and not text):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(rest[-1]) and text.endswith(rest[-1])
