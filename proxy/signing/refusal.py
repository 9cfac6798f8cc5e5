"""What an answer of the provider means: was the token refused before anything was done, and which code is it?"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.signing.profile import CodeRow, Profile, RefusedRow

HOLD: Final = 65_536
"""Bytes of an answer that are held or copied, and inflated, to classify it."""
_LOOKED_AT: Final = 256
"""Characters of a field that are compared with a pattern."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code`: the provider's, digits only. `code_class` is one of the closed set of the metric."""

    refused: bool
    code: str | None
    code_class: str


class Refusals:
    """One profile's `refused` table and code classes."""

    def __init__(self, profile: Profile) -> None:
        self._rows = profile.refused
        self._field = profile.code_field
        self._classes = profile.code_classes
        self._asked = frozenset(row.status for row in profile.refused)
        rows = [row for rows in profile.code_classes.values() for row in rows]
        self._readable = self._field is not None or any(row.field for row in rows)
        self._unread = {status: self._verdict(status, None) for status in range(200, 600)}
        self.plain = {
            status: verdict
            for status, verdict in self._unread.items()
            if not self.wants(status) and not self.reads(status)
        }
        """What answers mean of which no more than the status need be known."""

    def wants(self, status: int) -> bool:
        """Must an answer of this status be held, to know before its head goes on whether the token was refused?"""
        return status in self._asked

    def reads(self, status: int) -> bool:
        """Does the body of such an answer say more? It is read while it passes."""
        return status >= 400 and self._readable

    def judge(self, status: int, body: Any) -> Verdict:
        """`body`: the parsed answer, None when there is none that can be read."""
        unread = self._unread.get(status) if body is None else None
        return unread or self._verdict(status, body)

    def _verdict(self, status: int, body: Any) -> Verdict:
        code = digits(field_of(body, self._field)) if self._field else None
        refused = any(_fits(row, status, code, body) for row in self._rows)
        return Verdict(refused, code, "token" if refused else self._class(status, code, body))

    def _class(self, status: int, code: str | None, body: Any) -> str:
        for name, rows in self._classes.items():
            if any(_is_of(row, status, code, body) for row in rows):
                return name
        return "provider_fault" if status >= 500 else "ok" if status < 400 else "other"


def _fits(row: RefusedRow, status: int, code: str | None, body: Any) -> bool:
    if row.status != status:
        return False
    if row.code is not None and not (code and row.code.matches(code)):
        return False
    return row.field is None or text_of(field_of(body, row.field)) == row.value


def _is_of(row: CodeRow, status: int, code: str | None, body: Any) -> bool:
    if row.status not in (None, status):
        return False
    if row.code is not None and not (code and row.code.matches(code)):
        return False
    if row.field is None or row.value is None:
        return True
    said = text_of(field_of(body, row.field))
    return said is not None and bool(row.value.matches(said[:_LOOKED_AT]))


def parsed(body: bytes) -> Any:
    """The JSON value of an answer, None when it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def field_of(value: Any, path: str) -> Any:
    """The member at a dotted path, None when it is not there."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def text_of(value: Any) -> str | None:
    """A text, number or flag as JSON writes it; None for nothing and for what has parts."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def digits(value: Any) -> str | None:
    """A provider's code as it may be repeated: digits, at most 12."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if re.fullmatch(r"[0-9]{1,12}", text) else None


def inflated(body: bytes, coding: str | None) -> bytes | None:
    """A readable copy of a held answer, at most HOLD bytes of it; None for a coding that we do not read."""
    name = (coding or "identity").strip().lower()
    if name in ("identity", ""):
        return body
    if name not in ("gzip", "x-gzip"):
        return None
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(body, HOLD)
    except zlib.error:
        return None
