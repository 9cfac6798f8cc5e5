"""The closed sets that metric labels and log fields are drawn from: nothing that a caller sent becomes one."""

from typing import Final, Literal, get_args

FetchResult = Literal["ok", "rejected", "error", "timeout"]
AttemptReason = Literal["first", "healed", "reconnect"]
CircuitState = Literal["closed", "half-open", "open"]
CodeClass = Literal["ok", "token", "signature", "time", "duplicate", "permission", "provider_fault", "other"]
ShadowResult = Literal["same", "differs"]

FETCH_RESULTS: Final[tuple[FetchResult, ...]] = get_args(FetchResult)
CIRCUIT_STATES: Final[tuple[CircuitState, ...]] = get_args(CircuitState)
"""A gauge shows the place in this order: of several processes the worst is the largest."""
ATTEMPT_REASONS: Final[tuple[AttemptReason, ...]] = get_args(AttemptReason)
CODE_CLASSES: Final[tuple[CodeClass, ...]] = get_args(CodeClass)
SHADOW_RESULTS: Final[tuple[ShadowResult, ...]] = get_args(ShadowResult)

NO_ROUTE: Final = "none"

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_STATUS_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class _Labels(dict[str, str]):
    def __missing__(self, method: str) -> str:
        return "other"


method_label: Final = _Labels(zip(_METHODS, _METHODS, strict=True)).__getitem__
"""A method is a text of the caller's choice; an unknown one is `other`."""


def status_class(status: int) -> str:
    return _STATUS_CLASSES[status // 100 if 100 <= status < 600 else 0]
