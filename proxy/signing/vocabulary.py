"""What may stand in a profile file: the closed vocabulary, as shapes.

Switches are those of `proxy.switches`; the rest is here. A new SNAP provider is one file that says `extends: snap`.
"""

import re
from dataclasses import dataclass, replace
from fnmatch import translate
from typing import Any, Final

from proxy import shape
from proxy.addresses import METHODS, AllowRule, BaseUrl, Endpoint
from proxy.errors import ConfigError
from proxy.quantities import duration
from proxy.shape import BAD, Anything, Choice, Flag, Key, Listing, Parsed, Record, Table, Text, Whole
from proxy.signing.algorithms import ALGORITHMS, ASYMMETRIC, ENCODINGS
from proxy.signing.profile import (
    CODE_CLASSES,
    Choose,
    CodeRow,
    Compare,
    Environment,
    Glob,
    Profile,
    RefusedRow,
    Rule,
    Scheme,
    Signature,
    TokenAnswer,
    TokenCall,
)
from proxy.signing.soundness import check
from proxy.signing.template import Template, compile_template
from proxy.signing.timestamps import JAKARTA, zone
from proxy.source import Mapping, Node, Path, Report, Sequence, Source
from proxy.switches import HEADER_NAME, SWITCHES


def _glob(text: str) -> Glob:
    return Glob(text, re.compile(translate(text)).match)


def _words(text: str) -> Glob:
    return Glob(text, re.compile(translate(text), re.IGNORECASE).match)


def _zone(text: str) -> str:
    zone(text)
    return text


@dataclass(frozen=True, slots=True)
class JsonTemplate:
    """Any JSON value; its texts are templates."""

    def read(self, node: Node, path: Path, report: Report) -> Any:
        if isinstance(node, Mapping):
            members = {key.text: self.read(value, (*path, key.text), report) for key, value in node.members}
            return BAD if BAD in members.values() else members
        if isinstance(node, Sequence):
            items = [self.read(item, (*path, str(i)), report) for i, item in enumerate(node.items)]
            return BAD if BAD in items else items
        plain = Anything().read(node, path, report)
        return TEMPLATE.read(node, path, report) if isinstance(plain, str) else plain

    def schema(self) -> dict[str, Any]:
        return {}


