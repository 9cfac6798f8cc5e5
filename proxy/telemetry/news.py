"""What tokens and their store have to tell: counted always, said in the log when something changes."""

from typing import Final

from structlog.typing import FilteringBoundLogger

from proxy.model import Account, Token
from proxy.storeforms import StoreKind
from proxy.telemetry.labels import FetchResult
from proxy.telemetry.metrics import Metrics

FIGHT: Final = 2
"""Tokens in a row, refused early, from which on somebody else is suspected: one may be the provider's whim."""
_ADVICE: Final = (
    "the provider refused token after token in the first half of their life: does another system fetch with this "
    "client id? Give it a client id of its own, or let both share one store"
)


class TokenNews:
    """The TokenWatch of `proxy.tokens`."""

    def __init__(self, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        self._metrics = metrics
        self._logger = logger

    def fetched(self, account: Account, result: FetchResult, token: Token | None) -> None:
        self._metrics.fetched(account, result, token)

    def kept(self, account: Account, token: Token) -> None:
        self._metrics.kept(account, token)

    def conflict(self, account: Account, strikes: int) -> None:
        """The store counts strikes for all processes, so each number is told once: so is the advice."""
        self._metrics.conflict(account)
        if strikes == FIGHT:
            self._logger.warning("conflict", account=account.name, advice=_ADVICE)


class StoreNews:
    """The StoreWatch of `proxy.stores`."""

    def __init__(self, kind: StoreKind, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        self._kind = kind
        self._metrics = metrics
        self._logger = logger
        self._down = False
        self._unreadable = False

    def answered(self) -> None:
        if self._down:
            self._logger.info("store", store=self._kind, state="up")
        self._down = False

    def failed(self, reason: str) -> None:
        self._metrics.store_failed(self._kind)
        if not self._down:
            self._logger.error("store", store=self._kind, state="down", reason=reason)
        self._down = True

    def unreadable(self) -> None:
        self._metrics.store_unreadable(self._kind)
        if not self._unreadable:
            advice = "a record was made with another key or version, and is passed over: the metric counts them"
            self._logger.warning("store", store=self._kind, state="unreadable", advice=advice)
        self._unreadable = True
