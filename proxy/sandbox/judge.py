"""A call judged as its provider would: pure, one check after another, the first refusal stands."""

import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from proxy.model import Headers
from proxy.sandbox import stamps
from proxy.sandbox.accounts import SandboxAccount
from proxy.sandbox.answers import Answer, Echo, Part, Refusal, accepted, refused
from proxy.sandbox.bodies import canonical
from proxy.sandbox.explain import Attempt, Wire, call_mistakes, explain
from proxy.sandbox.rules import RULES, WINDOW_MS, Duty, Rule
from proxy.sandbox.schemes import SCHEMES, Keys, Parts, Scheme, verify

BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as its bytes came. `target` is what follows the mount, raw; `origin` is scheme and host."""

    method: str
    target: str
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    mount: str = ""
    origin: str = "http://localhost"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def url(self) -> str:
        return self.origin + self.mount + self.target


@dataclass(frozen=True, slots=True)
class Issued:
    expires_at_ms: int
    replaced: bool = False
    """A newer token of an exclusive account has killed it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the provider remembers of an account: its tokens, dead ones too, and the external ids used today."""

    tokens: Mapping[str, Issued] = field(default_factory=dict, repr=False)
    external_ids: AbstractSet[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`part` is None for what was accepted. `token` is the one issued or presented."""

    answer: Answer
    part: Part | None = None
    words: str = ""
    token: str = field(default="", repr=False)
    external_id: str = ""

    @property
    def accepted(self) -> bool:
        return self.part is None


def _folded(name: str) -> str:
    """`X_SIGNATURE` and `X.SIGNATURE` are X-SIGNATURE behind many gateways, so they count as the same header here."""
    return re.sub(r"[^a-z0-9]", "-", name.lower())


@dataclass(frozen=True)
class Exam:
    """One request before the checks. `duty` is the call's or the token endpoint's."""

    account: SandboxAccount
    rule: Rule
    duty: Duty
    request: RawRequest
    now_ms: int
    known: Known = Known()

    @cached_property
    def values(self) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for name, value in self.request.headers:
            values.setdefault(_folded(name), []).append(value)
        return values

    def header(self, name: str) -> str:
        return self.values.get(_folded(name), [""])[0]

    @property
    def token(self) -> str:
        scheme, _, token = self.header("Authorization").partition(" ")
        return token if self.by_token and scheme == "Bearer" else ""

    @property
    def by_token(self) -> bool:
        return bool(self.rule.bearer_scheme and self.header("Authorization"))

    @property
    def scheme(self) -> Scheme:
        return SCHEMES[self.rule.bearer_scheme if self.by_token else self.rule.bare_scheme]

    @property
    def external_id(self) -> str:
        return self.header(self.rule.external_id)

    @property
    def signed(self) -> dict[str, str]:
        """The headers that make the call a signed one, as they came."""
        names = (*self.duty.required, *(("Authorization",) if self.by_token else ()), self.rule.external_id)
        return {name: self.header(name) for name in names if self.header(name)}

    @property
    def keys(self) -> Keys:
        return Keys(self.account.client_secret, self.account.public_key)

    @property
    def sent_ms(self) -> int:
        """The request's own time; a check has made sure that it can be read."""
        return stamps.instant_ms(self.header(self.duty.time), self.duty.times) or 0

    def refused(self, refusal: Refusal) -> Verdict:
        answer = refused(self.rule.style, refusal, self.request.target)
        return Verdict(answer, refusal.part, refusal.words, self.token, self.external_id)


Examination = Callable[[Exam], Refusal | None]


def first_refusal(exam: Exam, checks: Iterable[Examination]) -> Refusal | None:
    return next(filter(None, (check(exam) for check in checks)), None)


def repeated_headers(exam: Exam) -> Refusal | None:
    """Two values for one signed header: which one counts is anyone's guess, so neither does."""
    guarded = (*exam.duty.required, "Authorization", exam.rule.external_id)
    double = next((name for name in guarded if len(exam.values.get(_folded(name), [])) > 1), None)
    return Refusal("format", "header", f"{double} stands there more than once", double) if double else None


def missing_headers(exam: Exam) -> Refusal | None:
    missing = next((name for name in exam.duty.required if not exam.header(name).strip()), None)
    return Refusal("mandatory", "header", f"{missing} is missing or empty", missing) if missing else None


def wrong_client(exam: Exam) -> Refusal | None:
    name = exam.rule.client
    if not name or exam.header(name) == exam.account.client_id:
        return None
    return Refusal("client", "header", f"{name} is not this account's client id", name)


