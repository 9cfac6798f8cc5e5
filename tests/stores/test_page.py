import json
import math
from dataclasses import replace

import pytest

from proxy.stores.page import VERSION, Moment, read, written
from proxy.stores.slot import Kept, Slot

THEN = Moment("boot-1", 1_000.0, 1_768_447_845_000)
SLOT = Slot(
    kept=Kept(b"\x00sealed\xff", "mark", ends=1_900.0, expires_at_ms=1_768_448_745_000),
    owner="me",
    fence=7,
    leased=1_005.0,
    called=999.0,
    rests=1_004.0,
    failures=2,
    strikes=1,
    struck=True,
)
PAGE = written(SLOT, THEN)


def later(seconds: float, *, boot: str = "boot-1", wall: float | None = None, monotonic: float | None = None) -> Moment:
    wall_ms = THEN.wall_ms + int((seconds if wall is None else wall) * 1000)
    return Moment(boot, THEN.monotonic + seconds if monotonic is None else monotonic, wall_ms)


def test_comes_back_as_it_was() -> None:
    assert read(PAGE, THEN) == SLOT
    assert read(written(Slot(), THEN), THEN) == Slot()


@pytest.mark.parametrize("wall", [-3_600, 0, 60, 3_600])
def test_on_one_host_the_wall_clock_may_jump(wall: float) -> None:
    assert read(PAGE, later(60, wall=wall)) == SLOT


def left(moment: Moment) -> tuple[float, float]:
    """Seconds of life of the token, and until the next token call."""
    slot = read(PAGE, moment)
    assert slot
    assert slot.kept
    return round(slot.kept.ends - moment.monotonic, 3), round(slot.rests - moment.monotonic, 3)


def test_after_a_restart_of_the_host_the_wall_clock_says_how_long_it_took() -> None:
    assert left(later(0, boot="boot-2", wall=100, monotonic=3.0)) == (800.0, -96.0)


def test_a_wall_clock_that_was_set_back_gives_no_longer_life_and_no_longer_pause() -> None:
    assert left(later(0, boot="boot-2", wall=-3_600, monotonic=3.0)) == (900.0, 4.0)


def test_without_a_boot_id_the_wall_clock_counts() -> None:
    unknown = written(SLOT, replace(THEN, boot=""))
    slot = read(unknown, later(60, boot="", wall=100))
    assert slot
    assert slot.rests == pytest.approx(1_060 - 96)


def test_a_monotonic_clock_that_went_back_is_another_ones() -> None:
    assert left(later(0, wall=10, monotonic=5.0)) == (890.0, -6.0)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00",
        b"[]",
        b"{}",
        b"null",
        PAGE[:100],
        PAGE.replace(b'"fence": 7', b'"fence": "7"'),
        PAGE.replace(b'"fence": 7', b'"fence": true'),
        PAGE.replace(b'"rests": 1004.0', b'"rests": Infinity'),
        PAGE.replace(b'"rests": 1004.0', b'"rests": NaN'),
        PAGE.replace(b'"rests": 1004.0', b'"rests": null'),
        PAGE.replace(b'"form": "', b'"form": "\xc3\xa9'),
        b"[" * 100_000,
    ],
)
def test_what_is_no_page_is_told(text: bytes) -> None:
    assert read(text, THEN) is None


@pytest.mark.parametrize(("version", "readable"), [(VERSION, True), (VERSION - 1, True), (VERSION + 1, False)])
def test_one_version_back_stays_readable(version, readable) -> None:
    page = {**json.loads(PAGE), "version": version}
    assert (read(json.dumps(page).encode(), THEN) == SLOT) == readable


def test_members_of_a_newer_version_are_passed_over_and_missing_ones_have_their_default() -> None:
    page = json.loads(PAGE)
    page["slot"]["colour"] = "blue"
    del page["slot"]["strikes"], page["slot"]["struck"]
    assert read(json.dumps(page).encode(), THEN) == replace(SLOT, strikes=0, struck=False)


def test_nothing_endless_is_written() -> None:
    assert math.inf not in json.loads(PAGE)["slot"].values()
