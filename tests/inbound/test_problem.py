import json

import pytest

from proxy.errors import KINDS, ProxyError
from proxy.inbound.problem import PROXY_ERRORS, problem


@pytest.mark.parametrize("code", KINDS)
def test_every_code_has_its_answer(code):
    status, headers, body = problem(ProxyError(code, "words", sent="maybe"), "id-1")
    members = json.loads(body)
    assert status == KINDS[code].status
    assert members == {
        "type": f"urn:paraf:error:{code}",
        "title": KINDS[code].title,
        "status": status,
        "code": code,
        "detail": "words",
        "request_id": "id-1",
        "sent": "maybe",
    }
    told = dict(headers)
    assert told["Content-Type"] == "application/problem+json"
    assert told["Cache-Control"] == "no-store"
    assert (told["X-Paraf-Error"], told["X-Paraf-Request-Id"]) == (code, "id-1")
    assert told["Proxy-Status"] == f'paraf; error={PROXY_ERRORS[code]}; details="{code}"'


def test_every_proxy_error_is_one_of_rfc_9209():
    assert set(PROXY_ERRORS) == set(KINDS)
    assert set(PROXY_ERRORS.values()) <= {
        "destination_not_found",
        "destination_unavailable",
        "connection_limit_reached",
        "tls_protocol_error",
        "http_request_error",
        "http_request_denied",
        "http_protocol_error",
        "http_response_timeout",
        "proxy_internal_response",
        "proxy_internal_error",
        "proxy_loop_detected",
    }


def test_what_the_provider_said_is_told_in_digits_only():
    def members(code):
        error = ProxyError("token_unavailable", "words", provider_status=401, provider_code=code)
        return json.loads(problem(error, "id")[2])

    assert (members("4017300")["provider_status"], members("4017300")["provider_code"]) == (401, "4017300")
    for text in ("secret", "401\n", "", "٤٠١"):
        assert "provider_code" not in members(text)


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0"), (0.2, "1"), (5, "5"), (5.01, "6")])
def test_retry_after_is_in_whole_seconds_rounded_up(seconds, text):
    _, headers, _ = problem(ProxyError("overloaded", "words", retry_after=seconds), "id")
    assert dict(headers)["Retry-After"] == text


def test_method_not_allowed_names_the_methods():
    _, headers, _ = problem(ProxyError("method_not_allowed", "words"), "id")
    assert dict(headers)["Allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
