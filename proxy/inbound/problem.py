"""Paraf's own error answers (RFC 9457), never confusable with a provider's: pure, and the only place that makes one."""

import json
import math
from http import HTTPStatus
from typing import Final

from proxy.errors import ProxyError
from proxy.model import Headers

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""What is passed on. TRACE would show a caller the credentials that were added (RFC 9110 section 9.3.8)."""

PROXY_ERRORS: Final = {
    "bad_request": "http_request_error",
    "caller_unauthorized": "http_request_denied",
    "not_allowed": "http_request_denied",
    "no_route": "destination_not_found",
    "method_not_allowed": "http_request_denied",
    "request_timeout": "http_request_error",
    "body_too_large": "http_request_error",
    "host_not_allowed": "http_request_denied",
    "headers_too_large": "http_request_error",
    "internal": "proxy_internal_error",
    "upgrade_refused": "http_request_denied",
    "token_unavailable": "destination_unavailable",
    "upstream_unreachable": "destination_unavailable",
    "upstream_tls": "tls_protocol_error",
    "upstream_protocol": "http_protocol_error",
    "overloaded": "connection_limit_reached",
    "circuit_open": "destination_unavailable",
    "store_unavailable": "proxy_internal_error",
    "shutting_down": "proxy_internal_response",
    "upstream_timeout": "http_response_timeout",
    "loop": "proxy_loop_detected",
}
"""Our code → the error type of RFC 9209 section 2.3 that comes nearest."""


CHALLENGES: Final = {
    401: ("WWW-Authenticate", 'X-Paraf-Token realm="paraf"'),
    407: ("Proxy-Authenticate", 'Bearer realm="paraf", Basic realm="paraf", charset="UTF-8"'),
}
"""RFC 9110 section 11.6: what is asked for, by status. The first is a header of its own, so that a caller's
`Authorization` keeps meaning the provider's."""


def problem(error: ProxyError, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers without Content-Length, and the body, which an answer to HEAD leaves out."""
    return error.status, tuple(_headers(error, request_id)), json.dumps(_members(error, request_id)).encode()


def reason(status: int) -> str:
    return HTTPStatus(status).phrase


def refusal_phrase(error: ProxyError) -> str:
    """For a refused CONNECT: many programs show of it the first line alone."""
    return f"{error.code}: {error.detail}"


def _members(error: ProxyError, request_id: str) -> dict[str, str | int]:
    members: dict[str, str | int | None] = {
        "type": f"urn:paraf:error:{error.code}",
        "title": error.kind.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "request_id": request_id,
        "sent": error.sent,
        "provider_status": error.provider_status,
        "provider_code": _digits(error.provider_code),
    }
    return {name: value for name, value in members.items() if value is not None}


def _digits(code: str | None) -> str | None:
    """A provider's code is shown only as digits: anything else is text that it wrote."""
    return code if code is not None and code.isascii() and code.isdigit() else None


def _headers(error: ProxyError, request_id: str) -> list[tuple[str, str]]:
    headers = [
        ("Content-Type", "application/problem+json"),
        ("Cache-Control", "no-store"),
        ("X-Paraf-Error", error.code),
        ("X-Paraf-Request-Id", request_id),
        ("Proxy-Status", f'paraf; error={PROXY_ERRORS[error.code]}; details="{error.code}"'),
    ]
    if error.retry_after is not None:
        headers.append(("Retry-After", str(math.ceil(error.retry_after))))
    if error.code == "caller_unauthorized":
        headers.append(CHALLENGES[error.status])
    if error.code == "method_not_allowed":
        headers.append(("Allow", ", ".join(METHODS)))
    return headers
