"""The token call: what is sent, and what is made of every answer that a provider, or something else, gives."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_profiles import BANK, NOW, exchange, profile
from vectors_read import exchange as bundled

from proxy.errors import TokenFault
from proxy.signing.exchange import MAX_ANSWER, retry_after

TOKEN = (
    BANK
    + """\
token:
  call: POST /token?grant=a&x=%2F
  headers: {Content-Type: application/json, X-KEY: "{client_id}"}
  json: {who: "{client_id}", deep: [{secret: "{client_secret}"}], n: 7, yes: true, none: null, text: "00012345"}
  answer:
    token: data.token
    type: data.type
    lifetime: data.life
    default_lifetime: 900s
    success: {code: "200*"}
    refused: {status: "NO*"}
codes: {field: code}
"""
)
BASE = "https://bank.example/base"


@pytest.fixture
def made(tmp_path):
    return exchange(profile(tmp_path, TOKEN), BASE, {"client_id": "me", "client_secret": "s"})


def answer(**data):
    return json.dumps({"data": {"token": "T0ken", **data}}).encode()


def read(made, body, status=200, headers=()):
    return made.read(status, headers, body, now_ms=NOW, started=100.0)


def fault(made, body, status=200, headers=()):
    with pytest.raises(TokenFault) as caught:
        read(made, body, status, headers)
    assert caught.value.provider_status == status
    return caught.value


def life(made, told):
    token = read(made, b'{"data": {"token": "T0ken", "life": %s}}' % told.encode())
    assert token.deadline == 100.0 + (token.expires_at_ms - NOW) / 1000
    return (token.expires_at_ms - NOW) / 1000


# What is sent.


def test_the_call(made):
    request = made.draft(NOW).seal([])
    assert (request.method, request.url) == ("POST", BASE + "/token?grant=a&x=%2F") == ("POST", made.url)
    assert request.headers == (("Content-Type", "application/json"), ("X-KEY", "me"))
    assert request.body == (b'{"who":"me","deep":[{"secret":"s"}],"n":7,"yes":true,"none":null,"text":"00012345"}')


@pytest.mark.parametrize(
    "secret", ['a"b', "a\\", "a\nb", "a\tb", "\x00", "é", "{client_id}", "😀", "\\u0041", '","grant":"x', "\u2028"]
)
def test_a_secret_is_a_value_in_the_body_whatever_it_holds(tmp_path, secret):
    credentials = {"client_id": "me", "client_secret": secret}
    body = exchange(profile(tmp_path, TOKEN), BASE, credentials).draft(NOW).request.body
    assert json.loads(body)["deep"] == [{"secret": secret}]
    form = (
        TOKEN[: TOKEN.index("  json:")]
        + '  form: {grant: a b&c, s: "{client_secret}"}\n'
        + TOKEN[TOKEN.index("  answer:") :]
    )
    body = exchange(profile(tmp_path, form), BASE, credentials).draft(NOW).request.body
    assert parse_qsl(body.decode(), strict_parsing=True) == [("grant", "a b&c"), ("s", secret)]


def test_a_call_without_body(tmp_path):
    start, _, rest = TOKEN.partition("  json:")
    own = profile(tmp_path, start + rest[rest.index("\n") + 1 :])
    assert exchange(own, BASE, {"client_id": "me", "client_secret": "s"}).draft(NOW).request.body == b""


def test_a_time_of_its_own(tmp_path):
    text = TOKEN.replace('X-KEY: "{client_id}"', 'X-TIME: "{timestamp}", X-DAY: "{now|strftime:%Y%m%d}"')
    text = text.replace("  answer:", "  timestamp: iso_offset_ms\n  answer:") + 'zone: "-10:00"\n'
    draft = exchange(profile(tmp_path, text), BASE, {"client_id": "me", "client_secret": "s"}).draft(NOW)
    assert draft.request.headers[1:] == (("X-TIME", "2026-01-14T17:30:45.678-10:00"), ("X-DAY", "20260114"))


def test_secrets_are_not_shown(made):
    draft = bundled("netzme", client_id="me", secret="hunter2").draft(NOW)
    assert "hunter2" not in f"{draft!r} {draft.seal([])!r} {made!r}"


# The token.


@pytest.mark.parametrize("token", ["a", "a" * 4_096, "aZ09-._~+/", "a/b+c==", "eyJ.eyJ.sig", "A="])
def test_a_token(made, token):
    got = read(made, answer(token=token))
    assert got.value.reveal() == token
    assert token not in repr(got) or token == "a"


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        " ",
        "a b",
        "a\r\nX: y",
        "a\n",
        "\na",
        "a\x00",
        "a\x7f",
        "a\t",
        "é",
        "a,b",
        'a"b',
        "a;b",
        "=a",
        "a=b",
        "Bearer a",
        "a" * 4_097,
        "a" * (1 << 20),
        7,
        1.5,
        True,
        ["a"],
        {"token": "a"},
        "\u212a",
        "\uff11",
    ],
)
def test_what_is_no_token(made, token):
    assert fault(made, answer(token=token)).kind == "malformed"


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", None])
def test_a_known_type(made, kind):
    assert read(made, answer(type=kind)).value.reveal() == "T0ken"


@pytest.mark.parametrize("kind", ["MAC", "", "Bearer ", "Basic", "BearerToken", 1, True, ["Bearer"], {}])
def test_an_unknown_type(made, kind):
    assert fault(made, answer(type=kind)).kind == "malformed"


# Its life.


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("1", 1),
        ("900", 900),
        ("900.0", 900),
        ('"900"', 900),
        ('"900 "', 900),
        ('" 900"', 900),
        ('"900.9"', 900),
        ("900.9", 900),
        ("9e2", 900),
        ("1e3", 1_000),
        ("604799", 604_799),
        # Longer than any token lives: the upper bound.
        ("604801", 604_800),
        ("1e14", 604_800),
        ("99999999999999", 604_800),
        ('"99999999999999"', 604_800),
        # Unreadable: as if it were not there.
        ("null", 900),
        ('""', 900),
        ('"soon"', 900),
        ("true", 900),
        ("false", 900),
        ("[]", 900),
        ('{"s": 1}', 900),
        ("NaN", 900),
        ("Infinity", 900),
        ("-Infinity", 900),
        ("1e999", 900),
        ("-1e999", 900),
        ('"1e3"', 900),
        ('"NaN"', 900),
        ('"0x10"', 900),
        ('"\uff19\uff10\uff10"', 900),
        ("9" * 400, 900),
        ("-" + "9" * 400, 900),
        ('"' + "9" * 400 + '"', 900),
        ("1e15", 900),
    ],
)
def test_a_life(made, told, seconds):
    assert life(made, told) == seconds


def test_no_life(made):
    assert read(made, answer()).expires_at_ms == NOW + 900_000


@pytest.mark.parametrize("told", ["0", "-1", '"0"', '"-900"', "0.0", "-0.5", "0.9", "-1e14"])
def test_a_life_that_is_over(made, told):
    assert fault(made, b'{"data": {"token": "T0ken", "life": %s}}' % told.encode()).kind == "token_expired_on_arrival"


@pytest.mark.parametrize(
    ("told", "seconds"), [(1, 0.001), (900_000, 900), ("900000", 900), (900_000.5, 900), (10**15 - NOW - 1, 604_800)]
)
def test_an_absolute_end(told, seconds):
    absolute = {"access_token": "T0ken", "token_type": "bearer"}
    netzme = bundled("netzme", client_id="me", secret="s")
    told = str(NOW + int(told)) if isinstance(told, str) else NOW + told
    got = read(netzme, json.dumps({**absolute, "expiry_token": told}).encode())
    assert got.expires_at_ms - NOW == seconds * 1000


@pytest.mark.parametrize("told", ["null", '"soon"', "1e999", "9" * 400, "true"])
def test_an_absolute_end_that_cannot_be_read(told):
    got = read(bundled("netzme", client_id="me"), b'{"access_token": "T", "expiry_token": %s}' % told.encode())
    assert got.expires_at_ms == NOW + 36_000_000


@pytest.mark.parametrize("told", [0, -1, NOW, NOW - 1, 1_700_000_000])
def test_an_absolute_end_in_the_past(told):
    body = json.dumps({"access_token": "T", "expiry_token": told}).encode()
    assert fault(bundled("netzme", client_id="me"), body).kind == "token_expired_on_arrival"


def test_a_short_default_and_bound(tmp_path):
    text = TOKEN.replace("900s", "500ms").replace("  answer:", "  max_life: 1500ms\n  answer:")
    made = exchange(profile(tmp_path, text), BASE, {"client_id": "me", "client_secret": "s"})
    assert life(made, "null") == 0.5
    assert life(made, "2") == 1.5


# Answers.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in to the guest network</html>",
        b"null",
        b"true",
        b"7",
        b'"T0ken"',
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": []}',
        b'{"data": "T0ken"}',
        b'{"data": {"Token": "T0ken"}}',
        b'{"data.token": "T0ken"}',
        b'{"data": {"token": "T0ken"}',
        b"\xff\xfe",
        b'{"data": {"token": "\xff"}}',
        b"[" * MAX_ANSWER,
        b'{"a":' * 10_000,
        b"\x1f\x8b\x08",
        b"9" * 5_000,
        b'{"data": {"token": "a\\u0000"}}',
        b'{"data": {"token": "\\ud800"}}',
    ],
)
def test_an_answer_without_a_token(made, body):
    assert fault(made, body).kind == "malformed"


def test_of_two_members_the_last_counts(made):
    """As every common parser of JSON has it."""
    assert read(made, b'{"data": {"token": "a"}, "data": {"token": "b", "token": "c"}}').value.reveal() == "c"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (201, None),
        (204, None),
        (299, None),
        (199, "malformed"),
        (300, "malformed"),
        (301, "malformed"),
        (302, "malformed"),
        (304, "malformed"),
        (307, "malformed"),
        (400, "rejected"),
        (401, "rejected"),
        (403, "rejected"),
        (404, "rejected"),
        (422, "rejected"),
        (408, "upstream"),
        (429, "upstream"),
        (500, "upstream"),
        (502, "upstream"),
        (503, "upstream"),
        (599, "upstream"),
    ],
)
def test_statuses(made, status, kind):
    """A good body counts with a good status only."""
    if kind is None:
        assert read(made, answer(), status).value.reveal() == "T0ken"
    else:
        assert fault(made, answer(), status).kind == kind


@pytest.mark.parametrize(
    ("beside", "kind"),
    [
        ({}, None),
        ({"code": "2007300"}, None),
        ({"code": 2007300}, None),
        ({"code": None}, None),
        ({"code": "4017300"}, "rejected"),
        ({"code": 4017300}, "rejected"),
        ({"code": ""}, "rejected"),
        ({"code": ["200"]}, "rejected"),
        ({"code": "x200"}, "rejected"),
        ({"status": "OK"}, None),
        ({"status": "NO"}, "rejected"),
        ({"status": "NOT SO"}, "rejected"),
        ({"status": "no"}, None),
    ],
)
def test_what_a_200_says_beside_its_token(made, beside, kind):
    body = json.dumps({"data": {"token": "T0ken"}, **beside}).encode()
    if kind is None:
        read(made, body)
    else:
        assert fault(made, body).kind == kind


@pytest.mark.parametrize(
    ("code", "repeated"),
    [
        ("4017300", "4017300"),
        (4017300, "4017300"),
        ("401-7300", None),
        ("<b>", None),
        (True, None),
        ("1" * 13, None),
        (None, None),
        ("\uff14\uff10\uff11", None),
    ],
)
def test_a_code_is_repeated_in_digits_only(made, code, repeated):
    body = json.dumps({"code": code, "message": "hunter2"}).encode()
    caught = fault(made, body, 401)
    assert caught.provider_code == repeated
    assert "hunter2" not in f"{caught!r} {caught} {vars(caught)}"


@pytest.mark.parametrize("status", [429, 503, 401])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        ("999999999", 999_999_999),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("7s", None),
        ("1e3", None),
        ("\uff17", None),
        ("9" * 400, None),
        ("Thu, 15 Jan 2026 03:31:45 GMT", 60),
        ("Thursday, 15-Jan-26 03:31:45 GMT", 60),
        ("Thu Jan 15 03:31:45 2026", 60),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Thu, 15 Jan 99999 03:31:45 GMT", None),
        ("Thu, 99 Jan 2026 03:31:45 GMT", None),
    ],
)
def test_retry_after(made, status, value, seconds):
    caught = fault(made, b"{}", status, (("Content-Type", "x"), ("retry-After", value)))
    assert caught.retry_after == (None if seconds is None else pytest.approx(seconds, abs=1))


@given(
    st.text(max_size=30)
    | st.integers(-100, 10**6).map(lambda at: format_datetime(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=at)))
)
def test_any_retry_after_is_a_number_or_nothing(value):
    seconds = retry_after((("Retry-After", value),), NOW)
    assert seconds is None or 0 <= seconds < 1e10


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["T0ken", "Bearer", "200", 900, 10**400]),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "token", "type", "life", "code", "status"]), below)
    ),
    max_leaves=8,
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30), st.integers(100, 599))
def test_any_answer_is_a_token_or_a_fault(body, status):
    made = ANY
    try:
        token = read(made, body, status)
    except TokenFault:
        return
    assert NOW < token.expires_at_ms <= NOW + 604_800_000


ANY = bundled("klikoo", client_id="me", secret="s")
