"""What a process that serves says of its routes: for the status page, and never a secret."""

from collections.abc import Callable
from typing import Any

from proxy.generation import Generation, Lane
from proxy.telemetry.labels import CIRCUIT_STATES
from proxy.telemetry.metrics import Numbers


class Overview:
    def __init__(self, generation: Callable[[], Generation], numbers: Callable[[], Numbers]) -> None:
        self._generation = generation
        self._numbers = numbers

    async def routes(self, _: Any) -> list[dict[str, Any]]:
        """An Answerer: one row for each route, in the order of the file."""
        numbers = self._numbers()
        return [_row(lane, numbers) for lane in self._generation().lanes.values()]


def _row(lane: Lane, numbers: Numbers) -> dict[str, Any]:
    name = lane.route.name
    return {
        "route": name,
        "provider": lane.profile.name,
        "environment": lane.account.environment or None,
        "upstream": lane.route.base.text,
        "account": lane.account.name,
        "circuit": CIRCUIT_STATES[int(_of(numbers, "paraf_circuit_state", name))],
        "skew_s": _of(numbers, "paraf_clock_skew_seconds", name),
        "window_s": lane.profile.time_window,
        "in_flight": _of(numbers, "paraf_inflight_requests", name),
        "requests": _outcomes(numbers, name),
        "remembers": lane.remembers,
    }


def _of(numbers: Numbers, family: str, route: str) -> float:
    return sum(row[0] for labels, row in numbers.get(family, {}).items() if labels == (route,))


def _outcomes(numbers: Numbers, route: str) -> dict[str, float]:
    """How many of each have ended, from `route, method, status_class, outcome`."""
    found: dict[str, float] = {}
    for labels, row in numbers.get("paraf_requests_total", {}).items():
        if labels[0] == route:
            found[labels[-1]] = found.get(labels[-1], 0) + row[0]
    return found
