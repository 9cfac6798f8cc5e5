"""The last refused requests of the routes that ask for it: a few, small, and without their secrets."""

from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from proxy.model import Clock
from proxy.telemetry.story import Story

Row = dict[str, Any]


class Recent:
    """`kept`: by route, how many are kept; routes and numbers may change with a reload."""

    def __init__(self, kept: Callable[[], Mapping[str, int]], clock: Clock) -> None:
        self._kept = kept
        self._clock = clock
        self._rows: dict[str, deque[Row]] = {}

    def told(self, story: Story) -> None:
        most = self._kept().get(story.route, 0)
        rows = self._rows.get(story.route)
        if rows is None or rows.maxlen != most:
            rows = self._rows[story.route] = deque(rows or (), maxlen=most)
        rows.append(_row(story, self._clock.now_ms()))

    async def rows(self, _: Any) -> list[Row]:
        """An Answerer of `refusals`: the newest first."""
        kept = self._kept()
        rows = [row for route, rows in self._rows.items() if kept.get(route) for row in rows]
        return sorted(rows, key=lambda row: str(row["at"]), reverse=True)


def _row(story: Story, now_ms: int) -> Row:
    refusal = story.refusal
    return {
        "at": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
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
