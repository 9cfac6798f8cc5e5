"""For how long an idle connection to one origin may be used again: as long as the provider keeps one, and not nearly.

A request that is written while the provider is ending the connection is lost, and nobody can tell whether it was
read. So the pool stays far from the age at which that happens: half of what the provider says or was seen to do.
"""

import math
import re
from typing import Final

SHORTEST: Final = 1.0
"""Seconds. An end that comes sooner is an incident, such as a restart: the way there and back takes its part of it,
and the next may come at any age. A later one is a habit."""
HABIT: Final = 600.0
INCIDENT: Final = 10.0
"""Seconds for which each is kept in mind. During the second no connection is used twice."""

_TIMEOUT: Final = re.compile(r"(?:^|[,;\s])timeout=([0-9]{1,6})(?=$|[,;\s])", re.IGNORECASE)


class Trust:
    """Ages and moments in seconds of one monotonic clock. `keep`: the most that is ever trusted."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._habit = math.inf
        self._habit_until = -math.inf
        self._incident_until = -math.inf
        self._wary_until = -math.inf
        """Both are forgotten."""

    def span(self, now: float) -> float:
        """The age up to which an idle connection is used; 0 is never."""
        if now >= self._wary_until:
            return self._keep
        return 0.0 if now < self._incident_until else self._usual(now)

    def ended(self, age: float, now: float) -> None:
        """The provider ended an idle connection of this age, or spoke on it unasked."""
        if age <= SHORTEST:
            self._incident_until = now + INCIDENT
        elif half(age) <= self._usual(now):
            self._habit, self._habit_until = half(age), now + HABIT
        self._wary_until = max(self._incident_until, self._habit_until)

    def _usual(self, now: float) -> float:
        return min(self._keep, self._habit) if now < self._habit_until else self._keep


def half(age: float) -> float:
    return age / 2 if age > SHORTEST else 0.0


def promised(keep_alive: str | None) -> float:
    """Seconds of the `timeout` in a Keep-Alive header (RFC 2068 section 19.7.1.1), which node and Apache send."""
    found = _TIMEOUT.search(keep_alive or "")
    return float(found[1]) if found else math.inf
