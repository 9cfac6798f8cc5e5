import random
import re
import time
import uuid
from datetime import UTC, datetime

import pytest

from proxy.ids import RequestIds, external_id

NOW_MS = 1_768_447_845_123


def test_request_ids_are_short_url_safe_and_never_the_same() -> None:
    ids = RequestIds()
    made = [ids.request_id() for _ in range(200_000)]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch("[a-z0-9]{26}", one) for one in made)


def test_request_ids_of_two_processes_share_nothing() -> None:
    assert RequestIds().request_id()[:16] != RequestIds().request_id()[:16]


def test_the_start_of_request_ids_comes_from_the_randomness_handed_in() -> None:
    first, again = (RequestIds(random.Random(7)).request_id() for _ in range(2))
    assert first == again != RequestIds(random.Random(8)).request_id()


def test_request_ids_ask_the_system_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Counting(random.Random):
        def randbytes(self, n: int) -> bytes:
            asked.append(n)
            return bytes(n)

    ids = RequestIds(Counting())
    for _ in range(100):
        ids.request_id()
    assert asked == [10]


@pytest.mark.parametrize("length", range(8, 37))
def test_digits_are_as_many_as_asked(length: int) -> None:
    assert re.fullmatch(rf"[0-9]{{{length}}}", external_id("digits", length=length, prefix="", now_ms=NOW_MS))


def test_long_digits_begin_with_the_epoch_time() -> None:
    assert external_id("digits", length=16, prefix="", now_ms=NOW_MS).startswith(str(NOW_MS))
    assert external_id("digits", length=36, prefix="", now_ms=NOW_MS).startswith(str(NOW_MS))


def test_short_digits_begin_with_the_time_of_the_day() -> None:
    midnight = int(datetime(2026, 1, 15, tzinfo=UTC).timestamp() * 1000)
    assert external_id("digits", length=8, prefix="", now_ms=midnight + 42) == "00000042"
    assert external_id("digits", length=15, prefix="", now_ms=midnight + 42)[:8] == "00000042"


def test_short_digits_of_different_moments_of_a_day_differ() -> None:
    made = {external_id("digits", length=8, prefix="", now_ms=NOW_MS + step * 431) for step in range(200_000)}
    assert len(made) == 200_000


@pytest.mark.parametrize("length", [24, 32, 36])
def test_200_000_of_one_moment_differ(length: int) -> None:
    chance = random.Random(time.time_ns())
    made = {external_id("digits", length=length, prefix="", now_ms=NOW_MS, randomness=chance) for _ in range(200_000)}
    # 11 random digits: 0.2 pairs are expected to meet; more than a handful cannot be chance.
    assert len(made) >= 200_000 - 5


@pytest.mark.parametrize(("prefix", "length", "total"), [("PRF", 32, 35), ("%d%", 36, 36), ("x" * 28, 36, 36)])
def test_a_prefix_counts_towards_36(prefix: str, length: int, total: int) -> None:
    made = external_id("digits", length=length, prefix=prefix, now_ms=NOW_MS)
    assert len(made) == total
    assert re.fullmatch(re.escape(prefix) + "[0-9]+", made)


def test_uuids_are_random_ones() -> None:
    made = {external_id("uuid", length=36, prefix="", now_ms=NOW_MS) for _ in range(1_000)}
    assert len(made) == 1_000
    assert {(uuid.UUID(one).version, str(uuid.UUID(one)) == one) for one in made} == {(4, True)}


@pytest.mark.parametrize("form", ["digits", "uuid"])
def test_an_external_id_is_a_function_of_its_arguments(form) -> None:
    first, again = (
        external_id(form, length=32, prefix="p-", now_ms=NOW_MS, randomness=random.Random(3)) for _ in range(2)
    )
    assert first == again
    assert first.startswith("p-")
