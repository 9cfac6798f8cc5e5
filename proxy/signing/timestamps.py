"""Time as providers want it: cut, never rounded; fixed offsets, never the machine's zone.

Jakarta has +07:00 all year.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

JAKARTA: Final = "+07:00"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TimeFormatter = Callable[[int], bytes]
"""From epoch milliseconds to the text of a header."""


def zone(text: str) -> timezone:
    """`+07:00` to a fixed offset. Raises ValueError."""
    found = re.fullmatch(r"([+-])([01][0-9]):([0-5][0-9])", text)
    if not found:
        raise ValueError("must be an offset such as +07:00")
    offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(offset if found[1] == "+" else -offset)


@lru_cache(maxsize=64)
def time_formatter(name: str, offset: str = JAKARTA) -> TimeFormatter:
    """The formatter for a time format of `switches.TIME_FORMATS`, or for `strftime:...` in the given offset."""
    if name == "epoch_ms":
        return lambda now_ms: b"%d" % now_ms
    if name == "epoch_s":
        return lambda now_ms: b"%d" % (now_ms // 1000)
    if name.startswith("strftime:"):
        pattern, local = name.removeprefix("strftime:"), zone(offset)
        return lambda now_ms: _at(now_ms, local).strftime(pattern).encode()
    _, kind, precision = name.split("_")
    place, suffix = (UTC, b"Z") if kind == "z" else (zone(offset), offset.encode())

    behind = b".%03d" + suffix if precision == "ms" else suffix

    @lru_cache(maxsize=2)  # a second has many requests, and they come in order
    def second_of(now_s: int) -> bytes:
        return _at(now_s * 1000, place).replace(tzinfo=None).isoformat(timespec="seconds").encode() + behind

    if precision == "ms":
        return lambda now_ms: second_of(now_ms // 1000) % (now_ms % 1000)
    return lambda now_ms: second_of(now_ms // 1000)


def _at(now_ms: int, place: timezone) -> datetime:
    return (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(place)
