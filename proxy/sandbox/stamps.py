"""Times as providers write them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Literal

TimeForm = Literal["iso", "iso_z", "iso_jakarta", "epoch_ms", "free"]

JAKARTA: Final = timezone(timedelta(hours=7))
"""Jakarta has +07:00 all year."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?"
_ISO: Final = _LOCAL + r"(?:Z|[+-]\d\d:\d\d)"

_FORMS: Final[dict[TimeForm, tuple[str, str]]] = {
    "iso": (_ISO, "yyyy-MM-ddTHH:mm:ss, milliseconds or not, with an offset or Z"),
    "iso_z": (_LOCAL + "Z", "UTC, yyyy-MM-ddTHH:mm:ssZ"),
    "iso_jakarta": (_LOCAL + r"\+07:00", "yyyy-MM-ddTHH:mm:ss+07:00, milliseconds or not"),
    "epoch_ms": (r"\d{13}", "milliseconds since 1970, 13 digits"),
    "free": (_ISO + r"|\d{10}|\d{13}", "ISO with an offset or Z, or seconds or milliseconds since 1970"),
}


def instant_ms(text: str, form: TimeForm) -> int | None:
    """Epoch milliseconds, or None when the text is not of that form."""
    if not re.fullmatch(_FORMS[form][0], text, re.ASCII):
        return None
    if text.isdigit():
        return int(text) if len(text) == 13 else int(text) * 1000
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
    except ValueError:
        return None


def words(form: TimeForm) -> str:
    return _FORMS[form][1]


def spellings(at_ms: int) -> dict[str, str]:
    """One instant in the forms that signers use, by a name for people."""
    local, utc = (_EPOCH.astimezone(zone) + timedelta(milliseconds=at_ms) for zone in (JAKARTA, UTC))
    return {
        "with seconds and +07:00": local.isoformat(timespec="seconds"),
        "with milliseconds and +07:00": local.isoformat(timespec="milliseconds"),
        "in UTC with seconds and Z": f"{utc:%Y-%m-%dT%H:%M:%S}Z",
        "in UTC with milliseconds and Z": utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
        "in UTC with +00:00": utc.isoformat(timespec="seconds"),
        "as epoch seconds": str(at_ms // 1000),
        "as epoch milliseconds": str(at_ms),
    }


def jakarta_day(at_ms: int) -> int:
    """Days since 1970 in Jakarta: the span in which an X-EXTERNAL-ID must not repeat."""
    return (at_ms + 7 * 3_600_000) // 86_400_000
