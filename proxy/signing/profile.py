"""A profile: everything that is known of one provider, read from its YAML file and complete.

Frozen nouns only. `vocabulary` says how a file becomes one, `names` what its templates may mention.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from proxy.addresses import AllowRule, BaseUrl, Endpoint
from proxy.signing.template import Template

CredentialKind = Literal["text", "base64", "hex", "pem"]
CodeClass = Literal["token", "signature", "time", "duplicate", "permission", "provider_fault"]
CODE_CLASSES: Final = ("token", "signature", "time", "duplicate", "permission", "provider_fault")


@dataclass(frozen=True, slots=True)
class Environment:
    """A named set of hosts. `confirmed` is false for hosts that only public code names: a route must write them."""

    api: BaseUrl
    token: BaseUrl
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Choose:
    """A named value looked up in a table: by the method or by the body; the switch `digest_for` says which."""

    by_method: Mapping[str, Template]
    by_body: Mapping[str, Template]

    @property
    def names(self) -> frozenset[str]:
        """Names that it can come to need, whichever row is chosen."""
        rows = (*self.by_method.values(), *self.by_body.values())
        return frozenset({"method", "body"}).union(*(row.names for row in rows))


Let = Template | Choose


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: what is signed, how, with which key, and the header that carries it.

    `key` is a template for HMAC and the name of a `pem` credential for RSA.
    """

    header: str
    string: Template
    algorithm: str
    key: Template | str
    encoding: str
    prefix: str

    @property
    def names(self) -> frozenset[str]:
        """Names that its string and its key mention."""
        return self.string.names | (self.key.names if isinstance(self.key, Template) else frozenset())


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one kind of call is dressed: does it carry a token, which headers are set, which signatures made."""

    token: bool
    set: Mapping[str, Template]
    default: Mapping[str, Template]
    drop: tuple[str, ...]
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """Where an answer of the token endpoint says what; dotted paths. `default_lifetime` in seconds."""

    token: str
    type: str | None
    lifetime: str | None
    expires_at_ms: str | None
    default_lifetime: float
    success: Mapping[str, "Glob"]
    refused: Mapping[str, "Glob"]
    standin: Mapping[str, Any]
    """JSON values of the other fields, as documented: for an answer that is made here."""


@dataclass(frozen=True, slots=True)
class TokenCall:
    """The call that fetches a token. `json` and `form` hold templates as their leaves. Times in seconds."""

    endpoint: Endpoint
    headers: Mapping[str, Template]
    json: Any
    form: Mapping[str, Template] | None
    signatures: tuple[Signature, ...]
    answer: TokenAnswer
    timestamp: str | None
    exclusive: bool
    refresh_ahead: float
    max_life: float
    min_gap: float | None


@dataclass(frozen=True, slots=True)
class Glob:
    """Text with `?` and `*`, as codes are written in a profile."""

    text: str
    matches: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """An answer by which the provider refused the token before acting."""

    status: int
    code: Glob | None
    field: str | None
    value: str | None


@dataclass(frozen=True, slots=True)
class CodeRow:
    """Answers of one class: every part that is given must fit. `value` is compared without regard to case."""

    status: int | None
    code: Glob | None
    field: str | None
    value: Glob | None


@dataclass(frozen=True, slots=True)
class Rule:
    call: AllowRule
    scheme: str


@dataclass(frozen=True, slots=True)
class Compare:
    """The provider's own signer for tests: where it is, in which environments it may be asked, and how.

    `json` holds templates as its leaves; `answer` is where the signature stands in what comes back.
    """

    endpoint: Endpoint
    environments: tuple[str, ...]
    headers: Mapping[str, Template]
    json: Any
    answer: str


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    title: str
    docs: str
    environments: Mapping[str, Environment]
    credentials: Mapping[str, CredentialKind]
    constants: Mapping[str, Template]
    switches: Mapping[str, Any]
    zone: str
    strip_prefix: str
    add_prefix: str
    let: Mapping[str, Let]
    token: TokenCall | None
    schemes: Mapping[str, Scheme]
    rules: tuple[Rule, ...]
    refused: tuple[RefusedRow, ...]
    code_field: str | None
    code_classes: Mapping[CodeClass, tuple[CodeRow, ...]]
    """In the order of the file: the first that fits counts."""
    callbacks: Mapping[str, Signature]
    compare: Compare | None
    time_window: float
    """Seconds by which a timestamp may differ from the provider's clock."""
