"""The caller's trace, as W3C Trace Context writes it: https://www.w3.org/TR/trace-context/. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.model import Headers

_PARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_STATE: Final = re.compile(r"[ -~]{1,512}")


@dataclass(frozen=True, slots=True)
class Trace:
    """Ids in lower-case hex, of 32 and 16 digits. `parent_id` is the span before ours, where there is one of ours."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""
    parent_id: str | None = None

    def headers(self) -> Headers:
        """What is sent on."""
        parent = ("traceparent", f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}")
        return (parent, ("tracestate", self.state)) if self.state else (parent,)


def traced(parents: Sequence[str], states: Sequence[str] = ()) -> Trace | None:
    """Of the headers' values. None for what is not valid: then there is no trace, and nothing of it is repeated."""
    found = _PARENT.fullmatch(parents[0].strip(" \t")) if len(parents) == 1 else None
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["rest"]):
        return None
    if not int(found["trace"], 16) or not int(found["span"], 16):
        return None
    state = ",".join(states).strip(" \t")
    sampled = bool(int(found["flags"], 16) & 1)
    return Trace(found["trace"], found["span"], sampled, state if _STATE.fullmatch(state) else "")
