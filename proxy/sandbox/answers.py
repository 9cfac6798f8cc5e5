"""Answers in each provider's own shape: refusals with their documented codes, and accepted calls."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from http.client import responses
from typing import Any, Final, Literal

from proxy.model import Headers
from proxy.sandbox.rules import Style

Part = Literal[
    "time", "path", "body", "token", "key", "method", "encoding", "algorithm", "header", "external_id", "credentials"
]
"""What of a request differs from what the provider wants."""

Fault = Literal[
    "mandatory", "format", "time", "signature", "client", "token", "token_expired", "credentials", "grant", "conflict"
]
"""Why the provider refuses: each has a code in every style."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`words` are for people: ASCII, without secrets, tokens or signatures. `about` is a header or member name."""

    fault: Fault
    part: Part
    words: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content: dict[str, Any]
    headers: Headers = ()

    @property
    def body(self) -> bytes:
        return json.dumps(self.content, ensure_ascii=False).encode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Echo:
    """What an accepted call shows its sender, to learn from."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    string_to_sign: bytes

    def members(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "bodySha256": hashlib.sha256(self.body).hexdigest(),
            "stringToSign": self.string_to_sign.decode("utf-8", "backslashreplace"),
        }


def refused(style: Style, refusal: Refusal, path: str) -> Answer:
    """The refusal as the provider words it, the explanation beside it."""
    answer = _REFUSED[style](refusal, path)
    return Answer(answer.status, answer.content, (("X-Sandbox-Explains", f"{refusal.part}: {refusal.words}"),))


def accepted(style: Style, echo: Echo) -> Answer:
    return Answer(200, _ACCEPTED[style](echo))


def failed(style: Style, status: int, path: str) -> Answer:
    """The provider's own trouble (500, 429, ...), as far as its style has a shape for it."""
    phrase = responses.get(status, "Error")
    contents: dict[Style, dict[str, Any]] = {
        "snap": {"responseCode": f"{status}{snap_service(path)}00", "responseMessage": phrase},
        "klikoo": {"response_code": f"{status}{klikoo_service(path)}0000", "response_message": phrase, "data": None},
        "netzme": {"status": "ERROR", "message": phrase},
        "doku-nonsnap": {"error": {"code": "internal_error", "message": phrase}},
    }
    return Answer(status, contents[style])


# ASPI's service codes, by what a path contains; the first that fits.
_SNAP_SERVICES: Final = (
    ("access-token/b2b", "73"),
    ("transfer-va/create-va", "27"),
    ("transfer-va/update-va", "28"),
    ("transfer-va/delete-va", "31"),
    ("transfer-va/inquiry", "24"),
    ("transfer-va/payment", "25"),
    ("transfer-va/status", "26"),
    ("transfer-interbank", "18"),
    ("transfer-intrabank", "17"),
    ("account-inquiry-external", "16"),
    ("account-inquiry-internal", "15"),
    ("balance-inquiry", "11"),
    ("transaction-history-list", "12"),
    ("transaction-history-detail", "13"),
    ("bank-statement", "14"),
    ("transfer/status", "36"),
    ("qr-mpm-generate", "47"),
    ("payment-host-to-host", "54"),
)
_KLIKOO_SERVICES: Final = (("/access-token", "01"), ("/signature", "01"))


def snap_service(path: str) -> str:
    return next((code for word, code in _SNAP_SERVICES if word in path), "00")


def klikoo_service(path: str) -> str:
    return next((code for word, code in _KLIKOO_SERVICES if path.partition("?")[0].endswith(word)), "00")


_SNAP_FAULTS: Final[dict[Fault, tuple[int, str, str]]] = {
    "mandatory": (400, "02", "Invalid Mandatory Field {about}"),
    "format": (400, "01", "Invalid Field Format {about}"),
    "time": (400, "01", "Invalid Field Format {about}"),
    "signature": (401, "00", "Unauthorized. Invalid Signature"),
    "client": (401, "00", "Unauthorized. Unknown Client"),
    "credentials": (401, "00", "Unauthorized. Unknown Client"),
    "token": (401, "01", "Invalid Token (B2B)"),
    "token_expired": (401, "01", "Invalid Token (B2B)"),
    "grant": (400, "01", "Invalid Field Format {about}"),
    "conflict": (409, "00", "Conflict"),
}

