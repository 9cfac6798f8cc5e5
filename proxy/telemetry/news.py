"""What tokens and their store have to tell: counted always, said in the log when something changes."""

from collections.abc import Callable, Iterable
from typing import Final

from structlog.typing import FilteringBoundLogger

from proxy.errors import Finding
from proxy.model import Account, Token
from proxy.storeforms import StoreKind
from proxy.telemetry.labels import FetchResult
from proxy.telemetry.metrics import Metrics

FIGHT: Final = 2
"""Tokens in a row, refused early, from which on somebody else is suspected: one may be the provider's whim."""
_WELL: Final = 0.8
"""Of the distance that is warned of: a Date has whole seconds, and a clock at the border would be told of for ever."""
_NTP: Final = (
    "the clocks of this machine and of the provider differ by more than half of what the provider lets pass: look at "
    "NTP here (a positive skew: this machine is behind); if this clock is right, ask the provider"
)
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


class RequestNews:
    """The Watch of `proxy.pipeline`. `window`: the seconds by which a route's provider lets a timestamp differ; None
    once the route leads elsewhere: an old answer says nothing of the clock there.

    Past half of it a clock that drifts on will soon have every request refused: said once, and again when it is well.
    The signed time stays this machine's: a made-up one would be a lie.
    """

    def __init__(
        self, metrics: Metrics, logger: FilteringBoundLogger, window: Callable[[str], float | None], off: set[str]
    ) -> None:
        """`off`: the routes of which it was said that the clocks differ; it outlives a reload."""
        self.arrived = metrics.arrived
        self.attempt = metrics.attempt
        self._metrics = metrics
        self._logger = logger
        self._window = window
        self._far = off

    def skew(self, route: str, seconds: float) -> None:
        window = self._window(route)
        if window is None:
            return
        self._metrics.skew(route, seconds)
        far, part = abs(seconds), window / 2
        if far > part and route not in self._far:
            self._far.add(route)
            self._logger.warning("clock", route=route, state="off", skew_s=seconds, window_s=window, advice=_NTP)
        elif far <= part * _WELL and route in self._far:
            self._far.discard(route)
            self._logger.info("clock", route=route, state="well", skew_s=seconds)


class ReloadNews:
    """What became of a reload: every finding on a line of its own, with its place in the file."""

    def __init__(self, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        self._metrics = metrics
        self._logger = logger

    def took(self, generation: int, why: str, warnings: Iterable[Finding]) -> None:
        for warning in warnings:
            self._logger.warning("configuration", finding=str(warning))
        self._logger.info("reload", state="done", why=why, generation=generation)

    def refused(self, generation: int, why: str, findings: Iterable[Finding]) -> None:
        """`generation`: that which runs on."""
        self._metrics.refused()
        for finding in findings:
            tell = self._logger.error if finding.severity == "error" else self._logger.warning
            tell("configuration", finding=str(finding))
        words = "what ran before runs on"
        self._logger.error("reload", state="refused", why=why, generation=generation, words=words)


class StoreNews:
    """The StoreWatch of `proxy.stores`."""

    def __init__(self, kind: StoreKind, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        self._kind = kind
        self._metrics = metrics
        self._logger = logger
        self._down = False
        self._unreadable: set[tuple[str, ...]] = set()
        """Identities of accounts of whose record it was said: one that is read does not make the others news again."""

    def answered(self) -> None:
        if self._down:
            self._logger.info("store", store=self._kind, state="up")
        self._down = False

    def failed(self, reason: str) -> None:
        self._metrics.store_failed(self._kind)
        if not self._down:
            self._logger.error("store", store=self._kind, state="down", reason=reason)
        self._down = True

    def readable(self, account: Account) -> None:
        self._unreadable.discard(account.identity)

    def unreadable(self, account: Account) -> None:
        self._metrics.store_unreadable(self._kind)
        if account.identity not in self._unreadable:
            advice = "a record was made with another key or version, and is passed over: the metric counts them"
            self._logger.warning("store", store=self._kind, state="unreadable", account=account.name, advice=advice)
        self._unreadable.add(account.identity)
