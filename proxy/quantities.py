"""Shapes of numbers with a unit: durations and sizes."""

import re
from dataclasses import dataclass
from typing import Any, Final

from proxy.shape import BAD, scalar
from proxy.source import Node, Path, Report


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit: `3s`, `500ms`, `1MiB`. The value is in the base unit."""

    units: dict[str, float]
    minimum: float
    maximum: float
    words: str

    def read(self, node: Node, path: Path, report: Report) -> Any:
        text = scalar(node, path, report, self.words)
        if text is None:
            return BAD
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", text)
        if not found or found[2] not in self.units:
            report.add(node, path, f"must be {self.words}")
            return BAD
        value = float(found[1]) * self.units[found[2]]
        if self.minimum <= value <= self.maximum:
            return value
        report.add(node, path, f"must be from {self._written(self.minimum)} to {self._written(self.maximum)}")
        return BAD

    def _written(self, value: float) -> str:
        name, unit = ([("", 1.0)] + [each for each in self.units.items() if each[1] <= value])[-1]
        return f"{value / unit:g}{name}"

    def schema(self) -> dict[str, Any]:
        units = "|".join(self.units)
        return {"type": "string", "pattern": rf"^[0-9]+(\.[0-9]+)? ?({units})$", "description": self.words}


SIZES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def size_text(count: int) -> str:
    """As one writes it, and exact."""
    return next(f"{count // unit}{name}" for name, unit in reversed(SIZES.items()) if count % unit == 0)


def duration(minimum: float = 0.001, maximum: float = 86_400.0) -> Quantity:
    """Seconds as float."""
    return Quantity({"ms": 0.001, "s": 1, "m": 60, "h": 3600}, minimum, maximum, "a duration such as 500ms, 3s or 1m")


def size(minimum: int = 1, maximum: int = 1 << 30) -> Quantity:
    """Bytes."""
    return Quantity(
        {name: float(unit) for name, unit in SIZES.items()}, minimum, maximum, "a size such as 64KiB or 1MiB"
    )
