"""What is well written among a route's own switches and wrong beside its profile."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.headers import fold
from proxy.shape import did_you_mean
from proxy.signing.names import BEARER, CALL, RESERVED, SENT, scope, unknown
from proxy.signing.profile import Profile, Scheme
from proxy.signing.soundness import (
    BYTES,
    Fault,
    Sent,
    header_of_external_id,
    headers_of,
    headers_signed,
    raw_names,
    sent_twice,
    table_missing,
)
from proxy.signing.template import compile_template
from proxy.source import Path


@dataclass(frozen=True, slots=True)
class _Laid:
    """A route's own switches, and what they come to on its profile."""

    profile: Profile
    switches: Mapping[str, Any]
    own: Mapping[str, Any]

    @property
    def named(self) -> Scheme | None:
        return self.profile.schemes.get(self.switches["signature"])

    @property
    def schemes(self) -> list[Scheme]:
        """Those that a call of the route can take."""
        ruled = [self.profile.schemes[rule.scheme] for rule in self.profile.rules]
        return [self.named, *ruled] if self.named else ruled

    @property
    def headers(self) -> Mapping[str, Mapping[str, str]]:
        return self.own.get("headers") or {}


def override_faults(profile: Profile, switches: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[Fault]:
    """Paths are below the route. `switches`: the profile's with the route's `own` laid on them."""
    laid = _Laid(profile, switches, own)
    for faults in _CHECKS:
        yield from faults(laid)


def _signature(laid: _Laid) -> Iterator[Fault]:
    named, profile = laid.named, laid.profile
    if named is None:
        hint = did_you_mean(laid.switches["signature"], profile.schemes)
        yield Fault(("signature",), f"{profile.name} has no such scheme{hint}")
        return
    for name in ("string", "key"):
        if laid.own.get(name) and not named.signatures:
            yield Fault((name,), "the scheme makes no signature: leave it out")
        elif name == "key" and laid.own.get(name) and isinstance(named.signatures[0].key, str):
            yield Fault((name,), "the scheme signs with a private key: leave it out")


def _templates(laid: _Laid) -> Iterator[Fault]:
    constants = frozenset(laid.own.get("constants") or {})
    named, everywhere = (
        scope(laid.profile, CALL if bearer else CALL - BEARER) | constants
        for bearer in (not laid.named or laid.named.token, all(scheme.token for scheme in laid.schemes))
    )
    for name in ("string", "key"):
        if text := laid.own.get(name):
            yield from _template(laid.profile, (name,), text, named | SENT)
    raw = raw_names(laid.profile)
    for part, table in laid.headers.items():
        for name, text in table.items():
            yield from _template(laid.profile, ("headers", part, name), text, everywhere, raw)


def _template(
    profile: Profile, path: Path, text: str, known: frozenset[str], raw: set[str] | None = None
) -> Iterator[Fault]:
    """`raw`: names whose values a line of text cannot hold, if it has to be one."""
    try:
        template = compile_template(text)
    except ValueError as error:
        yield Fault(path, str(error))
        return
    yield from (Fault(path, words) for words in unknown(template, known, profile))
    if raw is not None and not template.is_line(raw):
        yield Fault(path, BYTES)
    if path == ("key",) and not template.names:
        yield Fault(path, "the key itself stands in the file: name a credential, as in {client_secret}")


def _names(laid: _Laid) -> Iterator[Fault]:
    for name in laid.own.get("constants") or {}:
        if name in RESERVED or name in laid.profile.credentials or name in laid.profile.let:
            yield Fault(("constants", name), "is a name that has a meaning already", at_key=True)


def _headers(laid: _Laid) -> Iterator[Fault]:
    set_ones, default = (
        list(headers_of(("headers", part), laid.headers.get(part) or {})) for part in ("set", "default")
    )
    own = [*header_of_external_id(laid.switches["external_id"]), *set_ones, *default]
    faults = [fault for scheme in laid.schemes for fault in sent_twice([*_kept(scheme, set_ones, default), *own])]
    yield from dict.fromkeys(faults)


def _kept(scheme: Scheme, set_ones: list[Sent], default: list[Sent]) -> Iterator[Sent]:
    """What of a scheme's headers the route's do not take the place of."""
    yield from headers_signed((), scheme.signatures)
    replaced = {fold(each.name) for each in set_ones}
    yield from (each for each in headers_of((), scheme.set) if fold(each.name) not in replaced)
    replaced |= {fold(each.name) for each in default}
    yield from (each for each in headers_of((), scheme.default) if fold(each.name) not in replaced)


def _tables(laid: _Laid) -> Iterator[Fault]:
    for name in table_missing(laid.profile, laid.switches["digest_for"]):
        yield Fault(("digest_for",), f"{laid.profile.name} has no such table for {name}")


_CHECKS: Final[tuple[Callable[[_Laid], Iterator[Fault]], ...]] = (_signature, _templates, _names, _headers, _tables)
