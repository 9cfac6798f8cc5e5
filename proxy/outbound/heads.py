"""What the head of an answer may hold, and what a line heeds in it."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from proxy.headers import BODILESS, PLACES, decoded_names, names_of, paired, value_of
from proxy.model import Headers
from proxy.outbound.trust import half, promised
from proxy.remembered import Remembered

LINE: Final = 8190
"""Bytes of one line of a head."""
LINES: Final = 128
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Unfit(Exception):
    """A head that may not be passed on."""


def read(fields: Sequence[tuple[bytes, bytes]]) -> tuple[Headers, float | None]:
    """The headers, and the seconds for which the provider lets the connection rest, if it says so. Raises Unfit.

    A transfer coding besides chunked is hop-by-hop: it would be stripped, and the coded bytes passed for plain.
    """
    if not fields:
        return (), None
    names, values = zip(*fields)  # noqa: B905 -- pairs
    texts, where = _ROWS[names]
    # Of all that this cuts off, only blanks and tabs get through the parser.
    headers = paired(texts, map(bytes.rstrip, values), "surrogateescape")
    if where is None:
        return headers, None
    if any(headers[place][1].lower() != "chunked" for place in where.get("transfer-encoding", ())):
        raise Unfit
    return headers, half(promised(value_of(headers, "Keep-Alive"))) if "keep-alive" in where else None


def lasts(status: int, headers: Headers) -> bool:
    """Does the body last until the connection closes?"""
    return status not in BODILESS and _FRAMING.isdisjoint(PLACES[names_of(headers)])


def _reason(words: tuple[bytes]) -> str:
    (sent,) = words
    if len(sent) > LINE or _CONTROLS.search(sent):
        raise Unfit
    return sent.decode("utf-8", "surrogateescape")


def _row(names: tuple[bytes, ...]) -> tuple[tuple[str, ...], Mapping[str, tuple[int, ...]] | None]:
    """The names as text; and where they stand, if there are some among them whose values matter to a line."""
    if len(names) > LINES:
        raise Unfit
    texts = decoded_names(names)
    where = PLACES[texts]
    return texts, where if "transfer-encoding" in where or "keep-alive" in where else None


REASONS: Final = Remembered(_reason)
_ROWS: Final = Remembered(_row)
