"""Names in a profile: which values each of its templates can use, and which credentials a route needs for that."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.headers import FRAMING, fold
from proxy.shape import closest
from proxy.signing.algorithms import SYMMETRIC
from proxy.signing.binding import reached, schemes_of
from proxy.signing.profile import Let, Profile, Scheme, Signature
from proxy.signing.template import Template
from proxy.source import Path

REQUEST: Final = frozenset({"method", "path", "query", "endpoint", "url", "body", "raw_body"})
BEARER: Final = frozenset({"token", "authorization"})
CLOCK: Final = frozenset({"now", "timestamp"})
CALL: Final = REQUEST | BEARER | CLOCK | {"external_id"}
SENT: Final = frozenset({"header.NAME"})
"""Headers as they leave: there when a string is signed, not while they are being made."""
ALWAYS: Final = frozenset({"token_separator"})
RESERVED: Final = CALL | ALWAYS | {"zone", "target"}


@dataclass(frozen=True, slots=True)
class Use:
    """A template, where it stands, and the names it can use. `line`: it makes one line of text, as a header is."""

    path: Path
    template: Template
    known: frozenset[str]
    line: bool = False


def texts(profile: Profile) -> frozenset[str]:
    """The credentials that templates can mention."""
    return frozenset(name for name, kind in profile.credentials.items() if kind != "pem")


def scope(profile: Profile, given: frozenset[str]) -> frozenset[str]:
    """The names for a place where `given` of a call is known: also every let but those that need something else."""
    known, elsewhere = given | ALWAYS | texts(profile) | frozenset(profile.constants), CALL - given
    for name, let in profile.let.items():
        if let.names & elsewhere:
            elsewhere |= {name}
        else:
            known |= {name}
    return known


def uses(profile: Profile) -> Iterator[Use]:
    """Every template of a profile."""
    for name, template in profile.constants.items():
        yield Use(("constants", name), template, texts(profile))
    yield from _let_uses(profile)
    for name, scheme in profile.schemes.items():
        yield from scheme_uses(profile, name, scheme)
    yield from _token_uses(profile)
    for name, signature in profile.callbacks.items():
        yield from _signature_uses(("callbacks", name), signature, scope(profile, REQUEST | BEARER) | SENT)
    yield from _compare_uses(profile)


def scheme_uses(profile: Profile, name: str, scheme: Scheme) -> Iterator[Use]:
    path, known = ("schemes", name), scope(profile, CALL if scheme.token else CALL - BEARER)
    for part, table in (("set", scheme.set), ("default", scheme.default)):
        yield from (Use((*path, part, header), template, known, line=True) for header, template in table.items())
    for i, signature in enumerate(scheme.signatures):
        yield from _signature_uses((*path, "signatures", str(i)), signature, known | SENT)


def _signature_uses(path: Path, signature: Signature, known: frozenset[str]) -> Iterator[Use]:
    yield Use((*path, "string"), signature.string, known)
    if isinstance(signature.key, Template) and signature.algorithm in SYMMETRIC:
        yield Use((*path, "key"), signature.key, known)


def _token_uses(profile: Profile) -> Iterator[Use]:
    call, known = profile.token, scope(profile, CLOCK)
    if call is None:
        return
    yield from (Use(("token", "headers", name), each, known, line=True) for name, each in call.headers.items())
    yield from (Use(("token", "form", name), each, known) for name, each in (call.form or {}).items())
    yield from (Use(path, each, known, line=True) for path, each in _leaves(call.json, ("token", "json")))
    for i, signature in enumerate(call.signatures):
        yield from _signature_uses(("token", "signatures", str(i)), signature, known)


def _compare_uses(profile: Profile) -> Iterator[Use]:
    compare, known = profile.compare, scope(profile, REQUEST | BEARER | CLOCK)
    if compare is None:
        return
    yield from (Use(("compare", "headers", name), each, known, line=True) for name, each in compare.headers.items())
    yield from (Use(path, each, known, line=True) for path, each in _leaves(compare.json, ("compare", "json")))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Template]]:
    """The templates in a JSON body."""
    if isinstance(value, Template):
        yield path, value
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from _leaves(member, (*path, str(name)))


def _let_uses(profile: Profile) -> Iterator[Use]:
    """A let can use those above it."""
    known = CALL | ALWAYS | texts(profile) | frozenset(profile.constants)
    for name, let in profile.let.items():
        yield from (Use(("let", name, *row), template, known) for row, template in let_rows(let))
        known |= {name}


def let_rows(let: Let) -> Iterator[tuple[Path, Template]]:
    if isinstance(let, Template):
        yield (), let
        return
    for table, rows in (("by_method", let.by_method), ("by_body", let.by_body)):
        yield from (((table, row), template) for row, template in rows.items())


def unknown(template: Template, known: frozenset[str], profile: Profile) -> Iterator[str]:
    """What to say of each name that nobody gives here. A name that is like none is not repeated: a key can be pasted
    into a template.
    """
    elsewhere = {*RESERVED, *profile.credentials, *profile.constants, *profile.let}
    for name in sorted(template.names - known):
        close = closest(name, known)
        if name.startswith("header."):
            yield from _unreadable(name.removeprefix("header."), known)
        elif name in elsewhere:
            yield f"{{{name}}} is not known here"
        elif close:
            yield f"unknown name {{{name}}} (did you mean {close}?)"
        else:
            yield f"a hole has a name that is not known here (known: {', '.join(sorted(known))})"


def _unreadable(header: str, known: frozenset[str]) -> Iterator[str]:
    if not known >= SENT:
        yield "{header.NAME} can be used in the string and key of a call's signature only"
    elif fold(header) in FRAMING:
        yield "{header.NAME} is HTTP's own header here: what the connection says in it is not known"


def needed_credentials(profile: Profile, switches: Mapping[str, Any]) -> frozenset[str]:
    """The credentials without which a route of these switches cannot sign, or fetch its token."""
    schemes = schemes_of(profile, switches)
    found = [use.template for name, scheme in schemes.items() for use in scheme_uses(profile, name, scheme)]
    signatures = [signature for scheme in schemes.values() for signature in scheme.signatures]
    if profile.token and any(scheme.token for scheme in schemes.values()):
        found += [use.template for use in _token_uses(profile)]
        signatures += profile.token.signatures
    keys = {signature.key for signature in signatures if isinstance(signature.key, str)}
    names = _reached(profile, found, frozenset(switches.get("constants") or {}))
    return frozenset((names | keys | {"client_id"}) & set(profile.credentials))


def _reached(profile: Profile, templates: Iterable[Template], plain: frozenset[str]) -> set[str]:
    """Names that these templates mention, and those that their lets and constants do. `plain`: constants that the
    route writes out.
    """
    names = set(reached(profile, (name for template in templates for name in template.names)))
    for name, template in profile.constants.items():
        names |= template.names if name in names - plain else set()
    return names
