"""Names in a profile: every hole of a template must be filled by somebody, every scheme named must be there."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from proxy.errors import Finding
from proxy.shape import did_you_mean
from proxy.signing.profile import Choose, Compare, Let, Profile, Signature, TokenCall
from proxy.signing.template import Template, compile_template
from proxy.source import Path, Source

CLOCK: Final = frozenset({"now", "timestamp", "token_separator"})
CALL: Final = CLOCK | {
    "method", "path", "query", "endpoint", "url", "token", "authorization", "body", "raw_body", "external_id",
}  # fmt: skip


Used = tuple[Path, Template, frozenset[str]]
"""A template, where it stands, and the names that are filled there."""


def check(profile: Profile, source: Source) -> Iterator[Finding]:
    """Names that a template uses and nobody gives; schemes that rules and switches name and nobody has."""
    for path, template, known in _templates(profile):
        for name in sorted(template.names - known):
            if not name.startswith("header."):
                yield source.finding(path, f"unknown name {{{name}}}{did_you_mean(name, known)}")
    named: dict[Path, str] = {("signature",): profile.switches["signature"]}
    named |= {("rules", str(i), "scheme"): rule.scheme for i, rule in enumerate(profile.rules)}
    for where, scheme in named.items():
        if scheme not in profile.schemes:
            yield source.finding(where, f"no such scheme{did_you_mean(str(scheme), profile.schemes)}")
    for path, signature in _signatures(profile):
        if isinstance(signature.key, str) and profile.credentials.get(signature.key) != "pem":
            yield source.finding((*path, "key"), "must name a credential of kind pem")


def _signatures(profile: Profile) -> Iterator[tuple[Path, Signature]]:
    for name, scheme in profile.schemes.items():
        for i, signature in enumerate(scheme.signatures):
            yield ("schemes", name, "signatures", str(i)), signature
    for i, signature in enumerate(profile.token.signatures if profile.token else ()):
        yield ("token", "signatures", str(i)), signature
    for name, signature in profile.callbacks.items():
        yield ("callbacks", name), signature


def _templates(profile: Profile) -> Iterator[Used]:
    """Every template with its place and the names it may use."""
    texts = frozenset(name for name, kind in profile.credentials.items() if kind != "pem")
    for name, template in profile.constants.items():
        yield ("constants", name), template, texts
    call, token = CALL | texts | frozenset(profile.constants), CLOCK | texts | frozenset(profile.constants)
    for name, let in profile.let.items():
        yield from ((path, template, call) for path, template in _let_templates(name, let))
        if all(template.names <= token for _, template in _let_templates(name, let)):
            token |= {name}
        call |= {name}
    yield from _signature_templates(profile, call, token)
    yield from _scheme_templates(profile, call)
    yield from _token_templates(profile.token, token) if profile.token else ()
    yield from _compare_templates(profile.compare, call) if profile.compare else ()


def _signature_templates(profile: Profile, call: frozenset[str], token: frozenset[str]) -> Iterator[Used]:
    for path, signature in _signatures(profile):
        names = token if path[0] == "token" else call
        yield (*path, "string"), signature.string, names
        if isinstance(signature.key, Template):
            yield (*path, "key"), signature.key, names


def _scheme_templates(profile: Profile, call: frozenset[str]) -> Iterator[Used]:
    for name, scheme in profile.schemes.items():
        for part, table in (("set", scheme.set), ("default", scheme.default)):
            for header, template in table.items():
                yield ("schemes", name, part, header), template, call


def _let_templates(name: str, let: Let) -> Iterator[tuple[Path, Template]]:
    if isinstance(let, Template):
        yield ("let", name), let
        return
    for table, rows in (("by_method", let.by_method), ("by_body", let.by_body)):
        for row, template in rows.items():
            yield ("let", name, table, row), template


def _token_templates(token: TokenCall, known: frozenset[str]) -> Iterator[Used]:
    for part, table in (("headers", token.headers), ("form", token.form or {})):
        for name, template in table.items():
            yield ("token", part, name), template, known
    for template in json_leaves(token.json):
        yield ("token", "json"), template, known


def _compare_templates(compare: Compare, known: frozenset[str]) -> Iterator[Used]:
    yield from ((("compare", "headers", name), template, known) for name, template in compare.headers.items())
    yield from ((("compare", "json"), template, known) for template in json_leaves(compare.json))


def json_leaves(value: Any) -> Iterator[Template]:
    """The templates in a JSON body."""
    if isinstance(value, Template):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from json_leaves(member)
    elif isinstance(value, list):
        for member in value:
            yield from json_leaves(member)


def needed_credentials(profile: Profile, switches: Mapping[str, Any]) -> frozenset[str]:
    """The credentials without which a route of these switches cannot sign, or fetch its token."""
    schemes = [profile.schemes[switches["signature"]], *(profile.schemes[rule.scheme] for rule in profile.rules)]
    signatures = [signature for scheme in schemes for signature in scheme.signatures]
    templates = [template for scheme in schemes for template in (*scheme.set.values(), *scheme.default.values())]
    if profile.token and any(scheme.token for scheme in schemes):
        signatures += profile.token.signatures
        templates += [template for _, template, _ in _token_templates(profile.token, frozenset())]
    keys = {signature.key for signature in signatures if isinstance(signature.key, str)}
    templates += [signature.key for signature in signatures if isinstance(signature.key, Template)]
    templates += [signature.string for signature in signatures]
    return frozenset((_reached(profile, templates) | keys | {"client_id"}) & set(profile.credentials))


def _reached(profile: Profile, templates: Iterable[Template]) -> set[str]:
    """Names that these templates mention, and those that their constants and lets do."""
    names = {name for template in templates for name in template.names}
    for name in list(profile.constants):
        names |= profile.constants[name].names if name in names else set()
    for name in reversed(list(profile.let)):
        if name in names:
            names |= {inner for _, template in _let_templates(name, profile.let[name]) for inner in template.names}
    return names


def override_findings(
    profile: Profile, switches: Mapping[str, Any], overrides: Mapping[str, Any]
) -> Iterator[tuple[Path, str]]:
    """What is wrong with a route's own switches, seen with the profile: path below the route, and words."""
    if switches["signature"] not in profile.schemes:
        yield ("signature",), f"{profile.name} has no such scheme{did_you_mean(switches['signature'], profile.schemes)}"
    texts = {name for name, kind in profile.credentials.items() if kind != "pem"}
    known = CALL | texts | set(profile.constants) | set(profile.let) | set(overrides.get("constants") or {})
    headers = overrides.get("headers") or {}
    written: dict[Path, str | None] = {("string",): overrides.get("string"), ("key",): overrides.get("key")}
    written |= {("headers", part, name): text for part in headers for name, text in headers[part].items()}
    for path, text in written.items():
        yield from ((path, message) for message in _template_faults(text, known))
    for name, let in profile.let.items():
        if isinstance(let, Choose) and not getattr(let, switches.get("digest_for") or "by_method"):
            yield ("digest_for",), f"{profile.name} has no such table for {name}"


def _template_faults(text: str | None, known: frozenset[str] | set[str]) -> Iterator[str]:
    if text is None:
        return
    try:
        names = compile_template(text).names
    except ValueError as error:
        yield str(error)
        return
    yield from (
        f"unknown name {{{name}}}{did_you_mean(name, known)}"
        for name in sorted(names - known)
        if not name.startswith("header.")
    )
