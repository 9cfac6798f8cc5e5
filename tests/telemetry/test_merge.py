import pytest

from proxy.telemetry.families import FAMILIES, METRIC_NAMES
from proxy.telemetry.merge import RULES, from_json, lasting, merge, to_json
from proxy.telemetry.metrics import Metrics, page
from proxy.telemetry.story import Story


class Noon:
    def __init__(self, now_ms: int = 1_768_447_845_500) -> None:
        self._now_ms = now_ms
        self.seconds = 50.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self.seconds


def worker(clock: Noon | None = None) -> Metrics:
    return Metrics(["doku"], ["doku"], store="memory", version="1.2.3", python="3.11.7", clock=clock or Noon())


def told(metrics: Metrics, times: int, seconds: float = 0.3) -> None:
    for _ in range(times):
        story = Story("id", "POST", 0.0, route="doku", status=200, outcome="forwarded")
        story.total = seconds
        metrics.told([story])


REQUESTS = ("doku", "POST", "2xx", "forwarded")


def test_every_metric_has_a_rule() -> None:
    assert {family.merged for family in FAMILIES.values()} <= set(RULES)
    for name, family in FAMILIES.items():
        # A gauge that outlived its worker would show requests that nobody answers; a counter must never go down.
        assert RULES[family.merged].outlives == (family.kind != "gauge" or "token" in name), name


def test_counters_and_histograms_are_summed() -> None:
    one, two = worker(), worker()
    told(one, 3, seconds=0.3)
    told(two, 4, seconds=120.0)
    merged = merge([one.numbers(), two.numbers()])
    assert merged["paraf_requests_total"][REQUESTS] == (7,)
    *counts, total = merged["paraf_request_duration_seconds"]["doku", "total"]
    assert (sum(counts), counts[-1], total) == (7, 4, pytest.approx(480.9))
    assert b'paraf_request_duration_seconds_bucket{le="0.5",phase="total",route="doku"} 3.0' in page(merged)[0]


@pytest.mark.parametrize(
    ("name", "labels", "values", "expected"),
    [
        ("paraf_inflight_requests", ("doku",), (2, 3, 0), 5),
        ("paraf_token_expiry_timestamp_seconds", ("doku",), (1000, 3000, 2000), 3000),
        ("paraf_token_last_success_timestamp_seconds", ("doku",), (10, 0, 20), 20),
        ("paraf_config_last_reload_success_timestamp_seconds", (), (30, 10, 20), 10),
        ("paraf_config_last_reload_success_timestamp_seconds", (), (30, 0, 20), 20),
        ("paraf_config_last_reload_success_timestamp_seconds", (), (0, 0), 0),
        ("paraf_build_info", ("1.2.3", "3.11.7"), (1, 1, 1), 1),
    ],
)
def test_gauges(name: str, labels: tuple[str, ...], values: tuple[float, ...], expected: float) -> None:
    assert merge([{name: {labels: (value,)}} for value in values])[name] == {labels: (expected,)}


def test_of_the_clock_the_newest_answer_counts_whoever_had_it() -> None:
    clock = Noon()
    quiet, busy, fresh = worker(clock), worker(clock), worker(clock)
    busy.skew("doku", -300.0)
    quiet.skew("doku", 300.0)
    clock.seconds += 1
    busy.skew("doku", 0.0)
    for told in ([quiet, busy, fresh], [fresh, busy, quiet]):
        lines = [from_json(to_json(each.numbers())) for each in told]
        merged = merge([worker().numbers(), merge(lines[:2]), *lines[2:]])
        assert merged["paraf_clock_skew_seconds"]["doku",] == (0.0, 51.0)
        assert b'paraf_clock_skew_seconds{route="doku"} 0.0\n' in page(merged)[0]


def test_the_worst_state_of_a_circuit_counts() -> None:
    assert RULES["worst"].combine([[0], [2], [1]]) == (2,)
    assert not RULES["worst"].outlives


def test_a_series_that_one_alone_has_stays() -> None:
    one, two = worker(), worker()
    one.told([Story("id", "PATCH", 0.0, route="doku", status=404, outcome="forwarded")])
    merged = merge([two.numbers(), one.numbers()])
    assert merged["paraf_requests_total"]["doku", "PATCH", "4xx", "forwarded"] == (1,)
    assert merge([one.numbers()]) == one.numbers()


def test_of_none_every_name_stands() -> None:
    assert tuple(merge([])) == METRIC_NAMES


def test_what_an_ended_worker_counted_remains() -> None:
    metrics = worker()
    told(metrics, 5)
    metrics.arrived("doku")
    metrics.skew("doku", 9.0)
    metrics.loaded()
    merged = merge([lasting(metrics.numbers()), worker().numbers()])
    assert merged["paraf_requests_total"][REQUESTS] == (5,)
    assert sum(merged["paraf_request_duration_seconds"]["doku", "total"][:-1]) == 5
    assert merged["paraf_inflight_requests"]["doku",] == (0,)
    assert merged["paraf_clock_skew_seconds"]["doku",] == (0, 0)
    assert merged["paraf_config_last_reload_success_timestamp_seconds"][()] == (0,)


def test_numbers_survive_the_line_between_processes() -> None:
    metrics = worker()
    told(metrics, 3)
    metrics.skew("doku", -0.1)
    metrics.loaded()
    text = to_json(metrics.numbers())
    assert "\n" not in text
    assert merge([worker().numbers(), from_json(text)]) == metrics.numbers()
    assert to_json(worker().numbers()).count("doku") == 0  # what is 0 is not told
