import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from keeping import DOKU

from proxy.model import Secret, Token
from proxy.stores.record import VERSION, client_hash, derive, mark, seal, unseal

NEW, OLD = derive(Secret("new secret of DOKU")), derive(Secret("old secret of DOKU"))
TOKEN = Token(Secret("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), 1_768_448_745_000, 7.0)
NONCE = bytes(range(12))
RECORD = seal(DOKU, TOKEN, NEW, NONCE)


def test_opens_what_was_sealed() -> None:
    assert unseal(DOKU, RECORD, [NEW], 42.0) == replace(TOKEN, deadline=42.0)


@given(
    st.text("abcXYZ019._~+/=-", min_size=1, max_size=4096), st.integers(0, 10**15), st.binary(min_size=12, max_size=12)
)
def test_any_token_comes_back(value: str, ends: int, nonce: bytes) -> None:
    token = Token(Secret(value), ends, 1.0)
    assert unseal(DOKU, seal(DOKU, token, OLD, nonce), [NEW, OLD], 1.0) == token


def test_nothing_of_the_token_or_the_key_is_to_be_seen() -> None:
    assert TOKEN.value.reveal().encode() not in RECORD
    assert NEW.value not in RECORD
    assert "value" not in repr(NEW)
    assert seal(DOKU, TOKEN, NEW, bytes(12)) != RECORD
    assert mark(TOKEN) not in TOKEN.value.reveal()


def test_during_a_rotation_both_keys_are_tried() -> None:
    kept = seal(DOKU, TOKEN, OLD, NONCE)
    assert unseal(DOKU, kept, [NEW, OLD], 7.0) == TOKEN
    assert unseal(DOKU, kept, [OLD], 7.0) == TOKEN
    assert unseal(DOKU, kept, [NEW], 7.0) is None
    assert unseal(DOKU, kept, [], 7.0) is None


@pytest.mark.parametrize("part", ["provider", "environment", "token_url", "client_id"])
def test_a_record_under_another_accounts_name_does_not_open(part: str) -> None:
    assert unseal(replace(DOKU, **{part: "other"}), RECORD, [NEW], 7.0) is None


def test_a_route_may_be_renamed() -> None:
    assert unseal(replace(DOKU, name="pay", patience=1.0), RECORD, [NEW], 7.0) == TOKEN


@pytest.mark.parametrize("position", range(len(RECORD)))
def test_no_byte_can_be_changed(position: int) -> None:
    changed = bytearray(RECORD)
    changed[position] ^= 1
    # The first byte is the version: of those that open, none opens with this one's tag.
    assert unseal(DOKU, bytes(changed), [NEW], 7.0) is None


@pytest.mark.parametrize("record", [b"", b"\x01", RECORD[:20], RECORD[:30], RECORD[:-1], RECORD + b"x", b"\xff" * 80])
def test_what_is_damaged_counts_as_absent(record: bytes) -> None:
    assert unseal(DOKU, record, [NEW], 7.0) is None


@pytest.mark.parametrize(("version", "opens"), [(VERSION, True), (VERSION - 1, True), (VERSION + 1, False)])
def test_one_version_back_stays_readable(version, opens) -> None:
    kept = seal(DOKU, TOKEN, NEW, NONCE, version)
    assert (unseal(DOKU, kept, [NEW], 7.0) == TOKEN) == opens


def test_members_that_a_newer_version_added_are_passed_over() -> None:
    head = RECORD[:21]
    plain = {"token": "t", "expires_at_ms": 5, "holder": "x"}
    named = [DOKU.provider, DOKU.environment, DOKU.token_url, client_hash(DOKU)]
    sealed = AESGCM(NEW.value).encrypt(NONCE, json.dumps(plain).encode(), head + json.dumps(named).encode())
    assert unseal(DOKU, head + sealed, [NEW], 7.0) == Token(Secret("t"), 5, 7.0)


def test_the_client_id_is_not_in_its_hash() -> None:
    assert DOKU.client_id not in client_hash(DOKU)
    assert client_hash(DOKU) != client_hash(replace(DOKU, client_id="BRN-2"))
