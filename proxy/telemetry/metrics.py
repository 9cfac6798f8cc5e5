"""The metrics of Paraf: plain numbers, counted on the event loop, put into Prometheus' text form when asked.

prometheus-client's own counters were weighed: a lock and a child object for each count, and `_created` series that
only a process-wide switch leaves out. Its families and its text form are used.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby, product
from operator import attrgetter, itemgetter
from typing import Any, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from proxy.model import Account, Clock, Token
from proxy.storeforms import StoreKind
from proxy.telemetry.ended import Ended
from proxy.telemetry.families import FAMILIES, Labels, Numbers
from proxy.telemetry.labels import (
    ATTEMPT_REASONS,
    CIRCUIT_STATES,
    CODE_CLASSES,
    FETCH_RESULTS,
    NO_ROUTE,
    SHADOW_RESULTS,
    AttemptReason,
    CircuitState,
    FetchResult,
    ShadowResult,
    method_label,
    status_class,
)
from proxy.telemetry.story import PHASES, Story

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Seconds. Signing takes well under a millisecond; the default limit of a request is 60 s.
BUCKETS: Final = (
    0.0001,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
_EDGES: Final = (*map(floatToGoString, BUCKETS), "+Inf")

# Every combination would make 300 series a route, most of them for ever 0. Rates and alerts are made of these.
_EXPECTED: Final = (
    ("2xx", "forwarded"),
    ("4xx", "forwarded"),
    ("5xx", "forwarded"),
    ("2xx", "healed"),
    ("4xx", "refused"),
    ("4xx", "error"),
    ("5xx", "error"),
    ("none", "abandoned"),
)


MOST: Final = 512
"""Ended requests that wait to be counted: they are when the numbers are asked for, or when it is so many. More would
hold the loop for a millisecond (measured), fewer would be dear with many routes: each is counted by itself."""
_COUNTED: Final = attrgetter("route", "method", "status", "outcome", "code_class", *PHASES)
_ROUTE: Final = itemgetter(0)


class _Numbers(dict[Labels, float]):
    """The series of a counter or gauge. One that is not there yet counts as 0."""

    def __init__(self, name: str, expected: Iterable[Labels] = ()) -> None:
        super().__init__(dict.fromkeys(expected, 0.0))
        self.name = name

    def __missing__(self, labels: Labels) -> float:
        return 0.0

    def rows(self) -> dict[Labels, Sequence[float]]:
        return {labels: (value,) for labels, value in self.items()}

    def follow(self, fresh: "_Numbers") -> None:
        """Go on counting, with the series of a newer configuration as well. A gauge says nothing more of what is gone,
        once it is down: an open circuit of a route that was taken away would be looked at for ever.
        """
        if FAMILIES[self.name].kind == "gauge":
            gone = [labels for labels in self if labels not in fresh]
            for labels in gone:
                if self.name != "paraf_inflight_requests" or not self[labels]:
                    del self[labels]
        for labels in fresh:
            self.setdefault(labels, 0.0)


class _Readings(_Numbers):
    """The series of a gauge that tells the latest reading, each with its moment: 0 is none yet."""

    def __init__(self, name: str, expected: Iterable[Labels]) -> None:
        super().__init__(name, expected)
        self._moments: dict[Labels, float] = {}

    def read(self, labels: Labels, value: float, moment: float) -> None:
        self[labels], self._moments[labels] = value, moment

    def rows(self) -> dict[Labels, Sequence[float]]:
        return {labels: (value, self._moments.get(labels, 0.0)) for labels, value in self.items()}


class _Durations:
    """The series of a histogram over BUCKETS: what fell into each, and last the sum."""

    def __init__(self, name: str, expected: Iterable[Labels]) -> None:
        self.name = name
        self._series: dict[Labels, list[float]] = {labels: [*[0] * len(_EDGES), 0.0] for labels in expected}

    def follow(self, fresh: "_Durations") -> None:
        for labels in fresh.rows():
            self._series.setdefault(labels, [*[0] * len(_EDGES), 0.0])

    def observe(self, labels: Labels, seconds: Iterable[float]) -> None:
        """Many at once: sorted, they are counted by the edge. 0 is none."""
        series, ordered = self._series[labels], sorted(seconds)
        at = bisect_right(ordered, 0.0)
        for place, edge in enumerate((*BUCKETS, math.inf)):
            beyond = bisect_right(ordered, edge)
            series[place] += beyond - at
            at = beyond
        series[-1] += sum(ordered)

    def rows(self) -> dict[Labels, Sequence[float]]:
        return {labels: tuple(series) for labels, series in self._series.items()}


def _family(name: str, rows: Mapping[Labels, Sequence[float]]) -> Metric:
    kind, names, _, meaning = FAMILIES[name]
    if kind == "histogram":
        durations = HistogramMetricFamily(name, meaning, labels=names)
        for labels, (*counts, total) in rows.items():
            buckets = list(zip(_EDGES, map(float, accumulate(counts)), strict=True))
            durations.add_metric(labels, buckets=buckets, sum_value=total)
        return durations
    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, meaning, labels=names)
    for labels, (value, *_) in rows.items():
        family.add_metric(labels, value)
    return family


class Counted(Collector):
    """Numbers as prometheus-client wants them."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        return (_family(name, self._numbers[name]) for name in FAMILIES)