def malformed_external_id(exam: Exam) -> Refusal | None:
    name = exam.rule.external_id
    if not name or re.fullmatch(exam.rule.external_form, exam.external_id):
        return None
    return Refusal("format", "external_id", f"{name} must be {exam.rule.external_words}", name)


def wrong_time(exam: Exam) -> Refusal | None:
    name, times = exam.duty.time, exam.duty.times
    sent = stamps.instant_ms(exam.header(name), times)
    if sent is None:
        return Refusal("time", "time", f"{name} must be {stamps.words(times)}", name)
    off_ms = sent - exam.now_ms
    if abs(off_ms) <= WINDOW_MS:
        return None
    side = "ahead of" if off_ms > 0 else "behind"
    seconds = (abs(off_ms) + 999) // 1000
    return Refusal("time", "time", f"{name} is {seconds} s {side} the clock, {WINDOW_MS // 1000} s are allowed", name)


def refused_token(exam: Exam) -> Refusal | None:
    if not exam.by_token:
        return None
    if not exam.token:
        return Refusal("token", "token", "Authorization must read `Bearer ` and the token", "Authorization")
    issued = exam.known.tokens.get(exam.token)
    if issued is None:
        return Refusal("token", "token", "no such token was issued to this account")
    if issued.replaced:
        return Refusal("token", "token", "a newer token has ended this one")
    if issued.expires_at_ms <= exam.now_ms:
        return Refusal("token_expired", "token", "the token has expired")
    return None


def wrong_signature(exam: Exam) -> Refusal | None:
    attempt = Attempt(exam.scheme, signed_parts(exam), exam.keys)
    presented = exam.header(exam.duty.signature)
    if verify(attempt.scheme, attempt.parts, attempt.keys, presented):
        return None
    part, words = explain(attempt, presented, call_mistakes(_wire(exam)))
    return Refusal("signature", part, words, exam.duty.signature)


def repeated_external_id(exam: Exam) -> Refusal | None:
    name = exam.rule.external_id
    if exam.external_id not in exam.known.external_ids:
        return None
    return Refusal("conflict", "external_id", f"{name} was used before today", name)


CHECKS: Final[tuple[Examination, ...]] = (
    repeated_headers,
    missing_headers,
    wrong_client,
    malformed_external_id,
    wrong_time,
    refused_token,
    wrong_signature,
    repeated_external_id,
)


def signed_parts(exam: Exam) -> Parts:
    request, rule = exam.request, exam.rule
    body = canonical(request.body, rule.canonical)
    return Parts(
        method=request.method.upper(),
        path=signed_path(rule, request),
        body=body,
        digest=exam.scheme.digest(body) if _digested(rule, request) else "",
        time=exam.header(exam.duty.time),
        token=exam.token,
        client_id=exam.account.client_id,
        request_id=exam.external_id,
    )


def signed_path(rule: Rule, request: RawRequest) -> str:
    """A full URL is the one that was called, so the base path stays in it."""
    if rule.sign_path == "full_url":
        return request.url
    base = "" if rule.strip_base_path else request.mount
    return base + (request.path if rule.sign_path == "path" else request.target)


def _digested(rule: Rule, request: RawRequest) -> bool:
    if rule.digest_for == "by_method":
        return request.method in BODY_METHODS
    return rule.digest_for == "always" or bool(request.body)


def _wire(exam: Exam) -> Wire:
    request, tokens = exam.request, exam.known.tokens
    earlier = [token for token in tokens if token != exam.token][-8:]
    return Wire(request.body, request.origin, request.mount, request.target, exam.sent_ms, earlier)


@dataclass(frozen=True, slots=True)
class Judge:
    account: SandboxAccount
    rule: Rule

    @classmethod
    def of(cls, account: SandboxAccount) -> "Judge":
        """The judge of the account's profile, under the account's readings."""
        return cls(account, RULES[account.profile].read(account.readings))

    def call(self, request: RawRequest, known: Known, now_ms: int) -> Verdict:
        exam = Exam(self.account, self.rule, self.rule.duty, request, now_ms, known)
        refusal = first_refusal(exam, CHECKS)
        if refusal:
            return exam.refused(refusal)
        string = exam.scheme.string(signed_parts(exam))
        answer = accepted(self.rule.style, Echo(request.method, request.target, exam.signed, request.body, string))
        return Verdict(answer, token=exam.token, external_id=exam.external_id)
