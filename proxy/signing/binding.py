"""A profile bound to one account's credentials: all that is known at load is filled in once."""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from proxy.headers import fold
from proxy.signing.algorithms import DIGESTS, HmacKey
from proxy.signing.profile import Choose, CredentialKind, Let, Profile, Scheme, Signature
from proxy.signing.template import Template, compile_template
from proxy.signing.timestamps import time_formatter

Lazy = Callable[[Mapping[str, bytes]], bytes]
Rows = tuple[tuple[str, Template], ...]
"""Headers to be made: name, and what gives the value."""


class Values(dict[str, bytes]):
    """What the holes of one request are filled with; the dearer ones are computed when a template asks."""

    __slots__ = ("_lazy",)

    def __init__(self, given: Mapping[str, bytes], lazy: Mapping[str, Lazy]) -> None:
        self.update(given)
        self._lazy = lazy

    def __missing__(self, name: str) -> bytes:
        value = self[name] = self._lazy[name](self)
        return value

    def __repr__(self) -> str:
        return f"Values({', '.join(self)})"


@dataclass(frozen=True, slots=True)
class ExternalId:
    """The id that the provider wants to be unique in a day. `length` counts the digits, the prefix not."""

    header: str = "X-EXTERNAL-ID"
    format: Literal["digits", "uuid"] = "digits"
    length: int = 20
    prefix: str = ""
    on_repeat: str = "same"


@dataclass(frozen=True, slots=True)
class Binding:
    """A profile with one account's credentials: what the call signer and the token exchange have in common."""

    profile: Profile
    switches: Mapping[str, Any]
    known: Mapping[str, bytes] = field(repr=False)
    lazy: Mapping[str, Lazy] = field(repr=False)

    def signature(self, signature: Signature) -> Signature:
        key = self._key(signature.algorithm, signature.key) if isinstance(signature.key, Template) else signature.key
        string = signature.string.bind(self.known)
        return Signature(signature.header, string, signature.algorithm, key, signature.encoding, signature.prefix)

    def _key(self, algorithm: str, key: Template) -> Template:
        bound = key.bind(self.known)
        return bound if bound.names else Template((HmacKey(bound.render({}), DIGESTS[algorithm]),))

    def headers(self, table: Mapping[str, Template]) -> Rows:
        return tuple((name, template.bind(self.known)) for name, template in table.items())

    def read(self, mentioned: Iterable[str]) -> "Read":
        names = reached(self.profile, mentioned)
        always = reached(self.profile, mentioned, choices=False)
        lets = [(name, self.lazy[name]) for name in self.profile.let if name in names]
        return Read(
            names, tuple([row for row in lets if row[0] in always]), dict(row for row in lets if row[0] not in always)
        )


class Read(NamedTuple):
    """What templates come to, their lets followed down."""

    names: frozenset[str]
    always: tuple[tuple[str, Lazy], ...]
    """The lets that every request needs, each behind those that it mentions."""
    chosen: Mapping[str, Lazy]
    """Those that only some choose."""


def reached(profile: Profile, mentioned: Iterable[str], *, choices: bool = True) -> frozenset[str]:
    """These names, and those that the lets among them lead to. `choices`: by any row of a choice too."""
    names = frozenset(mentioned)
    for name in reversed(list(profile.let)):
        let = profile.let[name]
        if name in names and (choices or isinstance(let, Template)):
            names |= let.names
    return names


def effective(profile: Profile, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The profile's switches with a route's laid on them."""
    external_id = {**(profile.switches.get("external_id") or {}), **(overrides.get("external_id") or {})}
    set_ones = {name: value for name, value in external_id.items() if value is not None}
    merged = {**profile.switches, **overrides}
    return {**merged, "external_id": ExternalId(**set_ones) if set_ones else None}


def schemes_of(profile: Profile, switches: Mapping[str, Any]) -> dict[str, Scheme]:
    """The schemes that a route's calls can take, by name, with the route's own headers, string and key laid on them."""
    named = switches["signature"]
    laid = {rule.scheme: _with_headers(profile.schemes[rule.scheme], switches) for rule in profile.rules}
    return {**laid, named: _with_string_and_key(_with_headers(profile.schemes[named], switches), switches)}


def _with_headers(scheme: Scheme, switches: Mapping[str, Any]) -> Scheme:
    """A route's headers take the place of the scheme's, however each is spelt."""
    own = switches.get("headers") or {"set": {}, "default": {}}
    set_ones = _in_place_of(scheme.set, own["set"])
    default = _in_place_of(scheme.default, own["default"])
    always = {fold(name) for name in set_ones}
    default = {name: template for name, template in default.items() if fold(name) not in always}
    return replace(scheme, set=set_ones, default=default)


def _in_place_of(theirs: Mapping[str, Template], own: Mapping[str, str]) -> dict[str, Template]:
    replaced = {fold(name) for name in own}
    kept = {name: template for name, template in theirs.items() if fold(name) not in replaced}
    return {**kept, **{name: compile_template(text) for name, text in own.items()}}


def _with_string_and_key(scheme: Scheme, switches: Mapping[str, Any]) -> Scheme:
    """They stand for those of the first signature; a scheme that a rule chooses keeps its own."""
    own: dict[str, Any] = {name: compile_template(switches[name]) for name in ("string", "key") if switches.get(name)}
    if not own:
        return scheme
    first, *rest = scheme.signatures
    return replace(scheme, signatures=(replace(first, **own), *rest))


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise ValueError("is not base64") from None


def _from_hex(text: str) -> bytes:
    digits = "".join(text.split())
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", digits):
        raise ValueError("is not hex")
    return bytes.fromhex(digits)


_BYTES_OF: Final[dict[CredentialKind, Callable[[str], bytes]]] = {
    "text": str.encode,
    "base64": _from_base64,
    "hex": _from_hex,
}


def credential_bytes(kind: CredentialKind, text: str) -> bytes:
    """What templates fill in for a credential of any kind but `pem`. Raises ValueError."""
    return _BYTES_OF[kind](text)


def bind(profile: Profile, switches: Mapping[str, Any], credentials: Mapping[str, bytes]) -> Binding:
    """Fill in all that is known at load. `credentials`: the values of every kind but `pem`."""
    known = {**credentials, "token_separator": switches["token_separator"].encode()}
    known |= {name: each.render(known) for name, each in profile.constants.items() if each.names <= known.keys()}
    known |= {name: text.encode() for name, text in (switches.get("constants") or {}).items()}
    zone = profile.zone.encode()
    lazy: dict[str, Lazy] = {"zone": lambda _: zone}
    lazy |= {name: _let(let, known, switches) for name, let in profile.let.items()}
    return Binding(profile, switches, known, lazy)


def _let(let: Let, known: Mapping[str, bytes], switches: Mapping[str, Any]) -> Lazy:
    if isinstance(let, Template):
        return let.bind(known).render
    return _choice(let, known, switches["digest_for"])


def _choice(let: Choose, known: Mapping[str, bytes], table: str) -> Lazy:
    rows = {name: template.bind(known) for name, template in getattr(let, table).items()}
    if table == "by_body":
        return lambda values: rows["present" if values["body"] else "empty"].render(values)
    return lambda values: rows.get(values["method"].decode().upper(), rows["other"]).render(values)


def timestamp(name: str, offset: str) -> Lazy:
    formatter = time_formatter(name, offset)
    return lambda values: formatter(int(values["now"]))
