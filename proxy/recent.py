"""The last refused requests of the routes that ask for it: a few, small, and without their secrets."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

from proxy.generation import Lane
from proxy.model import SignedRequest, UpstreamResponse
from proxy.signing.signer import Call
from proxy.telemetry.ended import Ended
from proxy.telemetry.story import Refusal, Story

_REFUSAL: Final = attrgetter("refusal")
Row = dict[str, Any]
Inquest = Callable[[Lane, Call, SignedRequest, UpstreamResponse], Refusal | None]


class Recent:
    """Of requests that have `ended`. `lanes`: those in service; with a reload others come, and keep other numbers."""

    def __init__(self, lanes: Callable[[], Mapping[str, Lane]], ended: Ended) -> None:
        self._lanes = lanes
        self._up_to_now = ended.flush
        ended.tells.append(self.told)
        self._rows: dict[str, deque[Row]] = {}
        self._since: dict[str, int] = {}
        """By route, the first generation whose refusals count: a request of one before may end after the reload."""

    def told(self, stories: Iterable[Story]) -> None:
        for story in filter(_REFUSAL, stories):
            self._keep(story)

    def follow(self, before: Mapping[str, Lane], generation: int) -> None:
        """A reload: routes that remember none by now, or are another merchant's, forget what is of those before."""
        lanes = self._lanes()
        for name, old in before.items():
            new = lanes.get(name)
            if new is None or not new.remembers or _merchant(new) != _merchant(old):
                self._rows.pop(name, None)
                self._since[name] = generation

    def _keep(self, story: Story) -> None:
        if story.generation < self._since.get(story.route, 0):
            return
        most = self._most(story.route)
        rows = self._rows.get(story.route)
        if rows is None or rows.maxlen != most:
            rows = self._rows[story.route] = deque(rows or (), maxlen=most)
        rows.append(_row(story))

    def rows(self) -> list[Row]:
        """The newest first."""
        self._up_to_now()
        rows = [row for rows in self._rows.values() for row in rows]
        return sorted(rows, key=lambda row: str(row["at"]), reverse=True)

    def _most(self, route: str) -> int:
        lane = self._lanes().get(route)
        return lane.remembers if lane else 0


def inquest_of(lanes: Iterable[Lane]) -> Inquest | None:
    """What looks at a refused request: loaded when a route asks for it."""
    if not any(lane.remembers for lane in lanes):
        return None
    from proxy.inquest import inquest  # noqa: PLC0415 -- dear to load

    return inquest


def _merchant(lane: Lane) -> tuple[object, ...]:
    return lane.route.base, lane.account.identity


def _written(ended_ms: int) -> str:
    return datetime.fromtimestamp(ended_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(story: Story) -> Row:
    refusal = story.refusal
    return {
        "at": _written(story.ended_ms),
        "route": story.route,
        "request_id": story.request_id,
        "external_id": story.external_id,
        "method": story.method[:16],
        "target": refusal.target if refusal else "",
        "status": story.provider_status,
        "provider_code": story.provider_code,
        "code_class": story.code_class,
        "outcome": story.outcome,
        "attempts": story.sendings,
        "generation": story.generation,
        "total_ms": round(story.total * 1000, 1),
        "findings": list(refusal.findings) if refusal else [],
    }
