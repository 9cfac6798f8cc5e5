"""Which of the caller's headers go on to the provider, and which of the provider's go back.

Names are compared folded (`X_SIGNATURE`, `X.Signature` and `x-signature` are one): some servers fold them so, and
then a look-alike would shadow what Paraf signs.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, Literal

from proxy.errors import ProxyError
from proxy.model import Fields, Headers
from proxy.remembered import Remembered

HOP_BY_HOP: Final = frozenset(
    """connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer trailers
    transfer-encoding upgrade http2-settings""".split()
)
"""RFC 9110 section 7.6.1, with what older and newer clients send beside it."""

FRAMING: Final = HOP_BY_HOP | {"host", "content-length", "expect"}
"""What the connection itself decides: no profile and no route sets these."""

BODILESS: Final = (204, 304)
"""Statuses of answers that never have a body (RFC 9112 section 6.3)."""

_ENDS_HERE: Final = HOP_BY_HOP | frozenset(
    """authorization expect host content-length
    forwarded via x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip fastly-client-ip
    traceparent tracestate baggage b3 x-request-id x-ot-span-context x-amzn-trace-id x-cloud-trace-context
    uber-trace-id x-http-method x-http-method-override x-method-override x-original-url x-rewrite-url""".split()
)
"""Beside hop-by-hop: credentials, framing, what proxies and meshes add, and what would make the provider act on
another method or path than was matched and signed."""
_ENDS_HERE_BY_PREFIX: Final = ("x-forwarded-", "x-envoy-", "x-b3-", "x-datadog-", "x-istio-", "l5d-", "x-paraf-")
_NONE: Final = frozenset[str]()
_DIGESTS: Final = frozenset({"digest", "content-digest", "content-md5", "repr-digest"})
_NOT_NOMINATED: Final = frozenset({"content-type", "content-encoding", "content-language", "accept-encoding"})
"""`Connection: content-type` cannot take these away: they say what the body is."""
_STAY_IN_ANSWERS: Final = _NOT_NOMINATED | {"content-length", "date"}


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """Lower case, every character that is no letter or digit a dash."""
    return re.sub(r"[^a-z0-9]", "-", name.lower())


Rule = Literal["ends", "passes", "single", "digest", "coding"]
"""What becomes of a caller's header. `single`: it passes once; `digest`: while the body stays as it is."""
Pick = Callable[[Headers], Headers]
Keep = Callable[[Headers, bool], Headers]
"""The caller's headers that go on; the flag: does the body change? Raises `bad_request` when one of `single` stands
twice."""


@dataclass(frozen=True, slots=True)
class Strip:
    """What a route's profile adds to the rules above.

    `owned`: headers that Paraf sets, folded; nothing of the caller's under such a name passes.
    `single`: headers that the caller may send instead of Paraf, once; folded name to the spelling that passes, in
    lower case.
    """

    owned: frozenset[str]
    single: Mapping[str, str]

    @classmethod
    def of(cls, *, owned: Iterable[str], single: Iterable[str]) -> "Strip":
        """Of names as the profile spells them."""
        ours = frozenset(fold(name) for name in owned)
        return cls(ours, {fold(name): name.lower() for name in single if fold(name) not in ours})

    def keeping(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], Keep]:
        """For rows of these names: those that go on unless a value or the body forbids it, and what keeps them."""
        rules = [self._rule(name) for name in names]
        stays = [place for place, rule in enumerate(rules) if rule != "ends"]
        pick, connections, rules = _rows(stays), _connections(names), [rules[place] for place in stays]
        plain = {"passes"}.issuperset(rules)

        def keep(headers: Headers, body_changes: bool) -> Headers:  # noqa: FBT001 -- asked for every request
            kept = pick(headers)
            nominated = _nominated(headers, connections) - _NOT_NOMINATED if connections else _NONE
            return kept if plain and not nominated else _judged(kept, rules, nominated, body_changes)

        as_it_came = plain and not connections
        return tuple([names[place] for place in stays]), (lambda headers, _: pick(headers)) if as_it_came else keep

    def _rule(self, name: str) -> Rule:
        folded = fold(name)
        if folded in _ENDS_HERE or folded.startswith(_ENDS_HERE_BY_PREFIX) or folded in self.owned:
            return "ends"
        if folded in self.single:
            return "single" if name.lower() == self.single[folded] else "ends"
        if folded in _DIGESTS:
            return "digest"
        return "coding" if folded == "accept-encoding" else "passes"


