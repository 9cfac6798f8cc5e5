"""Times, against the shared vectors."""

import json
from pathlib import Path

import pytest

from proxy.sandbox.stamps import instant_ms, jakarta_day, spellings

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "timestamps.json").read_text())["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_every_spelling_is_read_and_written(vector):
    at_ms, expect = vector["epoch_ms"], vector["expect"]
    exact = {expect["iso_offset_ms"], expect["iso_z_ms"], expect["epoch_ms"]}
    assert {instant_ms(text, "free") for text in exact} == {at_ms}
    assert {instant_ms(expect[name], "iso") for name in ("iso_offset_s", "iso_z_s")} == {at_ms // 1000 * 1000}
    assert set(expect.values()) <= set(spellings(at_ms).values())


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2026-01-15T10:30:45", "iso"),
        ("2026-01-15 10:30:45+07:00", "iso"),
        ("2026-13-15T10:30:45Z", "iso"),
        ("2026-01-15T10:30:45.12Z", "iso"),
        ("2026-01-15T10:30:45+07:00\n", "iso"),
        ("\u0662026-01-15T10:30:45Z", "iso"),
        ("2026-01-15T10:30:45+00:00", "iso_z"),
        ("2026-01-15T10:30:45+07:00", "iso_z"),
        ("2026-01-15T10:30:45Z", "iso_jakarta"),
        ("2026-01-15T10:30:45+08:00", "iso_jakarta"),
        ("1768447845", "epoch_ms"),
        ("17684478451234", "epoch_ms"),
        ("1768447845123", "iso"),
        ("", "free"),
    ],
)
def test_other_forms_are_refused(text, form):
    assert instant_ms(text, form) is None


def test_the_first_and_last_year_can_be_read():
    assert instant_ms("0001-01-01T00:00:00+07:00", "iso") == -62_135_622_000_000
    assert instant_ms("9999-12-31T23:59:59-07:00", "iso") == 253_402_325_999_000


def test_the_day_of_external_ids_turns_at_midnight_in_jakarta():
    midnight = 1_768_496_400_000
    assert jakarta_day(midnight) == jakarta_day(midnight - 1) + 1
