"""A signed request read as its provider reads it: the values its headers state, and what is plainly wrong with them.

What the string-to-sign is made of is taken from the request itself, as a provider does; from the route come the keys,
the templates and how each value should be written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from proxy.addresses import BaseUrl
from proxy.headers import value_of
from proxy.model import Headers
from proxy.routes import below_base, rule_matches
from proxy.signing.binding import Binding, Lazy, Values, bind, schemes_of
from proxy.signing.profile import Profile, Scheme
from proxy.signing.signer import CANONICAL, request_values
from proxy.signing.spellings import Spelling, instant_ms, spellings
from proxy.signing.template import Hole, Moment, Template, or_raw
from proxy.signing.timestamps import time_formatter, zone

PartName = Literal[
    "time", "path", "body", "digest", "token", "key", "client", "algorithm", "encoding", "method", "separator", "header"
]
PATIENCE_MS: Final = 60_000
"""A header's time may be so far from the moment of sending before it is called wrong: the strictest window that a
provider's page states is twice this."""
_PART_OF: Final[Mapping[str, PartName]] = {
    "timestamp": "time", "now": "time", "token": "token", "authorization": "token", "client_id": "client",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Presented:
    """A request as somebody signed it. `target` is the provider's, base path and all."""

    method: str
    target: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    prefix: str = ""
    """Paraf's own, which a caller's target begins with."""
    sent_ms: int | None = None
    """When it was sent, if that is known."""
    token: bytes = field(default=b"", repr=False)
    """The token it should carry, if that is known."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing that is otherwise. `words` say what was found, `also` names what comes to the same bytes."""

    part: PartName
    name: str
    words: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the signature is held against: the values of the request, and one of the scheme's signatures."""

    presented: Presented
    binding: Binding = field(repr=False)
    base: BaseUrl
    scheme: Scheme
    token_call: bool
    form: str
    """Of the time."""
    at_ms: int | None
    given: Mapping[str, bytes] = field(repr=False)
    lazy: Mapping[str, Lazy] = field(repr=False)

    def values(self) -> Values:
        return Values(self.given, self.lazy)

    @property
    def profile(self) -> Profile:
        return self.binding.profile


def reading(binding: Binding, base: BaseUrl, presented: Presented) -> tuple[Reading, list[Deviation]]:
    """The reading, and the deviations that can be seen without a look at the signature."""
    fetches = is_token_call(binding, base, presented)
    scheme, form = _token_scheme(binding) if fetches else _call_scheme(binding, base, presented)
    stated = dict(_stated(scheme, presented.headers))
    others = binding.profile.schemes.values()  # by one of which it may have been signed
    given = {**_read_headers(scheme, *others), **binding.known, **_of_request(binding, presented), **stated}
    read = Reading(presented, binding, base, scheme, fetches, form, None, given, _lazies(binding, base))
    read = _with_time(_with_token(read))
    return read, list(_plain_faults(read))


def is_token_call(binding: Binding, base: BaseUrl, presented: Presented) -> bool:
    call = binding.profile.token
    return call is not None and (presented.method, below_base(presented.target, base)) == (
        call.endpoint.method, call.endpoint.target,
    )  # fmt: skip


def _token_scheme(binding: Binding) -> tuple[Scheme, str]:
    """The token call as a scheme without a token, and the form of its time."""
    call = binding.profile.token
    assert call is not None  # noqa: S101  is_token_call was asked
    form = call.timestamp or str(binding.switches["timestamp"])
    return Scheme(token=False, set=call.headers, default={}, drop=(), signatures=call.signatures), form


def _call_scheme(binding: Binding, base: BaseUrl, presented: Presented) -> tuple[Scheme, str]:
    profile, switches = binding.profile, binding.switches
    below = below_base(presented.target, base)
    rules = (rule.scheme for rule in profile.rules if rule_matches(rule.call, presented.method, below))
    return schemes_of(profile, switches)[next(rules, switches["signature"])], str(switches["timestamp"])


def _read_headers(*schemes: Scheme) -> dict[str, bytes]:
    """Headers that templates read; one that was not sent is empty."""
    names = [name for scheme in schemes for each in scheme.signatures for name in each.names]
    return {name: b"" for name in names if name.startswith("header.")}


def _lazies(binding: Binding, base: BaseUrl) -> dict[str, Lazy]:
    """With nothing filled in that a guess might want to read otherwise."""
    return {**request_values(binding, base), **bind(binding.profile, binding.switches, {}).lazy}


def _of_request(binding: Binding, presented: Presented) -> dict[str, bytes]:
    switches, method = binding.switches, presented.method
    cased = method.upper() if switches["method_case"] == "upper" else method.lower()
    given = {
        "method": cased.encode(),
        "target": presented.target.encode(),
        "body": or_raw(CANONICAL[switches["canonical"]])(presented.body),
        "raw_body": presented.body,
        "token": b"",
        "external_id": b"",
        "now": b"0",
        **{f"header.{name.lower()}": value.encode() for name, value in presented.headers},
    }
    if switches["external_id"]:
        given["external_id"] = (value_of(presented.headers, switches["external_id"].header) or "").encode()
    return given


def _stated(scheme: Scheme, headers: Headers) -> Iterator[tuple[str, bytes]]:
    """Values that stand in headers of their own."""
    for name, template in scheme.set.items():
        value, hole = value_of(headers, name), only_hole(template)
        if value is not None and hole is not None:
            before, after = _around(template)
            yield hole.name, value.encode().removeprefix(before).removesuffix(after)


def only_hole(template: Template) -> Hole | Moment | None:
    """The one hole of a template from which its value can be read back."""
    holes = [part for part in template.parts if not isinstance(part, bytes)]
    plain = len(holes) == 1 and (isinstance(holes[0], Moment) or not holes[0].pipes)
    return holes[0] if plain else None


def _around(template: Template) -> tuple[bytes, bytes]:
    first, last = template.parts[0], template.parts[-1]
    return first if isinstance(first, bytes) else b"", last if isinstance(last, bytes) else b""


def _with_token(read: Reading) -> Reading:
    """`token` bare and `authorization` with its Bearer, whichever of them the header holds."""
    given = dict(read.given)
    if "authorization" in given:
        given["token"] = given["authorization"].removeprefix(b"Bearer ")
    given["authorization"] = b"Bearer " + given["token"]
    return replace(read, given=given)


def _with_time(read: Reading) -> Reading:
    """The header's own text is what is signed; its instant is for templates that write it in a form of their own."""
    name, moment = time_header(read.scheme) or ("", "")
    text = value_of(read.presented.headers, name) if name else None
    at_ms = _instant(text, moment or read.form, read.profile.zone) if text else None
    given = {**read.given, "now": b"%d" % (at_ms or 0)}
    if moment or "timestamp" not in given:
        write = time_formatter(read.form, read.profile.zone)
        given["timestamp"] = write(at_ms) if at_ms is not None else b""
    return replace(read, at_ms=at_ms, given=given, form=moment or read.form)


def time_header(scheme: Scheme) -> tuple[str, str] | None:
    """The header that states the time, and its form if the template says one itself."""
    for name, template in scheme.set.items():
        hole = only_hole(template)
        if isinstance(hole, Moment):
            return name, hole.form
        if hole is not None and hole.name == "timestamp":
            return name, ""
    return None


def _instant(text: str, form: str, offset: str) -> int | None:
    if form.startswith("strftime:"):
        try:
            found = datetime.strptime(text, form.removeprefix("strftime:"))  # noqa: DTZ007  the zone follows
        except ValueError:
            return None
        aware = found if found.tzinfo else found.replace(tzinfo=zone(offset))
        return int(aware.timestamp()) * 1000 + aware.microsecond // 1000
    return instant_ms(text, offset)


def _plain_faults(read: Reading) -> Iterator[Deviation]:
    headers, scheme = read.presented.headers, read.scheme
    for name, template in scheme.set.items():
        hole = only_hole(template)
        part: PartName = _PART_OF.get(hole.name, "header") if hole else "header"
        values = [value for each, value in headers if each.lower() == name.lower()]
        if len(values) != 1:
            often = f"stands there {len(values)} times" if values else "is missing"
            yield Deviation(part, f"{part}.{'repeated' if values else 'missing'}", f"{name} {often}")
        elif name.lower() != "content-type":
            yield from _FAULTS[part](read, name, values[0])
    switch = read.binding.switches["external_id"]
    if switch and not read.given["external_id"] and read.scheme.signatures and not read.token_call:
        yield Deviation("header", "header.missing", f"{switch.header} is missing")


def _time_faults(read: Reading, name: str, text: str) -> Iterator[Deviation]:
    offset, at_ms = read.profile.zone, read.at_ms
    if at_ms is None:
        yield Deviation("time", "time.unreadable", f"{name} holds no time that can be read")
        return
    right = time_formatter(read.form, offset)(at_ms).decode()
    if text != right:
        found = spelling_of(text, at_ms, offset)
        form = found.words if found else "in a form of its own"
        yield Deviation("time", "time.header", f"{name} is {form}; the route writes {read.form}")
    sent_ms = read.presented.sent_ms
    if sent_ms is not None and abs(at_ms - sent_ms) > PATIENCE_MS:
        yield Deviation("time", "time.clock", f"{name} is {apart(at_ms - sent_ms)} the time of sending")


def apart(difference_ms: int) -> str:
    """`7 h 0 min ahead of`, and what whole hours mean."""
    seconds, way = abs(difference_ms) // 1000, "ahead of" if difference_ms > 0 else "behind"
    if seconds < 120:
        return f"{seconds} s {way}"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min ({seconds} s) {way}"
    if minutes > 48 * 60:
        return f"{minutes // 1440} days {way}"
    hint = "" if minutes % 60 not in (0, 1, 59) else " (whole hours: a time zone)"
    return f"{minutes // 60} h {minutes % 60} min{hint} {way}"


def spelling_of(text: str, at_ms: int, offset: str) -> Spelling | None:
    return next((each for each in spellings(offset) if each.write(at_ms) == text), None)


def _token_faults(read: Reading, name: str, text: str) -> Iterator[Deviation]:
    if name.lower() == "authorization" and not text.startswith("Bearer "):
        yield Deviation("token", "token.no_bearer", f"{name} does not begin with `Bearer `")
    elif not read.given["token"].strip():
        yield Deviation("token", "token.empty", f"{name} holds no token")
    elif read.given["token"].startswith(b"Bearer "):
        yield Deviation("token", "token.bearer_twice", f"{name} has `Bearer ` twice")
    elif read.presented.token and read.presented.token != read.given["token"]:
        yield Deviation("token", "token.sent", f"{name} holds another token than the one given")


def _other_faults(read: Reading, name: str, text: str) -> Iterator[Deviation]:
    template = read.scheme.set[name]
    hole = only_hole(template)
    part: PartName = _PART_OF.get(hole.name, "header") if hole else "header"
    try:
        right = template.render(Values(read.binding.known, read.binding.lazy)).decode()
    except KeyError:  # it is made of the request
        return
    if text != right:
        yield Deviation(part, f"{part}.other", f"{name} is not what the route's account has there")


_FAULTS: Final = {
    "time": _time_faults, "token": _token_faults, "client": _other_faults, "header": _other_faults,
}  # fmt: skip
