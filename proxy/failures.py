"""Why no token could be had, in our own words, and how long that stands before anybody asks again."""

from dataclasses import dataclass, replace
from typing import Final

from proxy.errors import FaultKind, ProxyError, TokenFault
from proxy.model import Account
from proxy.telemetry.labels import FetchResult

LONGEST_PAUSE: Final = 10.0
"""Seconds between tries while token calls fail: recovery takes no longer once the fault has ended."""
LONGEST_RETRY_AFTER: Final = 300.0
"""Seconds for which a provider can hold token calls off by its Retry-After."""
STORE_PAUSE: Final = 1.0
"""Seconds between tries while the store is down, and so the most that recovery lags behind it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """`until`: the moment, in monotonic seconds, before which it stands and callers are told at once."""

    result: FetchResult
    reason: str
    until: float = 0.0
    code: str = "token_unavailable"
    retry_after: float | None = None
    """What the provider asked for."""
    provider_status: int | None = None
    provider_code: str | None = None

    def lasting(self, until: float) -> "Failure":
        return replace(self, until=until)

    def error(self, account: Account, now: float) -> ProxyError:
        return ProxyError(
            self.code,
            f"account {account.name}: {self.reason}",
            sent="no",
            retry_after=self.until - now if self.until > now else None,
            provider_status=self.provider_status,
            provider_code=self.provider_code,
        )


_FAULTS: Final[dict[FaultKind, tuple[FetchResult, str]]] = {
    "rejected": ("rejected", "the provider refused the token call"),
    "malformed": ("error", "the provider's answer to the token call holds no usable token"),
    "token_expired_on_arrival": ("error", "the provider gave a token that had already ended"),
    "upstream": ("error", "the provider failed in the token call"),
    "timeout": ("timeout", "the provider did not answer the token call in time"),
}
ELSEWHERE: Final = Failure("error", "the token call that another process made has failed")
STORE_DOWN: Final = Failure("error", "the store of tokens does not answer", code="store_unavailable")


SPARED: Final = Failure(
    "error", "it is exclusive: a new token would end the live one, and only --take-token lets this command fetch it"
)


def late(account: Account) -> Failure:
    return Failure("timeout", f"no token within {account.patience:g} s")


def failure(error: Exception) -> Failure:
    """Of what a token call raised."""
    match error:
        case TokenFault():
            told = _FAULTS[error.kind]
            return Failure(
                *told,
                retry_after=error.retry_after,
                provider_status=error.provider_status,
                provider_code=error.provider_code,
            )
        case ProxyError():
            result: FetchResult = "timeout" if error.code == "upstream_timeout" else "error"
            return Failure(
                result,
                f"the token call did not get through ({error.code})",
                retry_after=error.retry_after,
                provider_status=error.provider_status,
                provider_code=error.provider_code,
            )
        case TimeoutError():
            return Failure(*_FAULTS["timeout"])
        case _:
            return Failure("error", f"a fault in Paraf during the token call ({type(error).__name__})")


def rest(account: Account, failed: Failure, failures: int, *, spent: float, jitter: float) -> float:
    """Seconds from now until the next token call may start.

    Counted from the start of the failed call, `spent` seconds ago, so that a provider that hangs is tried again as
    soon as one that fails at once; only a Retry-After counts from the answer. `failures`: those in a row before it.
    """
    pause = min(account.min_gap * 2.0 ** min(failures, 64), LONGEST_PAUSE) * (1 - jitter / 4)
    since_start = max(pause, account.min_gap) - spent
    if failed.retry_after is None:
        return max(since_start, 0.0)
    return max(account.min_gap - spent, min(failed.retry_after, LONGEST_RETRY_AFTER), 0.0)
