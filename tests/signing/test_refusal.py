"""Answers of providers: which of them refuse a token, which code they carry, and what hostile ones come to."""

import gzip
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_profiles import BANK, profile

from proxy.catalogue import Catalogue
from proxy.signing.profile import CODE_CLASSES
from proxy.signing.refusal import HOLD, Refusals, digits, field_of, inflated, parsed

CATALOGUE = Catalogue()
CLOSED = {*CODE_CLASSES, "ok", "other"}
SNAP = ("snap", "doku", "netzme-vsnap", "ifortepay-payment", "ifortepay-disbursement")


def judge(name, status, body):
    return Refusals(CATALOGUE.profile(name)).judge(status, body)


@pytest.mark.parametrize("name", SNAP)
@pytest.mark.parametrize(
    ("status", "code", "refused", "code_class"),
    [
        (401, "4012501", True, "token"),
        (401, "4017303", True, "token"),
        (401, 4012501, True, "token"),
        (401, "4012500", False, "signature"),
        (401, "4012502", False, "token"),
        (401, "4012504", False, "token"),
        (401, "401250", False, "other"),
        (401, "40125010", False, "other"),
        (401, "4032501", False, "permission"),
        (401, None, False, "other"),
        # Only together with its status is a code a refusal: else something may have been done.
        (200, "4012501", False, "token"),
        (400, "4012501", False, "token"),
        (500, "4012501", False, "token"),
        (403, "4032514", False, "permission"),
        (409, "4092500", False, "duplicate"),
        (400, "4002501", False, "other"),
        (500, "5002500", False, "provider_fault"),
        (504, "5042500", False, "provider_fault"),
        (502, None, False, "provider_fault"),
        (200, "2002500", False, "ok"),
        (200, None, False, "ok"),
        (302, None, False, "ok"),
    ],
)
def test_snap(name, status, code, refused, code_class):
    verdict = judge(name, status, None if code is None else {"responseCode": code, "responseMessage": "x"})
    assert (verdict.refused, verdict.code_class) == (refused, code_class)
    assert verdict.code == (None if code is None else str(code))


@pytest.mark.parametrize(
    ("status", "code", "refused", "code_class"),
    [
        (401, "401126500", True, "token"),
        (401, "401126535", True, "token"),
        (401, "401126570", False, "permission"),
        (400, "401126500", False, "token"),
        (400, "400126508", False, "signature"),
        (400, "400126505", False, "time"),
        (400, "400126569", False, "other"),
        (403, "403126571", False, "permission"),
        (409, "409126563", False, "duplicate"),
        (503, "503129991", False, "provider_fault"),
        (401, "401010001", False, "other"),
        (401, "4011201", False, "other"),
        (200, "200126500", False, "ok"),
    ],
)
def test_klikoo(status, code, refused, code_class):
    verdict = judge("klikoo", status, {"response_code": code})
    assert (verdict.refused, verdict.code_class, verdict.code) == (refused, code_class, code)


@pytest.mark.parametrize("name", ["netzme", "netzme-main"])
@pytest.mark.parametrize(
    ("status", "body", "refused", "code_class"),
    [
        (401, None, True, "token"),
        (401, {"status": "SUCCEES"}, True, "token"),
        (200, {"status": "UNAUTHORIZED"}, True, "token"),
        (200, {"status": "SUCCEES"}, False, "ok"),
        (200, {"status": ["UNAUTHORIZED"]}, False, "ok"),
        (200, {"status": None}, False, "ok"),
        (200, {"data": {"status": "UNAUTHORIZED"}}, False, "ok"),
        (200, ["UNAUTHORIZED"], False, "ok"),
        (200, None, False, "ok"),
        (201, {"status": "UNAUTHORIZED"}, False, "ok"),
        (403, {"status": "UNAUTHORIZED"}, False, "permission"),
        (403, None, False, "permission"),
        (409, None, False, "duplicate"),
        (400, None, False, "other"),
        (500, None, False, "provider_fault"),
    ],
)
def test_netzme(name, status, body, refused, code_class):
    verdict = judge(name, status, body)
    assert (verdict.refused, verdict.code_class, verdict.code) == (refused, code_class, None)


