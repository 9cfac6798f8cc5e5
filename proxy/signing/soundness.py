"""What is well written in a profile and wrong beside something else."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from proxy.errors import Finding
from proxy.headers import FRAMING, fold
from proxy.shape import did_you_mean
from proxy.signing.algorithms import ASYMMETRIC
from proxy.signing.binding import ExternalId, effective
from proxy.signing.names import RESERVED, let_rows, unknown, uses
from proxy.signing.profile import Choose, Profile, Signature
from proxy.source import Path, Source

BYTES: Final = "holds bytes or a line break, and this is one line of text: end it with hex or b64"

NOWHERE: Final = "there is no codes.field that says where codes stand"


@dataclass(frozen=True, slots=True)
class Fault:
    """Where, and words; `at_key`: the name is wrong, not what stands under it."""

    path: Path
    words: str
    at_key: bool = False


def check(profile: Profile, source: Source) -> Iterator[Finding]:
    for faults in _CHECKS:
        for fault in faults(profile):
            yield source.finding(fault.path, fault.words, key=fault.at_key)


def _names(profile: Profile) -> Iterator[Fault]:
    """One name, one value: neither Paraf's own nor another section's."""
    tables = (("credentials", profile.credentials), ("constants", profile.constants), ("let", profile.let))
    seen: dict[str, str] = {}
    for section, table in tables:
        for name in table:
            if name in RESERVED:
                yield Fault((section, name), "is a name that Paraf gives a meaning itself", at_key=True)
            elif name in seen:
                yield Fault((section, name), f"is a name under {seen[name]} already", at_key=True)
            seen.setdefault(name, section)


def _templates(profile: Profile) -> Iterator[Fault]:
    raw = raw_names(profile)
    for use in uses(profile):
        yield from (Fault(use.path, words) for words in unknown(use.template, use.known, profile))
        if use.line and not use.template.is_line(raw):
            yield Fault(use.path, BYTES)


def raw_names(profile: Profile) -> set[str]:
    """Values that are no line of text."""
    raw = {"body", "raw_body"} | {name for name, kind in profile.credentials.items() if kind in ("base64", "hex")}
    rows = [(name, template) for name, template in profile.constants.items()]
    rows += [(name, template) for name, let in profile.let.items() for _, template in let_rows(let)]
    for name, template in rows:
        if not template.is_line(raw):
            raw.add(name)
    return raw


def _schemes(profile: Profile) -> Iterator[Fault]:
    named: dict[Path, str] = {("signature",): profile.switches["signature"]}
    named |= {("rules", str(i), "scheme"): rule.scheme for i, rule in enumerate(profile.rules)}
    for path, name in named.items():
        if name not in profile.schemes:
            yield Fault(path, f"no such scheme{did_you_mean(name, profile.schemes)}")
    for name, scheme in profile.schemes.items():
        if scheme.token and profile.token is None:
            yield Fault(("schemes", name, "token"), "there is no section token that says how one is fetched")


def _keys(profile: Profile) -> Iterator[Fault]:
    for path, signature in _signatures(profile):
        pem = isinstance(signature.key, str) and profile.credentials.get(signature.key) == "pem"
        if signature.algorithm in ASYMMETRIC and not pem:
            yield Fault((*path, "key"), "must name a credential of kind pem, without braces")


def _signatures(profile: Profile) -> Iterator[tuple[Path, Signature]]:
    for name, scheme in profile.schemes.items():
        yield from _numbered(("schemes", name), scheme.signatures)
    yield from _numbered(("token",), profile.token.signatures if profile.token else ())
    yield from ((("callbacks", name), signature) for name, signature in profile.callbacks.items())


def _numbered(path: Path, signatures: Iterable[Signature]) -> Iterator[tuple[Path, Signature]]:
    yield from (((*path, "signatures", str(i)), signature) for i, signature in enumerate(signatures))


@dataclass(frozen=True, slots=True)
class Sent:
    """A header that Paraf sends, where it is written, and what it is."""

    name: str
    path: Path
    words: str
    at_key: bool = False


def headers_of(path: Path, table: Iterable[str]) -> Iterator[Sent]:
    yield from (Sent(name, (*path, name), name, at_key=True) for name in table)


def headers_signed(path: Path, signatures: Iterable[Signature]) -> Iterator[Sent]:
    yield from (Sent(each.header, (*at, "header"), "of a signature") for at, each in _numbered(path, signatures))


def header_of_external_id(wanted: ExternalId | None) -> Iterator[Sent]:
    if wanted:
        yield Sent(wanted.header, ("external_id", "header"), "of external_id")


def sent_twice(sent: Iterable[Sent]) -> Iterator[Fault]:
    """A header is sent once, however it is spelt, and HTTP's own are not ours to send."""
    seen: dict[str, Sent] = {}
    for each in sent:
        first = seen.setdefault(fold(each.name), each)
        if fold(each.name) in FRAMING:
            yield Fault(each.path, "is HTTP's own header: the connection decides what stands in it", each.at_key)
        elif first is not each:
            yield Fault(each.path, f"is the header {first.words} already", each.at_key)


def _headers(profile: Profile) -> Iterator[Fault]:
    for name, scheme in profile.schemes.items():
        path = ("schemes", name)
        sent = [*headers_signed(path, scheme.signatures), *header_of_external_id(effective(profile, {})["external_id"])]
        yield from sent_twice(
            [*sent, *headers_of((*path, "set"), scheme.set), *headers_of((*path, "default"), scheme.default)]
        )
    if call := profile.token:
        yield from sent_twice(
            [*headers_signed(("token",), call.signatures), *headers_of(("token", "headers"), call.headers)]
        )


def table_missing(profile: Profile, table: str) -> Iterator[str]:
    """Lets that `digest_for: table` leaves without a value."""
    for name, let in profile.let.items():
        if isinstance(let, Choose) and not getattr(let, table):
            yield name


def _tables(profile: Profile) -> Iterator[Fault]:
    table = profile.switches["digest_for"]
    yield from (
        Fault(("let", name), f"has no table {table}, which digest_for names") for name in table_missing(profile, table)
    )


def _answers(profile: Profile) -> Iterator[Fault]:
    for i, row in enumerate(profile.refused):
        if row.code and profile.code_field is None:
            yield Fault(("refused", str(i), "code"), NOWHERE)
    for code_class, rows in profile.code_classes.items():
        for i, each in enumerate(rows):
            if each.code and profile.code_field is None:
                yield Fault(("codes", "classes", code_class, str(i)), NOWHERE)
    for i, name in enumerate(profile.compare.environments if profile.compare else ()):
        if name not in profile.environments:
            path = ("compare", "environments", str(i))
            yield Fault(path, f"no such environment{did_you_mean(name, profile.environments)}")


_CHECKS: Final[tuple[Callable[[Profile], Iterator[Fault]], ...]] = (
    _names,
    _templates,
    _schemes,
    _keys,
    _headers,
    _tables,
    _answers,
)