TEMPLATE: Final = Parsed(compile_template, "a template")
GLOB: Final = Parsed(_glob, "text with ? and *")
HEADER: Final = Text(HEADER_NAME, "a header name")
TEMPLATES: Final = Table(TEMPLATE, HEADER.pattern, HEADER.words)
NAME: Final = (r"[a-z][a-z0-9_]*", "small letters, digits and _: what a template can mention")
_DOTTED: Final = (r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", "a dotted path")
DOTTED: Final = Text(*_DOTTED)
PREFIX: Final = Text(r"/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-]", "a path such as /nicepay")
BASE_URL: Final = Parsed(BaseUrl.parse, "a URL such as https://api.example.com")
CALL_RULE: Final = Parsed(AllowRule.parse, "a method and a path such as POST /v1/token/**")
ENDPOINT: Final = Parsed(Endpoint.parse, "a method and a path such as POST /v1/token")


def _signature(*, algorithm: str, key: Template, **parts: Any) -> Signature:
    name = key.render({}).decode() if algorithm in ASYMMETRIC and not key.names else None
    return Signature(algorithm=algorithm, key=name or key, **parts)


def _environment(api: BaseUrl, token: BaseUrl | None, *, confirmed: bool) -> Environment:
    return Environment(api, token or api, confirmed)


def _choose(by_method: dict[str, Template], by_body: dict[str, Template]) -> Choose:
    if by_method and "other" not in by_method:
        raise ValueError("by_method needs an entry `other`")
    if by_body and set(by_body) != {"present", "empty"}:
        raise ValueError("by_body has the two entries present and empty")
    return Choose(by_method, by_body)


def _scheme(*, unsigned: bool, signatures: tuple[Signature, ...], **parts: Any) -> Scheme:
    if bool(signatures) is unsigned:
        raise ValueError("a scheme has signatures, or says `unsigned: true` (never both)")
    return Scheme(signatures=signatures, **parts)


def _refused(status: int, code: Glob | None, field: str | None, value: str | None) -> RefusedRow:
    if (field is None) is not (value is None):
        raise ValueError("field and value go together")
    return RefusedRow(status, code, field, value)


def _code_row(status: int | None, code: Glob | None, field: str | None, value: Glob | None) -> CodeRow:
    if (field is None) is not (value is None):
        raise ValueError("field and value go together")
    if status is None and code is None and field is None:
        raise ValueError("says of no answer that it fits: give it a status, a code, or field and value")
    return CodeRow(status, code, field, value)


def _token(call: Endpoint, **parts: Any) -> TokenCall:
    if parts["json"] is not None and parts["form"] is not None:
        raise ValueError("a body is json or form, not both")
    return TokenCall(endpoint=call, **parts)


def _compare(call: Endpoint, **parts: Any) -> Compare:
    return Compare(endpoint=call, **parts)


SIGNATURE: Final = Record(
    {
        "header": Key(HEADER, "the header that carries it", required=True),
        "string": Key(TEMPLATE, "the string-to-sign", required=True),
        "algorithm": Key(Choice(tuple(ALGORITHMS)), "how it is signed", required=True),
        "key": Key(TEMPLATE, "HMAC: a template; RSA: the name of a pem credential", required=True),
        "encoding": Key(Choice(tuple(ENCODINGS)), "how the signature is written", default="b64"),
        "prefix": Key(Text(r"[ -~]*", "printable text"), "text in front of it", default=""),
    },
    _signature,
)
SCHEME: Final = Record(
    {
        "token": Key(Flag(), "does a call carry an access token", required=True),
        "set": Key(TEMPLATES, "headers always set", default={}),
        "default": Key(TEMPLATES, "headers set when the caller sends none", default={}),
        "drop": Key(Listing(HEADER), "headers of the caller that end here", default=()),
        "signatures": Key(Listing(SIGNATURE), "in the order they are made", default=()),
        "unsigned": Key(Flag(), "a call of this scheme carries no signature, by the provider's word", default=False),
    },
    _scheme,
)
ANSWER: Final = Record(
    {
        "token": Key(DOTTED, "where the token stands", required=True),
        "type": Key(DOTTED, "where its type stands; anything but Bearer is refused"),
        "lifetime": Key(DOTTED, "where its life stands, in seconds, number or digits"),
        "expires_at_ms": Key(DOTTED, "where its end stands, in epoch milliseconds"),
        "default_lifetime": Key(duration(maximum=7 * 86_400), "its life when the answer says none", required=True),
        "success": Key(Table(GLOB, *_DOTTED), "fields that, if there, must match", default={}),
        "refused": Key(Table(GLOB, *_DOTTED), "fields by which a 200 says no", default={}),
        "standin": Key(Table(Anything(), *_DOTTED), "fields of an answer that `token_standin` makes", default={}),
    },
    TokenAnswer,
)
TOKEN: Final = Record(
    {
        "call": Key(ENDPOINT, "method and path under the token base", required=True),
        "headers": Key(TEMPLATES, "headers of the call", default={}),
        "json": Key(JsonTemplate(), "JSON body; texts are templates"),
        "form": Key(Table(TEMPLATE), "form body"),
        "signatures": Key(Listing(SIGNATURE), "signatures of the call", default=()),
        "answer": Key(ANSWER, "how to read the answer", required=True),
        "timestamp": Key(SWITCHES["timestamp"].shape, "the form of the time in this call, if not that of calls"),
        "exclusive": Key(Flag(), "a new token kills the old one at the provider", default=False),
        "refresh_ahead": Key(duration(), "how long before its end it is replaced", default=60.0),
        "max_life": Key(duration(maximum=7 * 86_400), "upper bound of a life", default=7 * 86_400.0),
        "min_gap": Key(duration(), "least time between two calls (1s, exclusive 5s)"),
    },
    _token,
)
CODE_ROW: Final = shape.Either(
    Parsed(lambda text: CodeRow(None, _glob(text), None, None), GLOB.words),
    Record(
        {
            "status": Key(Whole(200, 599), "HTTP status"),
            "code": Key(GLOB, "pattern of the code"),
            "field": Key(DOTTED, "a field of the answer"),
            "value": Key(Parsed(_words, GLOB.words), "pattern of its value, in any case"),
        },
        _code_row,
    ),
)
_SAID: Final = ("timestamp", "canonical", "sign_path", "signature")
"""Switches of which no value is the usual one."""
_USUAL: Final = {
    "forward": "canonical",
    "invalid_json": "raw",
    "strip_base_path": False,
    "method_case": "upper",
    "token_separator": "|",
    "digest_for": "by_method",
}
_METHOD: Final = ("|".join((*METHODS, "other")), f"one of {', '.join(METHODS)}, other")


def _switches() -> dict[str, Key]:
    """Those of a profile; of the others a template stands in its own place here."""
    return {
        name: replace(key, required=name in _SAID, default=_USUAL.get(name))
        for name, key in SWITCHES.items()
        if name not in ("constants", "string", "key", "headers")
    }


PROFILE: Final = Record(
    {
        "extends": Key(Text(), "the profile this one is laid on"),
        "title": Key(Text(), "the provider's name for people", required=True),
        "docs": Key(Text(), "the page that the profile follows", required=True),
        "environments": Key(
            Table(
                Record(
                    {
                        "api": Key(BASE_URL, "base of the API", required=True),
                        "token": Key(BASE_URL, "base of the token call, if another"),
                        "confirmed": Key(Flag(), "false: a route must write `upstream`", default=True),
                    },
                    _environment,
                )
            ),
            "named sets of hosts",
            default={},
        ),
        "credentials": Key(Table(Choice(("text", "base64", "hex", "pem")), *NAME), "names and kinds", required=True),
        **_switches(),
        "constants": Key(Table(TEMPLATE, *NAME), "named texts over credentials", default={}),
        "zone": Key(Parsed(_zone, "an offset such as +07:00"), "offset of local times", default=JAKARTA),
        "strip_prefix": Key(PREFIX, "left out of the signed path", default=""),
        "add_prefix": Key(PREFIX, "put in front of the signed path", default=""),
        "let": Key(
            Table(
                shape.Either(
                    TEMPLATE,
                    Record(
                        {
                            "by_method": Key(Table(TEMPLATE, *_METHOD), "by method", default={}),
                            "by_body": Key(Table(TEMPLATE), "by there being a body", default={}),
                        },
                        _choose,
                    ),
                ),
                *NAME,
            ),
            "named intermediate values, each over those above it",
            default={},
        ),
        "token": Key(TOKEN, "the token call; absent when calls need none"),
        "schemes": Key(Table(SCHEME), "how calls are signed; the switch `signature` names one", required=True),
        "rules": Key(
            Listing(Record({"call": Key(CALL_RULE, "method and path", required=True),
                            "scheme": Key(Text(), "the scheme", required=True)}, Rule)),
            "calls that take another scheme; the first that matches counts",
            default=(),
        ),
        "refused": Key(
            Listing(
                Record(
                    {
                        "status": Key(Whole(200, 599), "HTTP status", required=True),
                        "code": Key(GLOB, "pattern of the code"),
                        "field": Key(DOTTED, "a field of the answer"),
                        "value": Key(Text(), "its value"),
                    },
                    _refused,
                )
            ),
            "answers that refuse the token before acting",
            default=(),
        ),
        "codes": Key(
            Record(
                {
                    "field": Key(DOTTED, "where answers carry the code"),
                    "classes": Key(Table(Listing(CODE_ROW), "|".join(CODE_CLASSES),
                                         "one of " + ", ".join(CODE_CLASSES)), "answers by class", default={}),
                }
            ),
            "the provider's codes",
            default=None,
        ),
        "time_window": Key(duration(), "by how much a timestamp may differ from the provider's clock", default=120.0),
        "callbacks": Key(Table(SIGNATURE), "signatures of what the provider sends", default={}),
        "compare": Key(
            Record(
                {
                    "call": Key(ENDPOINT, "method and path", required=True),
                    "environments": Key(Listing(Text()), "where it may be asked", required=True),
                    "headers": Key(TEMPLATES, "headers of the call", default={}),
                    "json": Key(JsonTemplate(), "JSON body; texts are templates", required=True),
                    "answer": Key(DOTTED, "where the signature stands", required=True),
                },
                _compare,
            ),
            "the provider's own signer, for tests",
        ),
    }
)  # fmt: skip


def read_profile(name: str, source: Source) -> Profile:
    """The profile of a parsed file (`extends` already laid out). Raises ConfigError with every finding."""
    report = Report(source.file)
    read = PROFILE.read(source.root, (), report)
    report.raise_if_failed()
    codes = read.pop("codes") or {"field": None, "classes": {}}
    read.pop("extends")
    switches = {key: read.pop(key) for key in SWITCHES if key in read and key != "constants"}
    profile = Profile(name, **read, switches=switches, code_field=codes["field"], code_classes=codes["classes"])
    findings = sorted(check(profile, source))
    if findings:
        raise ConfigError(findings)
    return profile
