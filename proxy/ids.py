"""Ids: Paraf's own for each request, and the external one that a provider wants to be unique in a day."""

import base64
import itertools
import os
import random
import uuid
from typing import Final, Literal

ExternalIdFormat = Literal["digits", "uuid"]

MOST_CHARACTERS: Final = 36
"""Of a SNAP X-EXTERNAL-ID, prefix included."""

_DAY_MS: Final = 86_400_000
_SYSTEM: Final = random.SystemRandom()
_QUICK: Final = random.Random()  # noqa: S311 -- external ids are to be unique, not secret
"""Started from the system's randomness, and again in a forked process: no system call for each id."""
os.register_at_fork(after_in_child=_QUICK.seed)


class RequestIds:
    """26 characters of a-z and 0-9: an unguessable start of this process's own, and a counter behind it.

    Made without a system call each. A forked process needs its own.
    """

    def __init__(self, randomness: random.Random = _SYSTEM) -> None:
        self._start = base64.b32encode(randomness.randbytes(10)).decode().lower()
        self._next = itertools.count().__next__

    def request_id(self) -> str:
        return f"{self._start}{self._next():010x}"


def external_id(
    form: ExternalIdFormat, *, length: int, prefix: str, now_ms: int, randomness: random.Random = _QUICK
) -> str:
    """`length` digits, or a random UUID, behind the prefix. Digits are cut so that all fits MOST_CHARACTERS."""
    if form == "uuid":
        return f"{prefix}{uuid.UUID(int=randomness.getrandbits(128), version=4)}"
    return prefix + _digits(min(length, MOST_CHARACTERS - len(prefix)), now_ms, randomness)


def _digits(length: int, now_ms: int, randomness: random.Random) -> str:
    """The time, then random digits. Short ones begin with the time of the day, 8 digits: unique in the day is enough.

    From 16 on the 13 digits of the epoch time leave at least 3 to chance; below, 8 leave up to 7.
    """
    time = str(now_ms) if length >= 16 else f"{now_ms % _DAY_MS:08}"
    rest = length - len(time)
    chance = randomness.getrandbits(4 * rest + 32) % 10**rest if rest > 0 else 0  # 32 bits too many: none is favoured
    return f"{time}{chance:0{rest}}" if rest > 0 else time[-length:]
