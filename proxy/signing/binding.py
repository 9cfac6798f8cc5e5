"""A profile bound to one account's credentials: all that is known at load is filled in once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.signing.profile import Choose, Let, Profile, Signature
from proxy.signing.template import Template
from proxy.signing.timestamps import time_formatter

Lazy = Callable[["Values"], bytes]


class Values(dict[str, bytes]):
    """What the holes of one request are filled with; the dearer ones are computed when a template asks."""

    __slots__ = ("_lazy",)

    def __init__(self, given: Mapping[str, bytes], lazy: Mapping[str, Lazy]) -> None:
        super().__init__(given)
        self._lazy = lazy

    def __missing__(self, name: str) -> bytes:
        value = self[name] = self._lazy[name](self)
        return value


@dataclass(frozen=True, slots=True)
class ExternalId:
    """The id that the provider wants to be unique in a day. `length` counts the digits, the prefix not."""

    header: str
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
        key = signature.key.bind(self.known) if isinstance(signature.key, Template) else signature.key
        string = signature.string.bind(self.known)
        return Signature(signature.header, string, signature.algorithm, key, signature.encoding, signature.prefix)

    def headers(self, table: Mapping[str, Template]) -> tuple[tuple[str, Template], ...]:
        return tuple((name, template.bind(self.known)) for name, template in table.items())


def effective(profile: Profile, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The profile's switches with a route's laid on them."""
    external_id = {**(profile.switches.get("external_id") or {}), **(overrides.get("external_id") or {})}
    set_ones = {name: value for name, value in external_id.items() if value is not None}
    merged = {**profile.switches, **overrides}
    return {**merged, "external_id": ExternalId(**set_ones) if set_ones else None}


def bind(profile: Profile, switches: Mapping[str, Any], credentials: Mapping[str, bytes]) -> Binding:
    """Fill in all that is known at load. `credentials`: the values of every kind but `pem`."""
    known = {**credentials, "token_separator": (switches.get("token_separator") or "|").encode()}
    known |= {name: template.render(credentials) for name, template in profile.constants.items()}
    known |= {name: text.encode() for name, text in (switches.get("constants") or {}).items()}
    lazy = {name: _let(let, known, switches) for name, let in profile.let.items()}
    return Binding(profile, switches, known, lazy)


def _let(let: Let, known: Mapping[str, bytes], switches: Mapping[str, Any]) -> Lazy:
    if isinstance(let, Template):
        return let.bind(known).render
    return _choice(let, known, switches.get("digest_for") or "by_method")


def _choice(let: Choose, known: Mapping[str, bytes], table: str) -> Lazy:
    rows = {name: template.bind(known) for name, template in getattr(let, table).items()}
    if table == "by_body":
        return lambda values: rows["present" if values["body"] else "empty"].render(values)
    return lambda values: rows.get(values["method"].decode().upper(), rows["other"]).render(values)


def timestamp(name: str, offset: str) -> Lazy:
    formatter = time_formatter(name, offset)
    return lambda values: formatter(int(values["now"]))
