"""From a caller's request to what leaves: draft (the bytes to sign), then seal (with the signatures).

A Signer is one route's profile, switches and credentials bound together at load. It is a function of its arguments:
the time, the ids, the token and the signatures are handed in, so keys may live elsewhere. Body and target that were
signed are those of the SignedRequest; nothing between here and the wire changes them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from proxy.addresses import BaseUrl
from proxy.errors import ProxyError
from proxy.headers import PLACES, Keep, Strip, names_of, value_of
from proxy.model import Headers, SignedRequest, Token
from proxy.remembered import Remembered
from proxy.routes import below_base, rule_matches
from proxy.signing.binding import Binding, ExternalId, Lazy, Read, Rows, Values, schemes_of, timestamp
from proxy.signing.canonical import NotJson, minify, sort_keys
from proxy.signing.draft import Asked, Demand, Draft, Make, asked, at_once, demands, dues, json_body, making
from proxy.signing.profile import Profile, Scheme
from proxy.signing.timestamps import time_formatter

CANONICAL: Final[dict[str, Callable[[bytes], bytes]]] = {
    "raw": lambda body: body,
    "minify": minify,
    "sorted": sort_keys,
}


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a call goes: all that its method and target decide."""

    method: str
    target: str
    url: str
    scheme: "BoundScheme"
    given: dict[str, bytes]
    """What templates read of it."""


class Call(NamedTuple):
    """A caller's request, stripped and with its canonical body: the same for every attempt."""

    aim: Aim
    headers: Headers
    raw_body: bytes
    canonical_body: bytes
    body: bytes
    """What is sent: the canonical body or the caller's."""
    make: Make
    """Headers to be made for each attempt: of those that the scheme sets, or that the caller may send, and did not."""
    external_id: str | None
    """The caller's own, if it sent one."""

    def __repr__(self) -> str:
        return f"Call({self.aim.method}, {self.aim.target!r})"


class Head(NamedTuple):
    """What becomes of a row of the caller's headers, and what it lacks, as far as their names tell."""

    names: tuple[str, ...]
    """Of those that go on, unless a value or the body forbids it."""
    keep: Keep
    fixed: Headers
    """To be added, the same for every request."""
    make: Make
    """To be added, made for each attempt."""
    external_id: int | None
    """Where it stands among what goes on."""


@dataclass(frozen=True, slots=True)
class BoundScheme:
    token: bool
    quick: Make | None = field(repr=False)
    """Makes its signatures, if no private key is needed."""
    heads: Remembered[tuple[str, ...], Head] = field(repr=False)
    """By the names of a row."""
    signatures: Asked = field(repr=False)
    headers_due: tuple[tuple[str, str, str], ...]
    read: Read
    """By the templates of this scheme."""
    header_names: tuple[str, ...]
    """Names that they read as `{header.NAME}`."""


