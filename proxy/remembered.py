"""What was found out about a text that comes again and again, in a table that cannot grow."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

K = TypeVar("K", bound=str | Sequence[str | bytes])
V = TypeVar("V")

MOST: Final = 512
LONGEST: Final = 4096
"""Characters of a key that is kept. Keys are what callers send: neither their number nor their length is ours."""


class Bounded(dict[K, V]):
    """A table whose keys are texts or rows of texts. A full one begins anew."""

    __slots__ = ()

    def keep(self, key: K, value: V) -> None:
        """Unless the key is too long."""
        if sum(map(len, key)) <= LONGEST:
            if len(self) >= MOST:
                self.clear()
            self[key] = value


class Remembered(Bounded[K, V]):
    """`table[key]` is what `find(key)` gives, found once. What raises is not kept."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[K], V]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: K) -> V:
        found = self._find(key)
        self.keep(key, found)
        return found
