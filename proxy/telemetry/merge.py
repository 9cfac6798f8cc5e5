"""The numbers of several workers as those of one. Pure.

prometheus-client's multiprocess mode was measured: it is chosen by an environment variable at import, loses Info,
leaves its files behind and costs three times as much a count.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from proxy.telemetry.families import FAMILIES, Labels, Merged, Numbers

Row = Sequence[float]


class Rule(NamedTuple):
    """`combine` makes one row of many. `outlives`: what an ended worker told stays in. A counter that went down would
    look like a restart.
    """

    combine: Callable[[Sequence[Row]], Row]
    outlives: bool


def _each(combine: Callable[[Iterable[float]], float]) -> Callable[[Sequence[Row]], Row]:
    """Number by number."""
    return lambda rows: tuple(map(combine, zip(*rows, strict=True)))


def _oldest(times: Iterable[float]) -> float:
    """0 is none yet: a worker that starts takes no time away from the others."""
    return min((time for time in times if time), default=0.0)


def _latest(rows: Sequence[Row]) -> Row:
    """A worker through which nobody calls would tell for ever what was so long ago."""
    newest = max(rows, key=itemgetter(-1))
    return tuple(newest)


RULES: Final[dict[Merged, Rule]] = {
    "total": Rule(_each(sum), outlives=True),
    "present": Rule(_each(sum), outlives=False),
    "newest": Rule(_each(max), outlives=True),
    "oldest": Rule(_each(_oldest), outlives=False),
    "worst": Rule(_each(max), outlives=False),
    "latest": Rule(_latest, outlives=False),
    "same": Rule(_each(max), outlives=False),
}


def merge(told: Sequence[Numbers]) -> Numbers:
    """One of them may lack what another has: a metric, or a series of it."""
    return {
        name: _merged(RULES[family.merged], [each.get(name, {}) for each in told]) for name, family in FAMILIES.items()
    }


def _merged(rule: Rule, told: Sequence[Mapping[Labels, Row]]) -> dict[Labels, Row]:
    everywhere = dict.fromkeys(labels for each in told for labels in each)
    return {labels: rule.combine([each[labels] for each in told if labels in each]) for labels in everywhere}


def lasting(told: Numbers) -> Numbers:
    """What remains of a worker that has ended."""
    return {name: rows for name, rows in told.items() if RULES[FAMILIES[name].merged].outlives}


def current(told: Numbers, configured: Numbers) -> Numbers:
    """Without the gauges of an account that a reload took away: an ended worker could not forget them any more."""
    return {
        name: {labels: row for labels, row in rows.items() if labels in configured[name]} if _is_kept(name) else rows
        for name, rows in told.items()
    }


def _is_kept(name: str) -> bool:
    return FAMILIES[name].kind == "gauge" and RULES[FAMILIES[name].merged].outlives


def to_json(numbers: Numbers) -> str:
    """Without what is 0: whoever merges has every series of the configuration."""
    return json.dumps({name: [[*row] for row in rows.items() if any(row[1])] for name, rows in numbers.items()})


def from_json(text: str) -> Numbers:
    return {name: {tuple(labels): values for labels, values in rows} for name, rows in json.loads(text).items()}
