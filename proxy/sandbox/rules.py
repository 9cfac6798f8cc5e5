"""What each provider asks of a request, as data: one `Rule` for each profile."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from proxy.sandbox.bodies import BodyMode
from proxy.sandbox.stamps import TimeForm

PathMode = Literal["path", "path_and_query", "full_url"]
DigestFor = Literal["always", "by_method", "by_body"]
Style = Literal["snap", "klikoo", "netzme", "doku-nonsnap"]
TokenStyle = Literal["snap", "doku", "klikoo", "netzme"]
TokenCheck = Literal["snap", "klikoo", "basic"]

WINDOW_MS: Final = 5 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Duty:
    """The headers that a request must bring, and which of them hold its time and its signature."""

    required: tuple[str, ...]
    time: str = ""
    signature: str = ""
    times: TimeForm = "iso"


@dataclass(frozen=True, slots=True)
class TokenRule:
    """The token endpoint. `exclusive`: a new token kills the one before."""

    path: str
    duty: Duty
    check: TokenCheck = "snap"
    style: TokenStyle = "snap"
    lifetime_s: int = 900
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """What a provider enforces on calls.

    `bearer_scheme` and `bare_scheme` judge a request with and without Authorization; an empty one is not on offer.
    `client` is the header that must hold the client id. `external_id` is the header that must not repeat within the
    day, `external_form` its pattern, `external_words` the same for people.
    """

    profile: str
    style: Style
    duty: Duty
    token: TokenRule | None
    bearer_scheme: str = ""
    bare_scheme: str = ""
    canonical: BodyMode = "minify"
    sign_path: PathMode = "path_and_query"
    digest_for: DigestFor = "always"
    separator: str = "|"
    strip_base_path: bool = True
    client: str = ""
    external_id: str = ""
    external_form: str = r"[0-9]{1,36}"
    external_words: str = "1 to 36 digits"

    def read(self, readings: Mapping[str, str]) -> "Rule":
        """The rule under an account's own readings of what the documents leave open."""
        rule = self
        for name, value in readings.items():
            if value not in READINGS.get(name, ()) or (name == "digest_for" and self.digest_for == "always"):
                raise ValueError(f"no such reading of {self.profile}: {name}: {value}")
            rule = _read(rule, name, value)
        return rule


READINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "canonical": get_args(BodyMode),
    "sign_path": get_args(PathMode),
    "digest_for": ("by_method", "by_body"),
    "timestamp": ("free",),
    "external_id": ("free",),  # SNAP wants digits; the libraries of DOKU, NICEPAY and DANA send letters too
    "token_separator": ("|", ":"),
    "strip_base_path": ("true", "false"),
}
_FIELDS: Final = {"token_separator": "separator"}


def _read(rule: Rule, name: str, value: str) -> Rule:
    if name == "external_id":
        return replace(rule, external_form=r"[!-~]{1,128}", external_words="1 to 128 characters without blanks")
    if name == "timestamp":
        return _with_times(rule, "free")
    changes: dict[str, Any] = {_FIELDS.get(name, name): value == "true" if name == "strip_base_path" else value}
    return replace(rule, **changes)


def _with_times(rule: Rule, times: TimeForm) -> Rule:
    token = rule.token and replace(rule.token, duty=replace(rule.token.duty, times=times))
    return replace(rule, duty=replace(rule.duty, times=times), token=token)


_TOKEN_CALL: Final = Duty(("X-TIMESTAMP", "X-CLIENT-KEY", "X-SIGNATURE"), "X-TIMESTAMP", "X-SIGNATURE")
_CALL: Final = ("X-TIMESTAMP", "X-SIGNATURE", "X-PARTNER-ID", "X-EXTERNAL-ID")


def _snap_call(*more: str) -> Duty:
    return Duty((*_CALL, *more), "X-TIMESTAMP", "X-SIGNATURE")


