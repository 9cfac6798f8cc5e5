"""Ids: Paraf's own for each request, and the external one that a provider wants to be unique in a day."""

import base64
import itertools
import os
import random
import uuid
from collections.abc import Callable
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
    return external_ids(form, length=length, prefix=prefix, randomness=randomness)(now_ms)


def external_ids(
    form: ExternalIdFormat, *, length: int, prefix: str, randomness: random.Random = _QUICK
) -> Callable[[int], str]:
    """What makes such an id at a time, with the least to do for each. Short ones begin with the time of the day, 8
    digits: unique in the day is enough.

    From 16 on the 13 digits of the epoch time leave at least 3 to chance; below, 8 leave up to 7.
    """
    if form == "uuid":
        return lambda _: f"{prefix}{uuid.UUID(int=randomness.getrandbits(128), version=4)}"
    length = min(length, MOST_CHARACTERS - len(prefix))
    if length <= 8:
        return lambda now_ms: prefix + f"{now_ms % _DAY_MS:08}"[-length:]
    rest = length - (8 if length < 16 else 13)
    # 32 bits of chance too many are asked for, so that no digits are favoured.
    bits, most, draw = 4 * rest + 32, 10**rest, randomness.getrandbits
    if length < 16:
        return lambda now_ms: prefix + f"{now_ms % _DAY_MS * most + draw(bits) % most:0{length}}"
    return lambda now_ms: prefix + str(now_ms * most + draw(bits) % most)  # one number: a form costs twice as much