def page(numbers: Numbers) -> tuple[bytes, str]:
    """The page for Prometheus and its content type."""
    return generate_latest(Counted(numbers)), CONTENT_TYPE


class Metrics:
    """`routes` and `accounts` are the names in the configuration, `shadows` the routes in shadow mode. `store` is the
    kind of store. Requests are counted when they have `ended`; the state of `circuits`, by route, is asked for.
    """

    def __init__(
        self,
        routes: Sequence[str],
        accounts: Sequence[str],
        *,
        store: StoreKind,
        version: str,
        python: str,
        clock: Clock,
        shadows: Sequence[str] = (),
        ended: Ended | None = None,
        circuits: Callable[[], Mapping[str, CircuitState]] = dict,
    ) -> None:
        self._clock = clock
        self._states = circuits
        self._ended = ended or Ended(clock)
        self._ended.tells.append(self.told)
        # What comes with every request is put down, and counted with others.
        self._arrivals: list[str] = []
        self._tries: list[tuple[str, AttemptReason]] = []
        self._told: list[tuple[Any, ...]] = []
        self.arrived = self._arrivals.append
        self.attempt = self._tries.append
        self._routes = frozenset(routes)
        anywhere = (*routes, NO_ROUTE)
        expected = product(anywhere, ("GET", "POST"), _EXPECTED)
        self._requests = _Numbers("paraf_requests_total", ((route, method, *rest) for route, method, rest in expected))
        self._durations = _Durations("paraf_request_duration_seconds", product(anywhere, PHASES))
        self._inflight = _Numbers("paraf_inflight_requests", product(anywhere))
        self._attempts = _Numbers("paraf_attempts_total", product(routes, ATTEMPT_REASONS))
        self._codes = _Numbers("paraf_provider_code_total", product(routes, CODE_CLASSES))
        self._skews = _Readings("paraf_clock_skew_seconds", product(routes))
        self._circuits = _Numbers("paraf_circuit_state", product(routes))
        self._fetches = _Numbers("paraf_token_fetch_total", product(accounts, FETCH_RESULTS))
        self._expiries = _Numbers("paraf_token_expiry_timestamp_seconds", product(accounts))
        self._successes = _Numbers("paraf_token_last_success_timestamp_seconds", product(accounts))
        self._conflicts = _Numbers("paraf_token_conflicts_total", product(accounts))
        self._store_errors = _Numbers("paraf_store_errors_total", [(store,)])
        self._store_unreadable = _Numbers("paraf_store_unreadable_total", [(store,)])
        self._shadows = _Numbers("paraf_shadow_total", product(shadows, SHADOW_RESULTS))
        self._loaded = _Numbers("paraf_config_last_reload_success_timestamp_seconds", [()])
        self._refused = _Numbers("paraf_config_last_reload_failure_timestamp_seconds", [()])
        self._build = _Numbers("paraf_build_info")
        self._build[version, python] = 1

    def told(self, stories: Iterable[Story]) -> None:
        """Of requests that ended: those with a route had `arrived`."""
        self._told += map(_COUNTED, stories)
        if len(self._told) >= MOST:
            self._count()

    def _settle(self) -> None:
        """The numbers are those of this moment."""
        self._ended.flush()
        self._count()
        for route, state in self._states().items():
            self._circuits[(route,)] = CIRCUIT_STATES.index(state)

    def _count(self) -> None:
        """What came since. Many at once cost less than half of one by one (measured)."""
        for route, times in Counter(self._arrivals).items():
            self._inflight[(self._known(route),)] += times
        for (route, reason), times in Counter(self._tries).items():
            self._attempts[route, reason] += times
        for route, ended in groupby(sorted(self._told, key=_ROUTE), _ROUTE):
            self._count_ended(route, ended)
        for counted in (self._arrivals, self._tries, self._told):
            counted.clear()

    def _count_ended(self, name: str, ended: Iterable[tuple[Any, ...]]) -> None:
        route = self._known(name)
        _, methods, statuses, outcomes, classes, *phases = zip(*ended, strict=True)
        if name != NO_ROUTE:
            self._inflight[(route,)] -= len(methods)
        for (method, status, outcome), times in Counter(zip(methods, statuses, outcomes, strict=True)).items():
            self._requests[route, method_label(method), status_class(status), outcome] += times
        for code, times in Counter(filter(None, classes)).items():
            self._codes[route, code if code in CODE_CLASSES else "other"] += times
        for phase, seconds in zip(PHASES, phases, strict=True):
            self._durations.observe((route, phase), seconds)

    def skew(self, route: str, seconds: float) -> None:
        self._skews.read((route,), seconds, self._clock.monotonic())

    def fetched(self, account: Account, result: FetchResult, token: Token | None) -> None:
        self._fetches[account.name, result] += 1
        if token is not None:
            self._successes[(account.name,)] = self._clock.now_ms() / 1000

    def kept(self, account: Account, token: Token) -> None:
        """Fetched by this process or by another: it is what requests are signed with from now on."""
        self._expiries[(account.name,)] = token.expires_at_ms / 1000

    def conflict(self, account: Account) -> None:
        self._conflicts[(account.name,)] += 1

    def store_failed(self, store: StoreKind) -> None:
        self._store_errors[(store,)] += 1

    def store_unreadable(self, store: StoreKind) -> None:
        self._store_unreadable[(store,)] += 1

    def shadow(self, route: str, result: ShadowResult) -> None:
        self._shadows[route, result] += 1

    def follow(self, fresh: "Metrics") -> None:
        """From now on those of a newer configuration, whose metrics would begin as `fresh` does."""
        self._settle()
        self._routes |= fresh._routes  # noqa: SLF001 -- its own kind
        for name, mine in vars(self).items():
            if isinstance(mine, _Numbers | _Durations):
                mine.follow(vars(fresh)[name])

    def refused(self) -> None:
        """A configuration was not taken, and the one before runs on."""
        self._refused[()] = self._clock.now_ms() / 1000

    def loaded(self) -> None:
        """A configuration was read without fault and runs from now on."""
        self._loaded[()] = self._clock.now_ms() / 1000

    def numbers(self) -> Numbers:
        self._settle()
        counted = (each for each in vars(self).values() if isinstance(each, _Numbers | _Durations))
        return {each.name: each.rows() for each in counted}

    def collect(self) -> Iterator[Metric]:
        return Counted(self.numbers()).collect()

    def render(self) -> tuple[bytes, str]:
        return page(self.numbers())

    def _known(self, route: str) -> str:
        return route if route in self._routes else NO_ROUTE
