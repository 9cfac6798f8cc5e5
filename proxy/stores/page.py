"""A slot as the text of a file, and its moments on the clock of whoever reads it. Pure.

On one host the monotonic clock is shared, so moments count on it and a jump of the wall clock changes nothing. After a
restart of the host, told by its boot id, the time that passed is taken from the wall clock, but never less than none.
"""

import base64
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, NoReturn, TypeVar

from proxy.stores.slot import Kept, Slot

VERSION: Final = 1
_READABLE: Final = (VERSION, VERSION - 1)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Moment:
    """One look at both clocks. `boot`: since which start of the host `monotonic` counts; empty when unknown."""

    boot: str
    monotonic: float
    wall_ms: int


def written(slot: Slot[bytes], at: Moment) -> bytes:
    kept = slot.kept and {**asdict(slot.kept), "form": base64.b64encode(slot.kept.form).decode()}
    page = {"version": VERSION, "written": asdict(at), "slot": {**asdict(slot), "kept": kept}}
    return json.dumps(page, indent=1).encode()


def read(text: bytes, at: Moment) -> Slot[bytes] | None:
    """None when it is not a page of ours."""
    try:
        page = json.loads(text, parse_constant=_refused)
        if page["version"] not in _READABLE:
            return None
        members = page["slot"]
        kept = _kept(members.pop("kept"))
        blank: Slot[bytes] = Slot()
        slot = _made(blank, members)
        return _moved(replace(slot, kept=kept), _shift(_made(Moment("", 0.0, 0), page["written"]), at))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _refused(_: str) -> NoReturn:
    """Infinity and NaN, which are no JSON."""
    raise ValueError


def _kept(members: dict[str, Any] | None) -> Kept[bytes] | None:
    if members is None:
        return None
    form = base64.b64decode(members.pop("form"), validate=True)
    return replace(_made(Kept(b"", "", 0.0, 0), members), form=form)


def _made(like: R, members: dict[str, Any]) -> R:
    """`like` with these members: those of its type alone, and unknown ones, of a newer version, passed over."""
    known = {each.name: type(getattr(like, each.name)) for each in fields(like)}  # type: ignore[arg-type]
    taken = {name: value for name, value in members.items() if name in known}
    if any(type(value) is not known[name] for name, value in taken.items()):
        raise TypeError
    return replace(like, **taken)  # type: ignore[type-var]


def _shift(then: Moment, now: Moment) -> float:
    """What to add to moments that were written `then`."""
    if then.boot and then.boot == now.boot and then.monotonic <= now.monotonic:
        return 0.0
    passed = max(0, now.wall_ms - then.wall_ms) / 1000
    return now.monotonic - passed - then.monotonic


def _moved(slot: Slot[bytes], shift: float) -> Slot[bytes]:
    kept = slot.kept and replace(slot.kept, ends=slot.kept.ends + shift)
    return replace(slot, kept=kept, leased=slot.leased + shift, called=slot.called + shift, rests=slot.rests + shift)
