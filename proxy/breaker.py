"""Whether a route's provider is asked at all: after faults in a row it is left alone, but for a probe now and then.

No clock and no timer: every call is told the moment, in seconds of a monotonic clock.
"""

from dataclasses import dataclass
from typing import Final, Literal

from proxy.errors import ProxyError
from proxy.settings import Circuit
from proxy.telemetry.labels import CircuitState

Verdict = Literal["alive", "fault", "unknown"]
"""What the end of one request says of the provider. `unknown`: it was not asked, or nobody waited for its answer."""

FAULTS: Final = frozenset({"upstream_timeout", "upstream_unreachable", "upstream_tls", "upstream_protocol"})
"""Our errors that are the provider's doing."""
_OF_THE_REQUEST: Final = frozenset({501, 505})
"""5xx that speak of the method or version that was sent: else a caller could close the route to all others."""


def verdict_on(status: int) -> Verdict:
    """Of a whole answer. A 4xx, a refused token and a 429 too come from a provider that works."""
    return "fault" if status >= 500 and status not in _OF_THE_REQUEST else "alive"


@dataclass(frozen=True, slots=True)
class Trial:
    """One request that was let through. A probe has a moment of its own; the others of an era are one and the same."""

    era: int
    moment: float = 0.0
    is_probe: bool = False


class Breaker:
    """Opens after `rule.faults` in a row; then one request in `rule.probe` seconds is let through.

    Counted from the start of the last probe: a provider that hangs is tried again as soon as one that fails at once,
    and its recovery is seen in time though an older probe still waits. What was let through before the circuit
    opened or closed says nothing any more: a hundred time-outs that began in an outage must not outlive it.
    """

    def __init__(self, rule: Circuit) -> None:
        self.rule = rule
        self._row = 0
        self._era = 0
        self._open = False
        self._next_probe = 0.0
        self._probes: set[Trial] = set()
        self.usual: Trial | None = Trial(0)
        """What every request gets while the circuit is closed; None while it is open."""

    def state(self, now: float) -> CircuitState:
        """Half-open once a probe is due, though nobody calls: left alone is only who would be refused."""
        if not self._open:
            return "closed"
        return "half-open" if self._probes or now >= self._next_probe else "open"

    def check(self, now: float) -> None:
        """Raises ProxyError `circuit_open` when `enter` would: for before a request is made to wait."""
        if self._open and now < self._next_probe:
            raise ProxyError(
                "circuit_open",
                "the provider failed many times in a row and is left alone for a moment",
                retry_after=self._next_probe - now,
            )

    def enter(self, now: float) -> Trial:
        """Raises ProxyError `circuit_open`. Whoever is let through must `settle` it."""
        if self.usual is not None:
            return self.usual
        self.check(now)
        trial = Trial(self._era, now, is_probe=True)
        self._probes.add(trial)
        self._next_probe = now + self.rule.probe
        return trial

    def settle(self, trial: Trial, verdict: Verdict, now: float) -> bool:
        """Has the state changed by it?"""
        if verdict == "alive" and trial is self.usual:
            self._row = 0
            return False
        before = self.state(now)
        if trial.era == self._era:
            self._probes.discard(trial)
            self._count(trial, verdict, now)
        return self.state(now) != before

    def _count(self, trial: Trial, verdict: Verdict, now: float) -> None:
        if verdict == "alive":
            self._row = 0
            self._turn(to_open=False)
        elif verdict == "fault":
            self._row += 1
            if self._row >= self.rule.faults and not self._open:
                self._next_probe = now + self.rule.probe
                self._turn(to_open=True)
        elif trial.is_probe and trial.moment + self.rule.probe == self._next_probe:
            self._next_probe = now  # the newest probe has found out nothing: the next request is one

    def _turn(self, *, to_open: bool) -> None:
        if to_open != self._open:
            self._open = to_open
            self._era += 1
            self.usual = None if to_open else Trial(self._era)
            self._row = 0
            self._probes.clear()
