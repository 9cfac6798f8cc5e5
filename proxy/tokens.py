"""One live token for each account: fetched once however many wait, ahead of its end, and again after a refusal.

The fetch is a task of its own: a caller who leaves takes nothing from the others. Life is counted on the
monotonic clock alone.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.errors import FaultKind, ProxyError, TokenFault
from proxy.model import Account, Clock, Token
from proxy.stores import TokenStore
from proxy.telemetry.labels import FetchResult

LONGEST_PAUSE: Final = 10.0
"""Seconds between tries while token calls fail: recovery takes no longer once the fault has ended."""
LONGEST_RETRY_AFTER: Final = 300.0
"""Seconds for which a provider can hold token calls off by its Retry-After."""

Fetch = Callable[[Account], Awaitable[Token]]
"""One token call. Raises TokenFault, or ProxyError when the call did not get through."""
Jitter = Callable[[], float]
"""A random number from 0 to 1."""


class TokenWatch(Protocol):
    """Told of every token call at its end; the token with `ok` only."""

    def fetched(self, account: Account, result: FetchResult, token: Token | None) -> None: ...


class Tokens:
    """The tokens of all accounts."""

    def __init__(self, store: TokenStore, fetch: Fetch, clock: Clock, *, jitter: Jitter, watch: TokenWatch) -> None:
        self._means = _Means(store, fetch, clock.monotonic, jitter, watch)
        self._keepers: dict[tuple[str, ...], _Keeper] = {}

    async def get(self, account: Account) -> Token:
        """A token with life left. Raises ProxyError `token_unavailable`, at most `account.patience` seconds later."""
        return await self._keeper(account).get()

    async def replace(self, account: Account, refused: Token) -> Token | None:
        """Another token than the one the provider refused, or None when no other can be had."""
        return await self._keeper(account).replace(refused)

    async def close(self) -> None:
        """Give up every token call under way; who waits for one gets `shutting_down`."""
        await asyncio.gather(*(keeper.close() for keeper in self._keepers.values()))

    def _keeper(self, account: Account) -> "_Keeper":
        keeper = self._keepers.get(account.identity)
        if keeper is None:
            keeper = self._keepers[account.identity] = _Keeper(account, self._means)
        return keeper


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a token call gave no token: its label, our own words, and what the provider said in numbers."""

    result: FetchResult
    reason: str
    retry_after: float | None = None
    provider_status: int | None = None
    provider_code: str | None = None

    def error(self, account: Account, retry_after: float | None) -> ProxyError:
        return ProxyError(
            "token_unavailable",
            f"account {account.name}: {self.reason}",
            sent="no",
            retry_after=retry_after,
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


def _failure(error: Exception) -> _Failure:
    match error:
        case TokenFault():
            told = _FAULTS[error.kind]
            return _Failure(*told, error.retry_after, error.provider_status, error.provider_code)
        case ProxyError():
            result: FetchResult = "timeout" if error.code == "upstream_timeout" else "error"
            reason = f"the token call did not get through ({error.code})"
            return _Failure(result, reason, error.retry_after, error.provider_status, error.provider_code)
        case TimeoutError():
            return _Failure(*_FAULTS["timeout"])
        case _:
            return _Failure("error", f"a fault in Paraf during the token call ({type(error).__name__})")


@dataclass(frozen=True, slots=True)
class _Life:
    """How long one token serves; moments in seconds of the monotonic clock."""

    token: Token
    usable_until: float
    refresh_from: float


def _life(account: Account, token: Token, now: float, jitter: float) -> _Life:
    """Seen first at `now`.

    A token is not sent in the last moments of its life, lest it ends on its way. One that lives shorter than
    `refresh_ahead` is replaced from half of its life on. Of an exclusive one every moment is used.
    """
    if account.exclusive:
        return _Life(token, token.deadline, math.inf)
    left = token.deadline - now
    ahead = min(account.refresh_ahead * (1 + jitter), left / 2)
    return _Life(token, token.deadline - min(5.0, 0.02 * left), token.deadline - ahead)


class _Pause:
    """The moment before which no token call of an account starts, and what went wrong if it is for that.

    Counted from the start of the last call, so that a provider that hangs is tried again as soon as one that fails
    at once; only a Retry-After counts from the answer.
    """

    def __init__(self) -> None:
        self.until = -math.inf
        self.failure: _Failure | None = None
        self._failures = 0

    def left(self, now: float) -> float | None:
        return self.until - now if self.until > now else None

    def after_success(self, started: float, min_gap: float) -> None:
        self.until, self.failure, self._failures = started + min_gap, None, 0

    def after_failure(self, failure: _Failure, *, started: float, now: float, min_gap: float, jitter: float) -> None:
        pause = min(min_gap * 2.0 ** min(self._failures, 64), LONGEST_PAUSE) * (1 - jitter / 4)
        self.until = started + max(pause, min_gap)
        if failure.retry_after is not None:
            self.until = max(started + min_gap, now + min(failure.retry_after, LONGEST_RETRY_AFTER))
        self.failure = failure
        self._failures += 1


@dataclass(frozen=True, slots=True)
class _Means:
    """What every account's keeper works with."""

    store: TokenStore
    fetch: Fetch
    now: Callable[[], float]
    jitter: Jitter
    watch: TokenWatch


class _Keeper:
    """The token of one account."""

    def __init__(self, account: Account, means: _Means) -> None:
        self._account = account
        self._means = means
        self._now = means.now
        self._life: _Life | None = None
        self._pause = _Pause()
        self._errand: asyncio.Task[Token | _Failure] | None = None

    async def get(self) -> Token:
        kept = await self._kept()
        if kept is None:
            return await self._obtain()
        now = self._now()
        if now >= kept.refresh_from and now >= self._pause.until:
            self._under_way(kept.token)
        return kept.token

    async def replace(self, refused: Token) -> Token | None:
        await self._means.store.drop(self._account, refused)
        kept = await self._kept()
        if kept is not None:
            return kept.token
        try:
            return await self._obtain()
        except ProxyError:
            return None

    async def close(self) -> None:
        if self._errand is not None:
            self._errand.cancel()
            await asyncio.wait({self._errand})

    async def _kept(self) -> _Life | None:
        token = await self._means.store.get(self._account)
        if token is None:
            return None
        life = self._life
        if life is None or life.token != token:
            life = self._first_sight(token)
        return life if self._now() < life.usable_until else None

    def _first_sight(self, token: Token) -> _Life:
        self._life = _life(self._account, token, self._now(), self._means.jitter())
        return self._life

    async def _obtain(self) -> Token:
        """The token of the call under way, or of a new one unless the last one's failure forbids it yet."""
        if self._pause.failure and (left := self._pause.left(self._now())):
            raise self._pause.failure.error(self._account, left)
        errand = self._under_way(None)
        # Not wait_for: that would end the call of all when one of them leaves.
        await asyncio.wait({errand}, timeout=self._account.patience)
        return self._brought(errand)

    def _brought(self, errand: asyncio.Task[Token | _Failure]) -> Token:
        if not errand.done():
            late = _Failure("timeout", f"no token within {self._account.patience:g} s")
            raise late.error(self._account, None)
        if errand.cancelled():
            raise ProxyError("shutting_down", "the token call was given up")
        brought = errand.result()
        if isinstance(brought, _Failure):
            raise brought.error(self._account, self._pause.left(self._now()))
        return brought

    def _under_way(self, worn: Token | None) -> asyncio.Task[Token | _Failure]:
        if self._errand is None or self._errand.done():
            self._errand = asyncio.create_task(self._run(worn))
        return self._errand

    async def _run(self, worn: Token | None) -> Token | _Failure:
        """Bring another token than the worn one, by a call unless the store has it by now."""
        await asyncio.sleep(self._pause.until - self._now())
        kept = await self._kept()
        if kept is not None and kept.token != worn:
            return kept.token
        started = self._now()
        brought = await self._call()
        await self._settle(brought, started)
        return brought

    async def _call(self) -> Token | _Failure:
        try:
            async with asyncio.timeout(self._account.patience):
                token = await self._means.fetch(self._account)
        except Exception as error:  # noqa: BLE001 - whatever it is, callers get words and the next try a pause
            return _failure(error)
        return token if token.deadline > self._now() else _failure(TokenFault("token_expired_on_arrival"))

    async def _settle(self, brought: Token | _Failure, started: float) -> None:
        min_gap = self._account.min_gap
        if isinstance(brought, _Failure):
            now, jitter = self._now(), self._means.jitter()
            self._pause.after_failure(brought, started=started, now=now, min_gap=min_gap, jitter=jitter)
            self._means.watch.fetched(self._account, brought.result, None)
        else:
            self._first_sight(brought)
            await self._means.store.put(self._account, brought)
            self._pause.after_success(started, min_gap)
            self._means.watch.fetched(self._account, "ok", brought)
