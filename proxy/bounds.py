"""Bounds of what is held and waited for, and how a process tells and ends: the small nouns of a configuration."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Mode = Literal["sign", "shadow"]
MODES: Final[tuple[Mode, ...]] = ("sign", "shadow")
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "human", "json"]
LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("auto", "human", "json")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`auto` is human on a terminal, JSON elsewhere."""

    level: LogLevel = "info"
    format: LogFormat = "auto"


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """`otlp` is the base address of a collector; without one there are no spans."""

    propagate: bool = False
    otlp: str | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """Seconds: how long listeners stay open after SIGTERM, and how long what is in flight may then take."""

    delay: float = 0.0
    timeout: float = 25.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`body` in bytes; `concurrency`, `math.inf` when off, and `queue` in requests."""

    body: int = 1 << 20
    concurrency: float = 256
    queue: int = 1024


LEAST_ROOM: Final = 64 << 20


def room_for(limits: Iterable[Limits], workers: int) -> int:
    """Bytes that the bodies of all requests may take together, where nothing else is said. Workers do not share room:
    each must be able to hold the largest.
    """
    return max(LEAST_ROOM, max(4, workers) * max((each.body for each in limits), default=0))


@dataclass(frozen=True, slots=True)
class Circuit:
    """Opens after so many `faults` in a row, `math.inf` when off; then lets one request in `probe` seconds through."""

    faults: float = 10
    probe: float = 5.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `total`: from the request's arrival to the answer's head; `idle`: each pause in an answer's body."""

    connect: float = 3.0
    first_byte: float = 30.0
    idle: float = 30.0
    total: float = 60.0
    token: float = 10.0
