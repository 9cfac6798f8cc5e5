"""One instant as signers write it, and back: right forms, and those that go wrong in practice."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from proxy.signing.timestamps import time_formatter, zone

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ISO: Final = re.compile(
    r"(20\d\d-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)

_COLON: Final = r"([+-]\d\d):(\d\d)$"
_ZONE: Final = r"(?:Z|[+-]\d\d:\d\d)$"
_TAIL: Final = r"(Z|[+-]\d\d:\d\d)$"
_REST: Final = r"^(.*)T(.*?)(?:Z|[+-]\d\d:\d\d)$"


@dataclass(frozen=True, slots=True)
class Spelling:
    """A way to write a time. `words` complete "the time is ..."."""

    name: str
    words: str
    form: str
    offset: str = "+00:00"
    shift: int = 0
    """Seconds by which its digits are beside the truth: those of another zone under this one's name."""
    cut: tuple[str, str] = ("", "")
    """A regular expression for what is written otherwise at the end, and what instead."""

    def write(self, at_ms: int) -> str:
        text = time_formatter(self.form, self.offset)(at_ms + self.shift * 1000).decode()
        return re.sub(*self.cut, text) if self.cut[0] else text


def spellings(offset: str) -> Iterator[Spelling]:
    """`offset`: the provider's own zone."""
    ahead = int((zone(offset).utcoffset(None) or timedelta()).total_seconds())
    for precision, ms in (("s", ""), ("ms", " and milliseconds")):
        yield from _iso(f"iso_offset_{precision}", f"iso_z_{precision}", offset, ahead, ms)
    yield Spelling("epoch_s", "seconds since 1970", "epoch_s")
    yield Spelling("epoch_ms", "milliseconds since 1970", "epoch_ms")
    yield Spelling("epoch_s_000", "seconds since 1970 with 000 behind", "epoch_s", cut=("$", "000"))
    yield Spelling("iso_offset_s_000", f"local with .000 and {offset}", "iso_offset_s", offset, 0, (_TAIL, r".000\1"))
    yield Spelling("iso_z_s_000", "in UTC with .000 and Z", "iso_z_s", cut=(_TAIL, r".000\1"))


def _iso(local: str, utc: str, offset: str, ahead: int, ms: str) -> Iterator[Spelling]:
    plain = offset.replace(":", "")
    yield Spelling(local, f"in local time with {offset}{ms}", local, offset)
    yield Spelling(utc, f"in UTC with Z{ms}", utc)
    yield Spelling(f"{utc}_offset", f"in UTC with +00:00{ms}", local)
    yield Spelling(f"{local}_utc_digits", f"the digits of UTC under {offset}{ms}", local, offset, -ahead)
    yield Spelling(f"{utc}_local_digits", f"the digits of {offset} under Z{ms}", utc, shift=ahead)
    yield Spelling(f"{local}_no_colon", f"with {plain}{ms}", local, offset, 0, (_COLON, r"\1\2"))
    yield Spelling(f"{local}_bare", f"in local time without an offset{ms}", local, offset, 0, (_ZONE, ""))
    yield Spelling(f"{utc}_bare", f"in UTC without an offset{ms}", utc, cut=(_ZONE, ""))
    yield Spelling(f"{local}_blank", f"in local time with a blank for the T{ms}", local, offset, 0, (_REST, r"\1 \2"))


def instant_ms(text: str, offset: str) -> int | None:
    """Epoch milliseconds of a time in any form; without a zone of its own it is taken to be in `offset`."""
    if re.fullmatch(r"\d{10}|\d{13}", text, re.ASCII):
        return int(text) * (1000 if len(text) < 12 else 1)
    found = _ISO.fullmatch(text)
    if not found:
        return None
    place = found[4] or offset
    written = f"{found[1]}T{found[2]}.{(found[3] or '0')[:3].ljust(3, '0')}{place.upper()}"
    try:
        return (datetime.fromisoformat(written) - _EPOCH) // timedelta(milliseconds=1)
    except ValueError:
        return None
