import io
import json

import pytest

from proxy.clock import SystemClock
from proxy.model import Account, Secret, Token
from proxy.telemetry.logs import configure
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.news import RequestNews, StoreNews, TokenNews

NETZME = Account("netzme", "netzme", "stage", "https://toko.test/token", "pay", exclusive=True)
OTHER = Account("b", "netzme", "stage", "https://toko.test/token", "buy", exclusive=True)
TOKEN = Token(Secret("tok-SECRET"), 1_768_448_745_000, 900.0)


class Told:
    def __init__(self) -> None:
        self.text = io.StringIO()
        logger = configure("debug", "json", self.text, SystemClock())
        self.metrics = Metrics(["netzme"], ["netzme"], store="redis", version="1", python="3", clock=SystemClock())
        self.tokens, self.store = TokenNews(self.metrics, logger), StoreNews("redis", self.metrics, logger)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]

    def metric(self, name: str) -> float:
        samples = [sample for metric in self.metrics.collect() for sample in metric.samples]
        return sum(each.value for each in samples if each.name == name)


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_store_that_goes_down_and_comes_back_is_two_lines_and_every_fault_is_counted(told: Told) -> None:
    for _ in range(3):
        told.store.answered()
    for _ in range(5):
        told.store.failed("ConnectionError")
    for _ in range(2):
        told.store.answered()
    assert [(line["event"], line["state"], line["level"]) for line in told.lines] == [
        ("store", "down", "error"),
        ("store", "up", "info"),
    ]
    assert told.lines[0]["reason"] == "ConnectionError"
    assert told.metric("paraf_store_errors_total") == 5


def test_unreadable_records_are_counted_and_said_once_each(told: Told) -> None:
    for _ in range(4):
        told.store.unreadable(NETZME)
        told.store.unreadable(OTHER)
    assert [(line["state"], line["account"]) for line in told.lines] == [("unreadable", "netzme"), ("unreadable", "b")]
    assert told.metric("paraf_store_unreadable_total") == 8


def test_an_unreadable_record_is_said_again_when_that_one_was_readable_in_between(told: Told) -> None:
    for _ in range(4):
        told.store.unreadable(NETZME)
        told.store.readable(OTHER)
    assert len(told.lines) == 1
    told.store.readable(NETZME)
    told.store.unreadable(NETZME)
    assert [line["account"] for line in told.lines] == ["netzme"] * 2


def test_a_fight_is_said_once_with_advice_and_counted_at_every_round(told: Told) -> None:
    for strikes in (2, 3, 4):
        told.tokens.conflict(NETZME, strikes)
    (line,) = told.lines
    assert (line["event"], line["account"], line["level"]) == ("conflict", "netzme", "warning")
    assert "client id" in str(line["advice"])
    assert told.metric("paraf_token_conflicts_total") == 3


def test_a_token_in_use_has_its_end_told_whoever_fetched_it(told: Told) -> None:
    told.tokens.kept(NETZME, TOKEN)
    assert told.metric("paraf_token_expiry_timestamp_seconds") == 1_768_448_745
    assert told.metric("paraf_token_last_success_timestamp_seconds") == 0
    told.tokens.fetched(NETZME, "ok", TOKEN)
    assert told.metric("paraf_token_last_success_timestamp_seconds") > 0
    assert "SECRET" not in told.text.getvalue()


def clock_lines(told: Told, *skews: float) -> list[tuple[object, object]]:
    logger = configure("debug", "json", told.text, SystemClock())
    news = RequestNews(told.metrics, logger, {"netzme": 120.0}.get, set())
    for seconds in skews:
        news.skew("netzme", seconds)
    return [(line["state"], line["skew_s"]) for line in told.lines]


def test_a_clock_that_drifts_is_said_once_and_again_when_it_is_well(told: Told) -> None:
    assert clock_lines(told, 0, 59, 60, -60, 61, 300, 90, 61, 59, 61, 49, 48, 2, -61, 0) == [
        ("off", 61),
        ("well", 48),
        ("off", -61),
        ("well", 0),
    ]
    assert {line["level"] for line in told.lines if line["state"] == "off"} == {"warning"}
    assert "NTP" in str(told.lines[0]["advice"])


def test_the_gauge_shows_every_reading(told: Told) -> None:
    clock_lines(told, 300, -2.5)
    assert told.metric("paraf_clock_skew_seconds") == -2.5
