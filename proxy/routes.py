"""Routes: what a caller can address, and which method and path it may use there."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from proxy.addresses import AllowRule, BaseUrl
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

    def allows(self, method: str, target: str) -> bool:
        below = below_base(target, self.base)
        return not self.allow or any(rule_matches(rule, method, below) for rule in self.allow)


class RouteTable:
    """All routes, by host and by prefix; the longest prefix wins."""

    def __init__(self, routes: Iterable[Route], allowed_hosts: Iterable[str] = ()) -> None:
        self.routes = tuple(routes)
        self._by_host = {host: route for route in self.routes for host in route.hosts}
        self._by_prefix = sorted(self.routes, key=lambda route: len(route.prefix), reverse=True)
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
    decoded = (unquote(segment, "latin-1").replace("/", INSIDE).replace("\\", INSIDE) for segment in segments)
    return bool(_pattern(rule.pattern).fullmatch("/".join(decoded)))


_PIECE: Final = re.compile(r"/\*\*|/\*(?=/|\Z)|\*|[^*/]+|/")
_MEANS: Final = {"/**": r"(?:/.*)?", "/*": rf"/[^/{INSIDE}]+", "*": rf"[^/{INSIDE}]*"}


@lru_cache(maxsize=1024)
def _pattern(text: str) -> "re.Pattern[str]":
    """`*` is a segment that is not empty, or part of one; `**` any number of segments, none included."""
    return re.compile("".join(_MEANS.get(piece) or re.escape(piece) for piece in _PIECE.findall(text)), re.DOTALL)
