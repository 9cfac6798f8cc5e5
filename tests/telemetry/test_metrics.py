from collections.abc import Callable
from itertools import product

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.model import Account, Attempt, Secret, Token
from proxy.telemetry.families import METRIC_NAMES
from proxy.telemetry.labels import ATTEMPT_REASONS, CODE_CLASSES, FETCH_RESULTS, CircuitState
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.story import PHASES, Story

ACCOUNT = Account("doku", "doku", "sandbox", "https://api.test/token", "BRN-1")
Read = Callable[..., float | None]


class Noon:
    def now_ms(self) -> int:
        return 1_768_447_845_500

    def monotonic(self) -> float:
        return 50.0


@pytest.fixture
def metrics() -> Metrics:
    names = ["doku", "klikoo"]
    return Metrics(names, names, store="memory", version="1.2.3", python="3.11.7", clock=Noon())


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page, _ = metrics.render()
    families = text_string_to_metric_families(page.decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def story(**told: object) -> Story:
    made = Story("id", "POST", 0.0, route="doku", status=200, outcome="forwarded")
    for name, told_value in told.items():
        setattr(made, name, told_value)
    return made


def test_every_name_has_its_type_and_meaning_from_the_start(metrics: Metrics) -> None:
    for empty in (metrics, Metrics([], [], store="memory", version="1", python="3", clock=Noon())):
        page = empty.render()[0].decode()
        typed = [line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE ")]
        assert [name for name, _ in typed] == list(METRIC_NAMES)
        assert page.count("# HELP ") == len(METRIC_NAMES)


def test_types_are_what_the_names_say(metrics: Metrics) -> None:
    page = metrics.render()[0].decode()
    for name in METRIC_NAMES:
        kind = "counter" if name.endswith("_total") else "histogram" if "duration" in name else "gauge"
        assert f"# TYPE {name} {kind}\n" in page


def test_nothing_but_the_named_series_is_told(metrics: Metrics) -> None:
    metrics.told([story(**dict.fromkeys(PHASES, 0.1))])
    suffixes = ("", "_bucket", "_sum", "_count")
    assert {name for name, _ in samples(metrics)} <= {name + suffix for name, suffix in product(METRIC_NAMES, suffixes)}


def test_series_stand_at_0_from_the_start(metrics: Metrics) -> None:
    told = samples(metrics)
    assert {number for (name, _), number in told.items() if name != "paraf_build_info"} == {0.0}
    for route in ("doku", "klikoo", "none"):
        assert value(metrics, "paraf_inflight_requests", route=route) == 0
        for method in ("GET", "POST"):
            labels = {"route": route, "method": method, "status_class": "2xx", "outcome": "forwarded"}
            assert value(metrics, "paraf_requests_total", **labels) == 0
        for phase in PHASES:
            assert value(metrics, "paraf_request_duration_seconds_count", route=route, phase=phase) == 0
    for name in ("doku", "klikoo"):
        assert value(metrics, "paraf_clock_skew_seconds", route=name) == 0
        assert value(metrics, "paraf_circuit_state", route=name) == 0
        assert value(metrics, "paraf_token_expiry_timestamp_seconds", account=name) == 0
        assert value(metrics, "paraf_token_last_success_timestamp_seconds", account=name) == 0
        assert value(metrics, "paraf_token_conflicts_total", account=name) == 0
        for reason in ATTEMPT_REASONS:
            assert value(metrics, "paraf_attempts_total", route=name, reason=reason) == 0
        for code_class in CODE_CLASSES:
            assert value(metrics, "paraf_provider_code_total", route=name, code_class=code_class) == 0
        for result in FETCH_RESULTS:
            assert value(metrics, "paraf_token_fetch_total", account=name, result=result) == 0


def test_versions(metrics: Metrics) -> None:
    assert value(metrics, "paraf_build_info", version="1.2.3", python="3.11.7") == 1


@pytest.mark.parametrize(
    ("told", "labels"),
    [
        ({}, {"method": "POST", "status_class": "2xx", "outcome": "forwarded"}),
        ({"method": "GET", "status": 404}, {"method": "GET", "status_class": "4xx", "outcome": "forwarded"}),
        ({"method": "PROPFIND"}, {"method": "other", "status_class": "2xx", "outcome": "forwarded"}),
        ({"method": "post"}, {"method": "other", "status_class": "2xx", "outcome": "forwarded"}),
        ({"status": 0, "outcome": "abandoned"}, {"method": "POST", "status_class": "none", "outcome": "abandoned"}),
        ({"status": 599}, {"method": "POST", "status_class": "5xx", "outcome": "forwarded"}),
        ({"status": 999}, {"method": "POST", "status_class": "none", "outcome": "forwarded"}),
        ({"status": 101}, {"method": "POST", "status_class": "1xx", "outcome": "forwarded"}),
    ],
)
def test_a_request_is_counted_under_closed_labels(metrics: Metrics, told: dict, labels: dict) -> None:
    metrics.told([story(**told)])
    metrics.told([story(**told)])
    assert value(metrics, "paraf_requests_total", route="doku", **labels) == 2


def test_a_route_that_is_not_configured_is_none(metrics: Metrics) -> None:
    metrics.told([story(route="/made/up", status=404, outcome="error")])
    for _ in range(2):
        metrics.arrived("/made/up")
    labels = {"method": "POST", "status_class": "4xx", "outcome": "error"}
    assert value(metrics, "paraf_requests_total", route="none", **labels) == 1
    assert value(metrics, "paraf_inflight_requests", route="none") == 1
    assert b"made" not in metrics.render()[0]


def test_phases_fill_their_histograms(metrics: Metrics) -> None:
    metrics.told([story(sign=0.0001, upstream=0.3, total=120.0)])
    metrics.told([story(upstream=0.5)])

    def bucket(phase: str, le: str) -> float | None:
        return value(metrics, "paraf_request_duration_seconds_bucket", route="doku", phase=phase, le=le)

    assert (bucket("sign", "0.0001"), bucket("sign", "+Inf")) == (1, 1)
    assert [bucket("upstream", le) for le in ("0.25", "0.5", "1.0", "+Inf")] == [0, 2, 2, 2]
    assert (bucket("total", "60.0"), bucket("total", "+Inf")) == (0, 1)
    assert bucket("token", "+Inf") == 0
    assert value(metrics, "paraf_request_duration_seconds_sum", route="doku", phase="upstream") == pytest.approx(0.8)
    assert value(metrics, "paraf_request_duration_seconds_count", route="doku", phase="upstream") == 2


def test_codes_of_the_provider_by_class(metrics: Metrics) -> None:
    for code_class in (*CODE_CLASSES, None, "4017300"):
        metrics.told([story(code_class=code_class)])
    counts = {one: value(metrics, "paraf_provider_code_total", route="doku", code_class=one) for one in CODE_CLASSES}
    assert counts == {**dict.fromkeys(CODE_CLASSES, 1), "other": 2}
    assert b"4017300" not in metrics.render()[0]


def test_requests_under_way(metrics: Metrics) -> None:
    for _ in range(3):
        metrics.arrived("doku")
    metrics.told([story()])
    assert value(metrics, "paraf_inflight_requests", route="doku") == 2
    assert value(metrics, "paraf_inflight_requests", route="klikoo") == 0


def test_attempts_and_skew(metrics: Metrics) -> None:
    metrics.attempt(("doku", "first"))
    metrics.attempt(("doku", "healed"))
    metrics.attempt(("doku", "first"))
    metrics.skew("klikoo", -2.5)
    assert value(metrics, "paraf_attempts_total", route="doku", reason="first") == 2
    assert value(metrics, "paraf_attempts_total", route="doku", reason="healed") == 1
    assert value(metrics, "paraf_clock_skew_seconds", route="klikoo") == -2.5


@pytest.mark.parametrize(("state", "number"), [("closed", 0), ("half-open", 1), ("open", 2)])
def test_the_circuit_of_a_route_is_told_as_it_is_when_somebody_asks(state: CircuitState, number: int) -> None:
    states: dict[str, CircuitState] = {"doku": "open"}
    names = ["doku", "klikoo"]
    metrics = Metrics(names, [], store="memory", version="1", python="3", clock=Noon(), circuits=lambda: states)
    assert value(metrics, "paraf_circuit_state", route="doku") == 2
    states["doku"] = state
    assert value(metrics, "paraf_circuit_state", route="doku") == number
    assert value(metrics, "paraf_circuit_state", route="klikoo") == 0


def test_token_calls(metrics: Metrics) -> None:
    token = Token(Secret("tok-SECRET"), 1_768_448_745_000, 900.0)
    metrics.fetched(ACCOUNT, "ok", token)
    metrics.kept(ACCOUNT, token)
    metrics.fetched(ACCOUNT, "timeout", None)
    assert value(metrics, "paraf_token_fetch_total", account="doku", result="ok") == 1
    assert value(metrics, "paraf_token_fetch_total", account="doku", result="timeout") == 1
    assert value(metrics, "paraf_token_expiry_timestamp_seconds", account="doku") == 1_768_448_745
    assert value(metrics, "paraf_token_last_success_timestamp_seconds", account="doku") == 1_768_447_845.5
    assert b"SECRET" not in metrics.render()[0]


def test_fights_and_the_store(metrics: Metrics) -> None:
    assert value(metrics, "paraf_store_errors_total", store="memory") == 0
    assert value(metrics, "paraf_store_unreadable_total", store="memory") == 0
    metrics.conflict(ACCOUNT)
    metrics.store_failed("memory")
    metrics.store_unreadable("memory")
    assert value(metrics, "paraf_token_conflicts_total", account="doku") == 1
    assert value(metrics, "paraf_store_errors_total", store="memory") == 1
    assert value(metrics, "paraf_store_unreadable_total", store="memory") == 1


def test_the_moment_of_loading(metrics: Metrics) -> None:
    metrics.loaded()
    assert value(metrics, "paraf_config_last_reload_success_timestamp_seconds") == 1_768_447_845.5


def test_two_of_them_share_nothing(metrics: Metrics) -> None:
    other = Metrics(["doku"], [], store="memory", version="1", python="3", clock=Noon())
    metrics.told([story(attempts=[Attempt()])])
    assert value(other, "paraf_requests_total", **dict(_FORWARDED)) == 0


_FORWARDED = {"route": "doku", "method": "POST", "status_class": "2xx", "outcome": "forwarded"}