_KLIKOO_FAULTS: Final[dict[Fault, tuple[int, str, str]]] = {
    "time": (400, "6505", "Waktu tidak sesuai"),
    "signature": (400, "6508", "Signature tidak sesuai"),
    "client": (401, "6570", "Kredensial tidak sesuai"),
    "credentials": (401, "6570", "Kredensial tidak sesuai"),
    "token": (401, "6500", "Token tidak sesuai"),
    "token_expired": (401, "6535", "Token kedaluwarsa"),
    "grant": (400, "6569", "Grant type tidak sesuai"),
    "conflict": (409, "6563", "Referensi sudah digunakan"),
}

# Klikoo's table has no codes for missing or repeated headers: here they count as wrong ones.
_KLIKOO_HEADERS: Final[dict[str, Fault]] = {"Open-Api-Timestamp": "time", "Authorization": "token"}

# Netzme documents no table; a public client reads `status` UNAUTHORIZED as a refused token.
_NETZME_FAULTS: Final[dict[Fault, tuple[int, str]]] = {
    "mandatory": (400, "BAD_REQUEST"),
    "format": (400, "BAD_REQUEST"),
    "grant": (400, "BAD_REQUEST"),
}

_DOKU_FAULTS: Final[dict[Fault, tuple[int, str, str]]] = {
    "mandatory": (400, "invalid_parameter", "{about} is mandatory"),
    "format": (400, "invalid_parameter", "{about} has an invalid format"),
    "time": (400, "invalid_parameter", "{about} has an invalid format"),
    "client": (400, "invalid_client_id", "Invalid Client-Id"),
    "conflict": (409, "duplicate_request_id", "{about} was used before"),
}
_DOKU_SIGNATURE: Final = (401, "invalid_signature", "Invalid Header Signature")


def _explained(text: str, refusal: Refusal) -> str:
    return f"{text.format(about=refusal.about)} ({refusal.part}: {refusal.words})"


def _snap_refused(refusal: Refusal, path: str) -> Answer:
    status, case, text = _SNAP_FAULTS[refusal.fault]
    code = f"{status}{snap_service(path)}{case}"
    return Answer(status, {"responseCode": code, "responseMessage": _explained(text, refusal)})


def _klikoo_refused(refusal: Refusal, path: str) -> Answer:
    by_header = _KLIKOO_HEADERS.get(refusal.about, "signature")
    status, case, text = _KLIKOO_FAULTS.get(refusal.fault, _KLIKOO_FAULTS[by_header])
    code = f"{status}{klikoo_service(path)}{case}"
    return Answer(status, {"response_code": code, "response_message": _explained(text, refusal), "data": None})


def _netzme_refused(refusal: Refusal, _: str) -> Answer:
    status, word = _NETZME_FAULTS.get(refusal.fault, (401, "UNAUTHORIZED"))
    return Answer(status, {"status": word, "message": f"{refusal.part}: {refusal.words}"})


def _doku_refused(refusal: Refusal, _: str) -> Answer:
    status, code, text = _DOKU_FAULTS.get(refusal.fault, _DOKU_SIGNATURE)
    return Answer(status, {"error": {"code": code, "message": _explained(text, refusal)}})


_REFUSED: Final[dict[Style, Callable[[Refusal, str], Answer]]] = {
    "snap": _snap_refused,
    "klikoo": _klikoo_refused,
    "netzme": _netzme_refused,
    "doku-nonsnap": _doku_refused,
}


def _snap_accepted(echo: Echo) -> dict[str, Any]:
    code = f"200{snap_service(echo.path)}00"
    return {"responseCode": code, "responseMessage": "Successful", **echo.members()}


def _klikoo_accepted(echo: Echo) -> dict[str, Any]:
    code = f"200{klikoo_service(echo.path)}2000"
    return {"response_code": code, "response_message": "Sukses", "data": echo.members()}


_ACCEPTED: Final[dict[Style, Callable[[Echo], dict[str, Any]]]] = {
    "snap": _snap_accepted,
    "klikoo": _klikoo_accepted,
    "netzme": lambda echo: {"status": "SUCCESS", **echo.members()},
    "doku-nonsnap": lambda echo: {"message": ["SUCCESS"], **echo.members()},
}
