"""What a process that serves says of its routes: for the status page, and never a secret."""

from collections.abc import Awaitable, Callable
from typing import Any

from proxy.generation import Generation, Lane
from proxy.telemetry.families import Numbers
from proxy.telemetry.labels import CIRCUIT_STATES

Row = dict[str, Any]


class Overview:
    """`refusals`: the rows of those that are remembered."""

    def __init__(
        self, generation: Callable[[], Generation], numbers: Callable[[], Numbers], refusals: Callable[[], list[Row]]
    ) -> None:
        self._generation = generation
        self._numbers = numbers
        self._kept = refusals

    def by_word(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        return {"routes": self._routes, "refusals": self._refusals}

    async def _refusals(self, _: Any) -> list[Row]:
        return self._kept()

    async def _routes(self, _: Any) -> list[Row]:
        """One row for each route, in the order of the file."""
        numbers = self._numbers()
        return [_row(lane, numbers) for lane in self._generation().lanes.values()]


def _row(lane: Lane, numbers: Numbers) -> Row:
    name = lane.route.name
    skew, read_at = numbers["paraf_clock_skew_seconds"][(name,)]
    return {
        "route": name,
        "provider": lane.profile.name,
        "environment": lane.account.environment or None,
        "upstream": lane.route.base.text,
        "account": lane.account.name,
        "circuit": CIRCUIT_STATES[int(_of(numbers, "paraf_circuit_state", name))],
        "skew_s": skew,
        "skew_at": read_at,
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