@pytest.mark.parametrize("name", SNAP)
@pytest.mark.parametrize(
    ("code", "message", "code_class"),
    [
        ("4002501", "Invalid Field Format X-TIMESTAMP", "time"),
        ("4002501", "Invalid Field Format {X-TIMESTAMP}", "time"),
        ("4002502", "Invalid Mandatory Field x-timestamp", "time"),
        ("4002501", "Invalid Field Format amount.value", "other"),
        ("4002501", None, "other"),
        ("4002501", ["timestamp"], "other"),
        ("4012500", "Unauthorized. Invalid Signature", "signature"),
        ("4012500", "Unauthorized.Invalid Signature", "signature"),
        ("4012500", "Unauthorized. Unknown Client", "permission"),
        ("4012500", "Unauthorized. Client Forbidden Access API", "permission"),
        ("4012500", "Unauthorized. Verify Client Secret Fail.", "permission"),
        ("4012500", "Unauthorized. Key not Found", "permission"),
        ("4012500", "x" * 300 + "Unknown Client", "signature"),
        ("4012500", None, "signature"),
        ("4092500", "Conflict", "duplicate"),
        ("4092501", "Duplicate partnerReferenceNo", "duplicate"),
    ],
)
def test_snap_by_its_message(name, code, message, code_class):
    body = {"responseCode": code, "responseMessage": message}
    assert judge(name, int(code[:3]), body).code_class == code_class


@pytest.mark.parametrize(
    ("status", "code_class"),
    [(401, "signature"), (403, "permission"), (409, "duplicate"), (400, "other"), (500, "provider_fault"), (200, "ok")],
)
def test_doku_outside_snap(status, code_class):
    body = {"error": {"code": "invalid_signature", "message": "Invalid Header Signature"}}
    verdict = judge("doku-nonsnap", status, body)
    assert (verdict.refused, verdict.code, verdict.code_class) == (False, None, code_class)


@pytest.mark.parametrize("name", CATALOGUE.names)
def test_every_profile_tells_classes(name):
    """Those that only a table of codes can tell are there where a provider has one."""
    told = set(CATALOGUE.profile(name).code_classes)
    assert told >= {"permission", "duplicate"}
    if CATALOGUE.profile(name).code_field:
        assert told == set(CODE_CLASSES)


def test_without_a_token_nothing_is_refused():
    for status in (200, 400, 401, 403, 500):
        assert not judge("doku-nonsnap", status, {"status": "UNAUTHORIZED", "responseCode": "4017301"}).refused


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("snap", {401}),
        ("klikoo", {401}),
        ("netzme", {200, 401}),
        ("doku-nonsnap", set()),
    ],
)
def test_which_answers_are_held(name, held):
    refusals = Refusals(CATALOGUE.profile(name))
    assert {status for status in STATUSES if refusals.wants(status)} == held


STATUSES = (200, 201, 204, 302, 400, 401, 404, 500, 503)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("snap", {400, 401, 404, 500, 503}),
        ("klikoo", {400, 401, 404, 500, 503}),
        ("netzme", set()),
        ("doku-nonsnap", set()),
    ],
)
def test_which_answers_are_read_as_they_pass(name, read):
    refusals = Refusals(CATALOGUE.profile(name))
    assert {status for status in STATUSES if refusals.reads(status)} == read


@pytest.mark.parametrize("value", ["None", "null", "~"])
def test_a_field_that_is_not_there_has_no_value(tmp_path, value):
    refusals = Refusals(profile(tmp_path, BANK + f'refused: [{{status: 200, field: a.b, value: "{value}"}}]\n'))
    for body in (None, {}, {"a": {}}, {"a": {"b": None}}, {"a": None}, [], "x"):
        assert not refusals.judge(200, body).refused


