"""A token's life, read with a clock of ours that is right, or an hour wrong."""

import json

import pytest
from test_vectors import exchange

NOON_MS = 1_768_447_845_000
NOON = "Thu, 15 Jan 2026 03:30:45 GMT"


def read(profile: str, members: dict[str, object], *, now_ms: int = NOON_MS, date: str | None = NOON):
    headers = (("Date", date),) if date is not None else ()
    return exchange(profile, client_id="c").read(200, headers, json.dumps(members).encode(), now_ms=now_ms, started=7.0)


def netzme(**ways):
    return read("netzme", {"access_token": "t", "token_type": "bearer", "expiry_token": NOON_MS + 600_000}, **ways)


def doku(**ways):
    return read("doku", {"accessToken": "t", "tokenType": "Bearer", "expiresIn": 900}, **ways)


@pytest.mark.parametrize("skew_ms", [0, 30_000, -30_000])
def test_a_clock_that_is_nearly_right_is_gone_by(skew_ms: int) -> None:
    got = netzme(now_ms=NOON_MS + skew_ms)
    assert got.deadline == 7.0 + 600 - skew_ms / 1000
    assert got.expires_at_ms == NOON_MS + 600_000


@pytest.mark.parametrize("skew_ms", [3_600_000, -3_600_000, 61_000])
def test_a_clock_that_is_far_off_gives_way_to_the_providers(skew_ms: int) -> None:
    got = netzme(now_ms=NOON_MS + skew_ms)
    assert got.deadline == 7.0 + 599
    assert got.expires_at_ms == NOON_MS + 600_000
    assert doku(now_ms=NOON_MS + skew_ms).deadline == 7.0 + 900


@pytest.mark.parametrize("date", [None, "", "noon", "Thu, 99 Jan 2026 03:30:45 GMT"])
def test_without_a_date_our_clock_is_all_there_is(date: str | None) -> None:
    assert netzme(date=date).deadline == 7.0 + 600
    assert doku(now_ms=NOON_MS + 3_600_000, date=date).deadline == 7.0 + 900