class Signer:
    """One route's way from a caller's request to a draft."""

    def __init__(self, binding: Binding, base: BaseUrl) -> None:
        switches, profile = binding.switches, binding.profile
        self.external_id: ExternalId | None = switches["external_id"]
        self._binding = binding
        self._base = base
        self._id_header = self.external_id.header.lower() if self.external_id else ""
        self._canonical = CANONICAL[switches["canonical"]]
        self._reject = switches["invalid_json"] == "reject"
        self._send_canonical = switches["forward"] == "canonical"
        self._time = time_formatter(switches["timestamp"], profile.zone)
        self._method = str.upper if switches["method_case"] == "upper" else str.lower
        self._lazy = request_values(binding, base)
        self._authorization = self._lazy["authorization"]
        schemes = {name: self._bound(scheme) for name, scheme in schemes_of(profile, switches).items()}
        self._default = schemes[switches["signature"]]
        self._rules = tuple((rule.call, schemes[rule.scheme]) for rule in profile.rules)
        self._aims = Remembered(self._aim)

    @property
    def base_path(self) -> str:
        return self._base.path

    def admit(self, method: str, target: str, names: tuple[str, ...], headers: Headers, body: bytes) -> Call:
        """Strip and canonicalise. `target`: the provider's, base path and all; `names`: those of the headers. Raises
        `bad_request`.
        """
        aim = self._aims[method, target]
        canonical = self._canonical_body(body)
        sent = canonical if self._send_canonical else body
        stay, keep, fixed, make, place = aim.scheme.heads[names]
        kept = keep(headers, sent != body)
        if len(kept) != len(stay):
            _, _, fixed, make, place = aim.scheme.heads[names_of(kept)]
        return Call(aim, kept + fixed, body, canonical, sent, make, None if place is None else kept[place][1])

    def _aim(self, place: tuple[str, str]) -> Aim:
        method, target = place
        below = below_base(target, self._base)
        scheme = next((bound for rule, bound in self._rules if rule_matches(rule, method, below)), self._default)
        return Aim(method, target, self._base.origin + target, scheme, self._given(method, target))

    def _given(self, method: str, target: str) -> dict[str, bytes]:
        values = Values({"method": self._method(method).encode(), "target": target.encode()}, self._lazy)
        return {name: values[name] for name in ("method", "target", "path", "query", "endpoint", "url", "zone")}

    def draft(self, call: Call, token: Token | None, now_ms: int, external_id: str | None) -> Draft:
        """One clock reading for header and string. `external_id`: the call's own, or one made by Paraf."""
        headers, values = self._open(call, token, now_ms, external_id)
        aim = call.aim
        request = SignedRequest(aim.method, aim.url, headers, call.body)
        return Draft(request, demands(aim.scheme.signatures, values), aim.scheme.headers_due)

    def signed(self, call: Call, token: Token | None, now_ms: int, external_id: str | None) -> SignedRequest:
        """A draft and its seal in one, for a scheme that is `quick`."""
        headers, values = self._open(call, token, now_ms, external_id)
        aim = call.aim
        make = aim.scheme.quick
        assert make is not None  # noqa: S101  else it would leave without a signature
        return SignedRequest(aim.method, aim.url, headers + make(values), call.body)

    def _open(
        self, call: Call, token: Token | None, now_ms: int, external_id: str | None
    ) -> tuple[Headers, dict[str, bytes]]:
        """The headers but for the signatures, and all that the templates of the scheme read."""
        aim, headers, raw_body, canonical_body, _, make, sent_id = call
        names, always, chosen = aim.scheme.read
        values = Values(aim.given, chosen) if chosen else aim.given.copy()
        values["body"], values["raw_body"] = canonical_body, raw_body
        values["token"] = token.value.reveal().encode() if token else b""
        values["authorization"] = self._authorization(values)
        values["timestamp"] = self._time(now_ms)
        if "now" in names:
            values["now"] = b"%d" % now_ms
        if "external_id" in names:
            values["external_id"] = external_id.encode() if external_id else b""
        for name, let in always:
            values[name] = let(values)
        headers += make(values)
        if external_id is not None and sent_id is None and self.external_id:
            headers += ((self.external_id.header, external_id),)
        if aim.scheme.header_names:
            values.update(_header_values(aim.scheme.header_names, headers))
        return headers, values

    def comparison(self, call: Call, token: Token, now_ms: int) -> SignedRequest:
        """The question to the provider's own signer for tests, about a call without body. It carries no signature."""
        compare = self._binding.profile.compare
        if compare is None:
            raise ProxyError("not_allowed", "this provider has no signer to compare with")
        values = Values({**self._binding.known, **call.aim.given, "body": b"", "raw_body": b""}, self._lazy)
        values |= {"token": token.value.reveal().encode(), "now": b"%d" % now_ms}
        headers = making(self._binding.headers(compare.headers))(values)
        url = self._base.text + compare.endpoint.target
        return SignedRequest(compare.endpoint.method, url, headers, json_body(compare.json, values))

    def callback(  # noqa: PLR0917  a request in its parts
        self, name: str, method: str, target: str, headers: Headers, body: bytes, token: Token | None
    ) -> Demand:
        """The signature of what the provider sends: `target` is the path of the merchant's URL, the base its origin."""
        signature = self._binding.signature(self._binding.profile.callbacks[name])
        values = Values(self._given(method, target), self._lazy)
        values |= {"body": self._canonical_body(body), "raw_body": body}
        values |= {"token": token.value.reveal().encode() if token else b""}
        values |= _header_values(_header_names(signature.names), headers)
        return demands(asked((signature,)), values)[0]

    def _canonical_body(self, body: bytes) -> bytes:
        if not body:
            return body
        try:
            return self._canonical(body)
        except NotJson:
            if self._reject:
                raise ProxyError(
                    "bad_request", "the body is not JSON, and the route says invalid_json: reject"
                ) from None
            return body

    def _bound(self, scheme: Scheme) -> BoundScheme:
        binding = self._binding
        signatures = tuple(binding.signature(signature) for signature in scheme.signatures)
        always, default = binding.headers(scheme.set), binding.headers(scheme.default)
        mentioned = {name for _, template in always + default for name in template.names}
        read = binding.read(mentioned.union(*(signature.names for signature in signatures)))
        header_names = _header_names(read.names)
        heads = Remembered(_heads(self._strip(scheme, header_names), always, default, self._id_header))
        quick, due = at_once(signatures), dues(signatures)
        return BoundScheme(scheme.token, quick, heads, asked(signatures), due, read, header_names)

    def _strip(self, scheme: Scheme, read: Sequence[str]) -> Strip:
        """What any scheme of the profile sets is owned in every one: a rule cannot open a gap. What is `read` into a
        string is sent once: of two, a provider could read the other.
        """
        every = (scheme, *self._binding.profile.schemes.values())
        owned = {name for each in every for name in each.set}
        owned |= {signature.header for each in every for signature in each.signatures}
        single = {*scheme.default, *read, *([self.external_id.header] if self.external_id else ())}
        return Strip.of(owned={*owned, *scheme.drop}, single=single)