@pytest.mark.parametrize(
    ("value", "found"), [("true", True), ("false", False), ("7", 7), ("x", "x"), ("1.5", 1.5), ("-1", -1)]
)
def test_a_field_is_compared_as_json_writes_it(tmp_path, value, found):
    refusals = Refusals(profile(tmp_path, BANK + f'refused: [{{status: 200, field: a.b, value: "{value}"}}]\n'))
    assert refusals.judge(200, {"a": {"b": found}}).refused
    for other in ("", "X", 8, [found], {"b": found}, None):
        assert not refusals.judge(200, {"a": {"b": other}}).refused


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("4017301", "4017301"),
        (4017301, "4017301"),
        ("0", "0"),
        ("000000000001", "000000000001"),
        ("1" * 13, None),
        (10**400, None),
        ("", None),
        (" 401", None),
        ("401\n", None),
        ("-1", None),
        (-1, None),
        (401.0, None),
        (True, None),
        (None, None),
        (["401"], None),
        ({"a": 1}, None),
        ("\uff14\uff10\uff11", None),
        ("\u0664\u0660\u0661", None),
        ("401<script>", None),
    ],
)
def test_a_code_is_digits(value, code):
    assert digits(value) == code


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.from_regex(r"[2-5][0-9]{6,8}"),
    lambda below: (
        st.lists(below, max_size=2)
        | st.dictionaries(st.sampled_from(["responseCode", "response_code", "status", "data"]), below)
    ),
    max_leaves=5,
)


@given(st.sampled_from(CATALOGUE.names), st.integers(100, 599), VALUES)
def test_any_answer_has_a_verdict_of_the_closed_set(name, status, body):
    verdict = judge(name, status, body)
    assert verdict.code_class in CLOSED
    assert verdict.code is None or (verdict.code.isascii() and verdict.code.isdigit() and len(verdict.code) <= 12)


@pytest.mark.parametrize(
    ("path", "found"),
    [("a", {"b": {"c": 1}}), ("a.b.c", 1), ("a.b.c.d", None), ("b", None), ("a.c", None), ("l.0", None)],
)
def test_a_dotted_path(path, found):
    assert field_of({"a": {"b": {"c": 1}}, "l": [1]}, path) == found


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"<html>", b"\xff", b"[" * HOLD, b'{"a":' * 10_000, b"1" * 5_000, b'{"a": "\x00"}', b'{"a"'],
)
def test_what_cannot_be_read_is_none(body):
    assert parsed(body) is None


ANSWER = json.dumps({"responseCode": "4012501", "pad": "x" * 500}).encode()


@pytest.mark.parametrize("coding", ["gzip", "GZIP", " gzip ", "x-gzip"])
def test_a_copy_is_inflated(coding):
    assert inflated(gzip.compress(ANSWER), coding) == ANSWER


@pytest.mark.parametrize("coding", [None, "", "identity", "Identity"])
def test_plain_bytes_stay(coding):
    assert inflated(ANSWER, coding) == ANSWER


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"not gzip", "gzip"),
        (b"", "deflate"),
        (zlib.compress(ANSWER), "gzip"),
        (zlib.compress(ANSWER), "deflate"),
        (gzip.compress(ANSWER, mtime=0), "br"),
        (gzip.compress(ANSWER, mtime=0), "gzip, gzip"),
        (b"\x1f\x8b\x09" + b"\xff" * 40, "gzip"),
    ],
)
def test_other_codings_are_not_read(body, coding):
    assert inflated(body, coding) is None


def test_a_gzip_that_is_cut_off_gives_what_is_there():
    assert ANSWER.startswith(inflated(gzip.compress(ANSWER)[:-20], "gzip"))
    assert inflated(b"", "gzip") == b""


def test_a_bomb_is_inflated_to_the_bound():
    bomb = gzip.compress(b"[" * (64 << 20), 9)
    assert len(bomb) < HOLD + 100
    copy = inflated(bomb[:HOLD], "gzip")
    assert copy == b"[" * HOLD
    assert parsed(copy) is None
    twice = gzip.compress(bomb, 9)
    assert len(inflated(twice, "gzip")) <= HOLD


@given(st.binary(max_size=200), st.sampled_from(["gzip", "identity", "x", None]))
def test_any_bytes_are_inflated_or_not(body, coding):
    copy = inflated(body, coding)
    assert copy is None or len(copy) <= HOLD