def _judged(kept: Headers, rules: Sequence[Rule], nominated: frozenset[str], body_changes: bool) -> Headers:  # noqa: FBT001
    """What goes on of headers that may, by their values."""
    passed: list[tuple[str, str]] = []
    seen: set[str] = set()
    for row, rule in zip(kept, rules, strict=True):
        name, value = row
        if nominated and fold(name) in nominated:
            continue
        if rule == "passes":
            passed.append(row)
        elif rule == "coding":
            passed.append((name, _CODINGS[value]))
        elif rule == "digest":
            passed += () if body_changes else (row,)
        elif value.strip() and not (body_changes and fold(name) in _DIGESTS):
            if name.lower() in seen:
                raise ProxyError("bad_request", "a header of which the provider wants one is sent twice")
            seen.add(name.lower())
            passed.append(row)
    return tuple(passed)


def as_sent(headers: Headers) -> Headers:
    """All but what belongs to the connection, and what is meant for Paraf."""
    nominated = _nominated(headers, _connections(names_of(headers))) - _NOT_NOMINATED
    return tuple([row for row in headers if not _is_of_the_connection(fold(row[0]), nominated)])


def _is_of_the_connection(folded: str, nominated: frozenset[str]) -> bool:
    return folded in FRAMING or folded in nominated or folded.startswith("x-paraf-")


def decoded(raw: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, ...], Headers]:
    """The names of a caller's row, and the row. Raises `bad_request` for what is not UTF-8, or would be two lines."""
    if not raw:
        return (), ()
    names, values = zip(*raw)  # noqa: B905 -- pairs
    try:
        known = _NAMES[names]
        return known, _paired(known, values)
    except ValueError:
        raise ProxyError("bad_request", "a header is not UTF-8") from None


def _paired(names: tuple[str, ...], values: tuple[bytes, ...]) -> Headers:
    """As many of the one as of the other, and not none. Raises ValueError for what does not decode, or is two lines."""
    read = b"\n".join(values).decode().split("\n")
    if len(read) != len(names):
        raise ValueError("a line break in a header")
    return tuple(zip(names, read))  # noqa: B905 -- as many; the keyword is not free


def decoded_names(names: tuple[bytes, ...]) -> tuple[str, ...]:
    texts = tuple([name.decode() for name in names])
    if any("\n" in name for name in texts):
        raise ValueError("a line break in the name of a header")
    return texts


_NAMES: Final = Remembered(decoded_names)
"""A program sends the same row of names again and again; the same texts for it let other tables find it sooner."""
_NAME: Final = itemgetter(0)


def names_of(headers: Headers) -> tuple[str, ...]:
    return tuple(map(_NAME, headers))


