"""Which of the caller's headers go on to the provider, and which of the provider's go back.

Names are compared folded (`X_SIGNATURE`, `X.Signature` and `x-signature` are one): some servers fold them so, and
then a look-alike would shadow what Paraf signs.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from proxy.errors import ProxyError
from proxy.model import Headers

HOP_BY_HOP: Final = frozenset(
    """connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer trailers
    transfer-encoding upgrade http2-settings""".split()
)
"""RFC 9110 section 7.6.1, with what older and newer clients send beside it."""

FRAMING: Final = HOP_BY_HOP | {"host", "content-length", "expect"}
"""What the connection itself decides: no profile and no route sets these."""

_ENDS_HERE: Final = HOP_BY_HOP | frozenset(
    """authorization expect host content-length
    forwarded via x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip fastly-client-ip
    traceparent tracestate baggage b3 x-request-id x-ot-span-context x-amzn-trace-id x-cloud-trace-context
    uber-trace-id x-http-method x-http-method-override x-method-override x-original-url x-rewrite-url""".split()
)
"""Beside hop-by-hop: credentials, framing, what proxies and meshes add, and what would make the provider act on
another method or path than was matched and signed."""
_ENDS_HERE_BY_PREFIX: Final = ("x-forwarded-", "x-envoy-", "x-b3-", "x-datadog-", "x-istio-", "l5d-", "x-paraf-")
_OF_THE_ANSWER: Final = frozenset({"content-length", "date"})
_NONE: Final = frozenset[str]()
_DIGESTS: Final = frozenset({"digest", "content-digest", "content-md5", "repr-digest"})
_NOT_NOMINATED: Final = frozenset({"content-type", "content-encoding", "content-language", "accept-encoding"})
"""`Connection: content-type` cannot take these away: they say what the body is."""


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """Lower case, every character that is no letter or digit a dash."""
    return re.sub(r"[^a-z0-9]", "-", name.lower())


Rule = Literal["ends", "passes", "single", "digest", "coding"]
"""What becomes of a caller's header. `single`: it passes once; `digest`: while the body stays as it is."""
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class Strip:
    """What a route's profile adds to the rules above.

    `owned`: headers that Paraf sets, folded; nothing of the caller's under such a name passes.
    `single`: headers that the caller may send instead of Paraf, once; folded name to the spelling that passes, in
    lower case.
    """

    owned: frozenset[str]
    single: Mapping[str, str]
    _rules: dict[str, Rule] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Remembered by the name as it was sent."""

    @classmethod
    def of(cls, *, owned: Iterable[str], single: Iterable[str]) -> "Strip":
        """Of names as the profile spells them."""
        ours = frozenset(fold(name) for name in owned)
        return cls(ours, {fold(name): name.lower() for name in single if fold(name) not in ours})

    def keep(self, headers: Headers, *, body_changes: bool) -> Headers:
        """The caller's headers that go on. Raises `bad_request` when a header of `single` stands twice."""
        nominated = _nominated(headers) - _NOT_NOMINATED
        kept: list[tuple[str, str]] = []
        seen: set[str] = set()
        for row in headers:
            name, value = row
            rule = self._rules.get(name) or self._rule(name)
            if rule == "ends" or (nominated and fold(name) in nominated):
                continue
            if rule == "passes":
                kept.append(row)
            elif rule == "coding":
                kept.append((name, _coding(value)))
            elif rule == "digest":
                kept += () if body_changes else (row,)
            elif value.strip() and not (body_changes and fold(name) in _DIGESTS):
                if name.lower() in seen:
                    raise ProxyError("bad_request", "a header of which the provider wants one is sent twice")
                seen.add(name.lower())
                kept.append(row)
        return tuple(kept)

    def _rule(self, name: str) -> Rule:
        rule = self._judged(name, fold(name))
        if len(self._rules) < _REMEMBERED:
            self._rules[name] = rule
        return rule

    def _judged(self, name: str, folded: str) -> Rule:
        if folded in _ENDS_HERE or folded.startswith(_ENDS_HERE_BY_PREFIX) or folded in self.owned:
            return "ends"
        if folded in self.single:
            return "single" if name.lower() == self.single[folded] else "ends"
        if folded in _DIGESTS:
            return "digest"
        return "coding" if folded == "accept-encoding" else "passes"


def value_of(headers: Headers, name: str) -> str | None:
    """The first value under `name`, any case."""
    wanted = name.lower()
    for key, value in headers:
        if key == name or key.lower() == wanted:
            return value
    return None


def answer_headers(headers: Headers) -> Headers:
    """The provider's headers that go back: no hop-by-hop ones, no Proxy-*, none that look like Paraf's own."""
    nominated = _nominated(headers) - _NOT_NOMINATED - _OF_THE_ANSWER
    return tuple([row for row in headers if _goes_back(row[0]) and not (nominated and fold(row[0]) in nominated)])


@lru_cache(maxsize=4096)
def _goes_back(name: str) -> bool:
    folded = fold(name)
    return folded not in HOP_BY_HOP and not folded.startswith(("x-paraf-", "proxy-"))


def _nominated(headers: Headers) -> frozenset[str]:
    """What `Connection` names beside what is hop-by-hop anyway."""
    lists = [_listed(value) for name, value in headers if fold(name) == "connection"]
    return lists[0].union(*lists[1:]) if lists else _NONE


@lru_cache(maxsize=256)
def _listed(value: str) -> frozenset[str]:
    return frozenset(fold(name.strip()) for name in value.split(",")) - HOP_BY_HOP


def _coding(value: str) -> str:
    """Accept-Encoding cut to what can be looked into for a provider's code: gzip, or nothing (RFC 9110 12.5.3)."""
    offers = (offer.strip().partition(";") for offer in value.lower().split(","))
    wants = any(name.strip() in ("gzip", "x-gzip", "*") and not _is_zero(rest) for name, _, rest in offers)
    return "gzip" if wants else "identity"


def _is_zero(parameters: str) -> bool:
    return bool(re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters))