def request_values(binding: Binding, base: BaseUrl) -> dict[str, Lazy]:
    """What a template can ask for beside what is given: computed from the rest of a request's values."""
    switches, profile, origin = binding.switches, binding.profile, base.origin.encode()
    lazy: dict[str, Lazy] = {
        "timestamp": timestamp(switches["timestamp"], profile.zone),
        "authorization": lambda values: b"Bearer " + values["token"],
        "path": lambda values: values["target"].partition(b"?")[0],
        "query": lambda values: values["target"].partition(b"?")[2],
        "endpoint": _endpoint(switches, profile, base),
        "url": lambda values: origin + values["target"],
    }
    return lazy | dict(binding.lazy)


def _heads(strip: Strip, always: Rows, default: Rows, id_header: str) -> Callable[[tuple[str, ...]], Head]:
    def head(names: tuple[str, ...]) -> Head:
        stay, keep = strip.keeping(names)
        there = PLACES[stay]
        rows = always + tuple([row for row in default if row[0].lower() not in there])
        fixed = making(tuple([row for row in rows if not row[1].names]))({})
        make = making(tuple([row for row in rows if row[1].names]))
        return Head(stay, keep, fixed, make, there[id_header][0] if id_header in there else None)

    return head


def _header_values(names: Sequence[str], headers: Headers) -> dict[str, bytes]:
    return {f"header.{name}": (value_of(headers, name) or "").encode() for name in names}


def _header_names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.removeprefix("header.") for name in sorted(names) if name.startswith("header."))


def _endpoint(switches: Mapping[str, Any], profile: Profile, base: BaseUrl) -> Lazy:
    """The part of the URL that is signed, from the raw target: never decoded, re-encoded or normalised."""
    kind = switches["sign_path"]
    if kind == "full_url":
        return lambda values: values["url"]
    prefixes = (base.path if switches["strip_base_path"] else "", profile.strip_prefix)
    cut, added = [prefix.encode() for prefix in prefixes if prefix], profile.add_prefix.encode()
    if kind == "path_and_query" and not (cut or added):
        return lambda values: values["target"]

    def endpoint(values: Mapping[str, bytes]) -> bytes:
        path, mark, query = values["target"].partition(b"?")
        for prefix in cut:
            path = _without(path, prefix)
        path = added + (path or b"/")
        if kind == "path":
            return path
        return path + mark + (query if kind == "path_and_query" else b"&".join(sorted(query.split(b"&"))))

    return endpoint


def _without(path: bytes, prefix: bytes) -> bytes:
    inside = path.startswith(prefix) and path[len(prefix) :][:1] in (b"", b"/")
    return path[len(prefix) :] if inside else path
