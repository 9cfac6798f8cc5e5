"""What one caller may take, and how it can fail us."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one caller may take. `line` in bytes, of the request line and of each header; `headers` counts them."""

    header_seconds: float = 10
    body_seconds: float = 15
    idle_seconds: float = 75
    line: int = 8190
    headers: int = 128
    connections: int = 4096


class CallerLeft(Exception):
    """Nobody is there to write to."""


class BrokenBody(Exception):
    """What follows the head is no body."""