_SNAP: Final = Rule(
    "snap",
    style="snap",
    duty=_snap_call(),
    token=TokenRule("/v1.0/access-token/b2b", _TOKEN_CALL),
    bearer_scheme="snap.symmetric",
    bare_scheme="snap.asymmetric",
    external_id="X-EXTERNAL-ID",
)

# "The path of the API"; times in UTC with Z (text of the token page), an offset in its sample: see reading `timestamp`.
_DOKU: Final = _with_times(
    replace(
        _SNAP,
        profile="doku",
        duty=_snap_call("CHANNEL-ID"),
        token=TokenRule("/authorization/v1/access-token/b2b", _TOKEN_CALL, style="doku"),
        sign_path="path",
        client="X-PARTNER-ID",
    ),
    "iso_z",
)

_DOKU_NONSNAP: Final = Rule(
    "doku-nonsnap",
    style="doku-nonsnap",
    duty=Duty(
        ("Client-Id", "Request-Id", "Request-Timestamp", "Signature"), "Request-Timestamp", "Signature", times="iso_z"
    ),
    token=None,
    bare_scheme="doku.nonsnap",
    canonical="raw",
    digest_for="by_method",
    sign_path="path",
    client="Client-Id",
    external_id="Request-Id",
    external_form=r"[!-~]{1,128}",
    external_words="1 to 128 characters without blanks",
)

# X-PARTNER-ID is the merchant id here, which need not be the client id.
_PAYMENT: Final = replace(
    _SNAP,
    profile="ifortepay-payment",
    duty=_snap_call("CHANNEL-ID"),
    token=TokenRule("/auth/merchants/v1.0/access-token/b2b", _TOKEN_CALL),
)

_DISBURSEMENT: Final = replace(
    _SNAP,
    profile="ifortepay-disbursement",
    duty=_snap_call("CHANNEL-ID", "Authorization"),
    token=TokenRule("/api/v1.0/access-token/b2b", _TOKEN_CALL),
    bare_scheme="",
    client="X-PARTNER-ID",
)

_KLIKOO_HEADERS: Final = ("Open-Api-Timestamp", "Open-Api-Signature")

# Members sorted: the only reading that gives the published hash of the worked payload.
_KLIKOO: Final = Rule(
    "klikoo",
    style="klikoo",
    duty=Duty((*_KLIKOO_HEADERS, "Authorization"), *_KLIKOO_HEADERS, times="iso_jakarta"),
    token=TokenRule(
        "/v1/open-api/access-token",
        Duty(_KLIKOO_HEADERS, *_KLIKOO_HEADERS, times="iso_jakarta"),
        check="klikoo",
        style="klikoo",
    ),
    bearer_scheme="klikoo.transaction",
    canonical="sorted",
    sign_path="path",
)

_BASIC: Final = Duty(("Authorization",))

_NETZME: Final = Rule(
    "netzme",
    style="netzme",
    duty=Duty(("Authorization", "Request-Time", "Signature", "Client-Id"), "Request-Time", "Signature", "epoch_ms"),
    token=TokenRule("/oauth/merchant/accesstoken", _BASIC, "basic", "netzme", lifetime_s=36_000, exclusive=True),
    bearer_scheme="netzme.transaction",
    client="Client-Id",
)

_NETZME_MAIN: Final = replace(
    _NETZME,
    profile="netzme-main",
    token=TokenRule("/oauth/token/accesstoken", _BASIC, "basic", "netzme", lifetime_s=86_400, exclusive=True),
)

_NETZME_VSNAP: Final = replace(
    _SNAP,
    profile="netzme-vsnap",
    duty=_snap_call("Authorization"),
    token=TokenRule("/api/v1/access-token/b2b", _TOKEN_CALL, lifetime_s=54_000, exclusive=True),
    bare_scheme="",
    sign_path="path",
)

RULES: Final[Mapping[str, Rule]] = {
    rule.profile: rule
    for rule in (
        _SNAP,
        _DOKU,
        _DOKU_NONSNAP,
        _PAYMENT,
        _DISBURSEMENT,
        _KLIKOO,
        _NETZME,
        _NETZME_MAIN,
        _NETZME_VSNAP,
    )
}