def _places(names: tuple[str, ...]) -> Mapping[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for place, name in enumerate(names):
        found[name.lower()] = (*found.get(name.lower(), ()), place)
    return found


PLACES: Final = Remembered(_places)
"""Where each name of a row stands, in lower case."""


def value_of(headers: Headers, name: str) -> str | None:
    """The first value under `name`, any case."""
    found = PLACES[names_of(headers)].get(name.lower())
    return headers[found[0]][1] if found else None


def date_ms(headers: Headers) -> int | None:
    """Epoch milliseconds of the Date header (RFC 9110 section 6.6.1), which has whole seconds; None if it says none."""
    try:
        return int(parsedate_to_datetime(value_of(headers, "Date") or "").timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def texts(fields: Fields) -> Headers:
    """Bytes that are not UTF-8 become surrogates."""
    rows = zip(*fields, strict=True)
    return tuple([(name.decode(), value.rstrip().decode("utf-8", "surrogateescape")) for name, value in rows])


def answer_lines(fields: Fields) -> tuple[bytes, bytes | None]:
    """The lines of the provider's header that go back, and its Content-Length.

    No hop-by-hop ones do, no Proxy-*, none that look like Paraf's own.
    """
    names, values = fields
    form, pick, connections, length = _GOING_BACK[names]
    for place in connections:
        if _NOMINATED[values[place],]:
            return answer_lines(_not_nominated(fields, connections))
    return form % pick(values), None if length is None else values[length]


def _not_nominated(fields: Fields, connections: Sequence[int]) -> Fields:
    names, values = fields
    nominated = _NONE.union(*(_NOMINATED[values[place],] for place in connections))
    return _without(fields, {*connections, *(at for at, name in enumerate(names) if fold(name.decode()) in nominated)})


def without_length(fields: Fields) -> Fields:
    return _without(fields, PLACES[decoded_names(fields[0])].get("content-length", ()))


def _without(fields: Fields, places: Collection[int]) -> Fields:
    """Those that stand elsewhere."""
    names, values = fields
    left = [at for at in range(len(names)) if at not in places]
    return tuple([names[at] for at in left]), tuple([values[at] for at in left])


Back = tuple[bytes, Callable[[Sequence[bytes]], Any], Sequence[int], int | None]
"""A form of the lines that go back, and what takes their values; where `Connection` and `Content-Length` stand."""


def _going_back(names: tuple[bytes, ...]) -> Back:
    own = decoded_names(names)
    theirs = [place for place, name in enumerate(own) if _goes_back(fold(name))]
    form = b"".join([names[place].replace(b"%", b"%%") + b": %b\r\n" for place in theirs])
    pick = itemgetter(*theirs) if theirs else lambda _: ()
    return form, pick, _connections(own), PLACES[own].get("content-length", (None,))[0]


def _goes_back(folded: str) -> bool:
    return folded not in HOP_BY_HOP and not folded.startswith(("x-paraf-", "proxy-"))


def _rows(chosen: Sequence[int]) -> Pick:
    """What takes the rows at these places."""
    if len(chosen) == 1:
        [only] = chosen
        return lambda headers: (headers[only],)
    return itemgetter(*chosen) if chosen else lambda _: ()


def _nominated(headers: Headers, connections: Sequence[int]) -> frozenset[str]:
    """What `Connection`, at these places, names beside what is hop-by-hop anyway."""
    nominated = _NONE
    for place in connections:
        nominated |= _listed(headers[place][1])
    return nominated


def _connections(names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple([place for place, name in enumerate(names) if fold(name) == "connection"])


def _nominated_back(words: tuple[bytes]) -> frozenset[str]:
    """By a `Connection` of an answer."""
    return _listed(words[0].decode("utf-8", "surrogateescape")) - _STAY_IN_ANSWERS


_GOING_BACK: Final = Remembered(_going_back)
_NOMINATED: Final = Remembered(_nominated_back)


@lru_cache(maxsize=256)
def _listed(value: str) -> frozenset[str]:
    return frozenset(fold(name.strip()) for name in value.split(",")) - HOP_BY_HOP


def _coding(value: str) -> str:
    """Accept-Encoding cut to what can be looked into for a provider's code: gzip, or nothing (RFC 9110 12.5.3)."""
    offers = (offer.strip().partition(";") for offer in value.lower().split(","))
    wants = any(name.strip() in ("gzip", "x-gzip", "*") and not _is_zero(rest) for name, _, rest in offers)
    return "gzip" if wants else "identity"


_CODINGS: Final = Remembered(_coding)


def _is_zero(parameters: str) -> bool:
    return bool(re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters))
