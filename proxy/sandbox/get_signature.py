"""Klikoo's Get Signature: the provider signs a request without body, so that a signer can be compared with it."""

from typing import Final

from proxy.sandbox.answers import Answer, Refusal
from proxy.sandbox.desk import members_of
from proxy.sandbox.judge import Exam, Judge, RawRequest, Verdict, first_refusal, missing_headers, repeated_headers
from proxy.sandbox.rules import Duty
from proxy.sandbox.schemes import SCHEMES, Parts, seal

GET_SIGNATURE: Final = "/v1/open-api/signature"
MEMBERS: Final = ("client_id", "method", "path", "token", "timestamp")

_DUTY: Final = Duty(("Open-Api-Timestamp",), time="Open-Api-Timestamp")


def get_signature(judge: Judge, request: RawRequest, now_ms: int) -> Verdict:
    """No time window: it serves comparisons with signatures of any moment."""
    exam = Exam(judge.account, judge.rule, _DUTY, request, now_ms)
    refusal = first_refusal(exam, (repeated_headers, missing_headers, _malformed, _foreign, _two_times))
    if refusal:
        return exam.refused(refusal)
    content = {
        "response_code": "200012000",
        "response_message": "Sukses",
        "data": {"signature": seal(SCHEMES["klikoo.transaction"], _parts(exam), judge.account.client_secret)},
    }
    return Verdict(Answer(200, content))


def _parts(exam: Exam) -> Parts:
    _, method, path, token, time = map(members_of(exam.request.body).__getitem__, MEMBERS)
    return Parts(method, path, b"", SCHEMES["klikoo.transaction"].digest(b""), time, token)


def _malformed(exam: Exam) -> Refusal | None:
    given = members_of(exam.request.body)
    if all(isinstance(given.get(name), str) and given[name].isascii() for name in MEMBERS):
        return None
    return Refusal("mandatory", "body", f"the body must be a JSON object of ASCII texts: {', '.join(MEMBERS)}", "body")


def _foreign(exam: Exam) -> Refusal | None:
    if members_of(exam.request.body)["client_id"] == exam.account.client_id:
        return None
    return Refusal("credentials", "credentials", "client_id is not this account's", "client_id")


def _two_times(exam: Exam) -> Refusal | None:
    if members_of(exam.request.body)["timestamp"] == exam.header("Open-Api-Timestamp"):
        return None
    return Refusal("time", "time", "Open-Api-Timestamp and the member timestamp differ", "Open-Api-Timestamp")
