"""The numbers of several workers as those of one. Pure.

prometheus-client's multiprocess mode was measured: it is chosen by an environment variable at import, loses Info,
leaves its files behind and costs three times as much a count.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from proxy.telemetry.families import FAMILIES, Labels, Merged, Numbers


class Rule(NamedTuple):
    """`outlives`: what an ended worker told stays in. A counter that went down would look like a restart."""

    combine: Callable[[Iterable[float]], float]
    outlives: bool


def _oldest(times: Iterable[float]) -> float:
    """0 is none yet: a worker that starts takes no time away from the others."""
    return min((time for time in times if time), default=0.0)


def _farthest(distances: Iterable[float]) -> float:
    return max(distances, key=abs)


RULES: Final[dict[Merged, Rule]] = {
    "total": Rule(sum, outlives=True),
    "present": Rule(sum, outlives=False),
    "newest": Rule(max, outlives=True),
    "oldest": Rule(_oldest, outlives=False),
    "worst": Rule(max, outlives=False),
    "farthest": Rule(_farthest, outlives=False),
    "same": Rule(max, outlives=False),
}


def merge(told: Sequence[Numbers]) -> Numbers:
    """One of them may lack what another has: a metric, or a series of it."""
    return {
        name: _merged(RULES[family.merged], [each.get(name, {}) for each in told]) for name, family in FAMILIES.items()
    }


def _merged(rule: Rule, told: Sequence[Mapping[Labels, Sequence[float]]]) -> dict[Labels, Sequence[float]]:
    everywhere = dict.fromkeys(labels for each in told for labels in each)
    return {
        labels: tuple(map(rule.combine, zip(*(each[labels] for each in told if labels in each), strict=True)))
        for labels in everywhere
    }


def lasting(told: Numbers) -> Numbers:
    """What remains of a worker that has ended."""
    return {name: rows for name, rows in told.items() if RULES[FAMILIES[name].merged].outlives}


def to_json(numbers: Numbers) -> str:
    """Without what is 0: whoever merges has every series of the configuration."""
    return json.dumps({name: [[*row] for row in rows.items() if any(row[1])] for name, rows in numbers.items()})


def from_json(text: str) -> Numbers:
    return {name: {tuple(labels): values for labels, values in rows} for name, rows in json.loads(text).items()}
