"""For how long an idle connection to one origin may be used again: as long as the provider keeps one, and not nearly.

A request that is written while the provider is ending the connection is lost, and nobody can tell whether it was
read. So the pool stays far from the age at which that happens: half of what the provider says or was seen to do.
"""

import math
import re
from typing import Final

MEMORY: Final = 60.0
"""Seconds for which the age of an ended connection is kept in mind."""
SHORTEST: Final = 1.0
"""Seconds. Ends that come sooner are a way to the provider and back away, or come at random: then none is reused."""

_TIMEOUT: Final = re.compile(r"(?:^|[,;\s])timeout=([0-9]{1,6})(?=$|[,;\s])", re.IGNORECASE)


class Trust:
    """Ages and moments in seconds of one monotonic clock. `keep`: the most that is ever trusted."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._learned = math.inf
        self._until = -math.inf

    def span(self, now: float) -> float:
        """The age up to which an idle connection is used; 0 is never."""
        return min(self._keep, self._learned) if now < self._until else self._keep

    def ended(self, age: float, now: float) -> None:
        """The provider ended an idle connection of this age, or spoke on it unasked."""
        if (learned := half(age)) <= self.span(now):
            self._learned, self._until = learned, now + MEMORY


def half(age: float) -> float:
    return age / 2 if age > SHORTEST else 0.0


def promised(keep_alive: str | None) -> float:
    """Seconds of the `timeout` in a Keep-Alive header (RFC 2068 section 19.7.1.1), which node and Apache send."""
    found = _TIMEOUT.search(keep_alive or "")
    return float(found[1]) if found else math.inf
