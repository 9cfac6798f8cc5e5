"""The token desk of one account: checks token calls, issues tokens, remembers them and the external ids of the day."""

import base64
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from proxy.sandbox.accounts import SandboxAccount
from proxy.sandbox.answers import Answer, Refusal
from proxy.sandbox.explain import Attempt, Wire, explain, token_mistakes
from proxy.sandbox.judge import (
    Exam,
    Examination,
    Issued,
    Judge,
    Known,
    RawRequest,
    Verdict,
    first_refusal,
    missing_headers,
    repeated_headers,
    wrong_time,
)
from proxy.sandbox.rules import TokenCheck, TokenRule, TokenStyle
from proxy.sandbox.schemes import SCHEMES, Parts, verify
from proxy.sandbox.stamps import jakarta_day

FORGET_MS: Final = 3_600_000
"""How long a dead token is remembered, so that its refusal can say why."""


class Desk:
    def __init__(self, account: SandboxAccount) -> None:
        self.judge = Judge.of(account)
        self._issued: dict[str, Issued] = {}
        self._day = 0
        self._external_ids: set[str] = set()

    def call(self, request: RawRequest, now_ms: int) -> Verdict:
        if jakarta_day(now_ms) != self._day:
            self._day, self._external_ids = jakarta_day(now_ms), set()
        verdict = self.judge.call(request, Known(self._issued, self._external_ids), now_ms)
        if verdict.accepted and verdict.external_id:
            self._external_ids.add(verdict.external_id)
        return verdict

    def token(self, rule: TokenRule, request: RawRequest, now_ms: int, lifetime_s: int | None = None) -> Verdict:
        """`lifetime_s` overrides the rule's."""
        exam = Exam(self.judge.account, self.judge.rule, rule.duty, request, now_ms)
        refusal = first_refusal(exam, TOKEN_CHECKS[rule.check])
        if refusal:
            return exam.refused(refusal)
        lifetime = rule.lifetime_s if lifetime_s is None else lifetime_s
        token = secrets.token_hex(32)
        self._issue(token, now_ms, now_ms + lifetime * 1000, exclusive=rule.exclusive)
        return Verdict(ISSUED[rule.style](exam, token, lifetime), token=token)

    def expire(self, now_ms: int) -> None:
        """End every token now."""
        for token, issued in self._issued.items():
            self._issued[token] = replace(issued, expires_at_ms=min(issued.expires_at_ms, now_ms))

    def _issue(self, token: str, now_ms: int, expires_at_ms: int, *, exclusive: bool) -> None:
        kept = {t: issued for t, issued in self._issued.items() if issued.expires_at_ms > now_ms - FORGET_MS}
        if exclusive:
            kept = {t: replace(issued, replaced=True) for t, issued in kept.items()}
        self._issued = {**kept, token: Issued(expires_at_ms)}


def members_of(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _unknown_client_key(exam: Exam) -> Refusal | None:
    if exam.header("X-CLIENT-KEY") == exam.account.client_id:
        return None
    return Refusal("client", "credentials", "X-CLIENT-KEY is not this account's client id", "X-CLIENT-KEY")


def _wrong_signature(exam: Exam) -> Refusal | None:
    """The signature covers client id and time; the body is not signed."""
    time = exam.header(exam.duty.time)
    parts = Parts(
        method=exam.request.method,
        path=exam.request.path,
        body=b"",
        digest="",
        time=time,
        client_id=exam.account.client_id,
        separator=exam.rule.separator,
    )
    attempt = Attempt(SCHEMES["snap.token"], parts, exam.keys)
    presented = exam.header(exam.duty.signature)
    if verify(attempt.scheme, parts, exam.keys, presented):
        return None
    part, words = explain(attempt, presented, token_mistakes(Wire(at_ms=exam.sent_ms)))
    return Refusal("signature", part, words, exam.duty.signature)


def _wrong_grant(member: str) -> Examination:
    def check(exam: Exam) -> Refusal | None:
        if members_of(exam.request.body).get(member) == "client_credentials":
            return None
        return Refusal("grant", "body", f"the body must be a JSON object with {member} client_credentials", member)

    return check


def _wrong_members(exam: Exam) -> Refusal | None:
    """Klikoo's credentials travel in the body."""
    stated = members_of(exam.request.body).get("additional_info")
    given = stated if isinstance(stated, dict) else {}
    account = exam.account
    if not _same(given.get("client_id"), account.client_id):
        return Refusal("credentials", "credentials", "additional_info.client_id is not this account's", "client_id")
    if not _same(given.get("client_secret"), account.client_secret.reveal()):
        return Refusal("credentials", "credentials", "additional_info.client_secret is wrong", "client_secret")
    return None


def _wrong_basic(exam: Exam) -> Refusal | None:
    account = exam.account
    pair = f"{account.client_id}:{account.client_secret.reveal()}".encode()
    if _same(exam.header("Authorization"), "Basic " + base64.b64encode(pair).decode()):
        return None
    words = "Authorization must be `Basic ` and base64 of client id, colon, secret"
    return Refusal("credentials", "credentials", words, "Authorization")


def _same(given: Any, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


TOKEN_CHECKS: Final[Mapping[TokenCheck, tuple[Examination, ...]]] = {
    "snap": (
        repeated_headers,
        missing_headers,
        _unknown_client_key,
        wrong_time,
        _wrong_signature,
        _wrong_grant("grantType"),
    ),
    "klikoo": (
        repeated_headers,
        missing_headers,
        wrong_time,
        _wrong_grant("grant_type"),
        _wrong_members,
        _wrong_signature,
    ),
    "basic": (repeated_headers, missing_headers, _wrong_basic, _wrong_grant("grant_type")),
}


def _snap_issued(_: Exam, token: str, lifetime_s: int) -> Answer:
    return Answer(200, _snap_members(token, str(lifetime_s), {}))


def _doku_issued(exam: Exam, token: str, lifetime_s: int) -> Answer:
    """A number here, a string at the others; two request headers come back."""
    echoed = tuple((name, exam.header(name)) for name in ("X-CLIENT-KEY", "X-TIMESTAMP"))
    return Answer(200, _snap_members(token, lifetime_s, ""), echoed)


def _snap_members(token: str, lifetime_s: str | int, more: Any) -> dict[str, Any]:
    return {
        "responseCode": "2007300",
        "responseMessage": "Successful",
        "accessToken": token,
        "tokenType": "Bearer",
        "expiresIn": lifetime_s,
        "additionalInfo": more,
    }


def _klikoo_issued(_: Exam, token: str, lifetime_s: int) -> Answer:
    members = {"access_token": token, "token_type": "Bearer", "expires_in": lifetime_s}
    return Answer(200, {"response_code": "200012000", "response_message": "Sukses", "data": members})


def _netzme_issued(exam: Exam, token: str, lifetime_s: int) -> Answer:
    content = {
        "status": "SUCCEES",  # as the provider's page spells it
        "username": exam.account.client_id,
        "access_token": token,
        "token_type": "bearer",
        "expiry_token": exam.now_ms + lifetime_s * 1000,
    }
    return Answer(200, content)


ISSUED: Final[Mapping[TokenStyle, Callable[[Exam, str, int], Answer]]] = {
    "snap": _snap_issued,
    "doku": _doku_issued,
    "klikoo": _klikoo_issued,
    "netzme": _netzme_issued,
}
