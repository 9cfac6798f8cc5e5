"""What the head of an answer may hold, and what a line heeds in it."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from proxy.headers import BODILESS, PLACES, decoded_names
from proxy.model import Fields
from proxy.outbound.trust import half, promised
from proxy.remembered import Remembered

LINE: Final = 8190
"""Bytes of one line of a head."""
LINES: Final = 128
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Unfit(Exception):
    """A head that may not be passed on."""


def read(rows: Sequence[tuple[bytes, bytes]]) -> tuple[Fields, float | None]:
    """The fields, and the seconds for which the provider lets the connection rest, if it says so. Raises Unfit.

    A transfer coding besides chunked is hop-by-hop: it would be stripped, and the coded bytes passed for plain.
    """
    if not rows:
        return ((), ()), None
    names, values = zip(*rows)  # noqa: B905 -- pairs
    where = _HEEDED[names]
    if where is None:
        return (names, values), None
    if any(values[place].strip().lower() != b"chunked" for place in where.get("transfer-encoding", ())):
        raise Unfit
    kept = [values[place].decode("utf-8", "replace") for place in where.get("keep-alive", ())]
    return (names, values), half(promised(kept[0])) if kept else None


def lasts(status: int, fields: Fields) -> bool:
    """Does the body last until the connection closes?"""
    return status not in BODILESS and _FRAMING.isdisjoint(PLACES[decoded_names(fields[0])])


def _reason(words: tuple[bytes]) -> bytes:
    (sent,) = words
    if len(sent) > LINE or _CONTROLS.search(sent):
        raise Unfit
    return sent


def _heeded(names: tuple[bytes, ...]) -> Mapping[str, tuple[int, ...]] | None:
    """Where they stand, if there are some among them whose values matter to a line."""
    if len(names) > LINES:
        raise Unfit
    where = PLACES[decoded_names(names)]
    return where if "transfer-encoding" in where or "keep-alive" in where else None


REASONS: Final = Remembered(_reason)
_HEEDED: Final = Remembered(_heeded)
