"""One errand for a token: take what the store has by now, or wait for whoever fetches, or fetch under a lease.

The same for every store. A lease is what makes one fetch of many wishes; that a late holder does no harm is the work
of the last look at it, right before the token call goes out, and of the store, which keeps the later token.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from proxy.errors import StoreFault, TokenFault, TokenSpared
from proxy.failures import ELSEWHERE, SPARED, STORE_DOWN, STORE_PAUSE, Failure, failure, rest
from proxy.model import Account, Token
from proxy.stores import LEASE, Held, Lease, TokenStore
from proxy.telemetry.labels import FetchResult

LOOK: Final = 0.05
"""Seconds between looks for what another process fetches. A notice would spare some of them, at the price of a
connection that has to be kept alive for the rare moment."""
_SHORTEST: Final = 0.001

Confirm = Callable[[], Awaitable[None]]
"""Awaited right before a token call goes out. Raises LeaseLost or StoreFault: then it must not."""
Fetch = Callable[[Account, Confirm], Awaitable[Token]]
"""One token call. Raises TokenFault, or ProxyError when the call did not get through."""
Using = Callable[[Account], AbstractContextManager[object]]
"""Around an errand: what it takes to fetch a token and to keep it stays until then."""
Jitter = Callable[[], float]
"""A random number from 0 to 1."""


class LeaseLost(Exception):
    """Another process has the right to the token call by now."""


class TokenWatch(Protocol):
    def fetched(self, account: Account, result: FetchResult, token: Token | None) -> None:
        """A token call of this process has ended; the token with `ok` only."""
        ...

    def kept(self, account: Account, token: Token) -> None:
        """This process uses another token from now on."""
        ...

    def conflict(self, account: Account, strikes: int) -> None:
        """So many tokens in a row were refused in the first half of their life, more than one."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What every account's errands work with. `owner` is this process among all that share the store."""

    store: TokenStore
    fetch: Fetch
    now: Callable[[], float]
    jitter: Jitter
    watch: TokenWatch
    owner: str
    using: Using


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A token that the store could not take."""

    token: Token
    lease: Lease


@dataclass(frozen=True, slots=True)
class Errand:
    """`worn`: the token that does not serve any more; `refused`: the provider said so. `last`: why the last errand
    failed, for another process cannot tell why its call did.
    """

    account: Account
    means: Means
    worn: Token | None
    refused: bool = False
    last: Failure | None = None

    async def run(self) -> Token | Unsaved | Failure:
        try:
            if self.refused and self.worn:
                await self._drop(self.worn)
            return await self._bring()
        except StoreFault:
            pause = STORE_PAUSE * (1 - self.means.jitter() / 4)  # lest all processes return in one moment
            return STORE_DOWN.lasting(self.means.now() + pause)

    async def _drop(self, refused: Token) -> None:
        strikes = await self.means.store.drop(self.account, refused)
        if strikes > 1:
            self.means.watch.conflict(self.account, strikes)

    async def _bring(self) -> Token | Unsaved | Failure:
        while True:
            match await self.means.store.claim(self.account, self.means.owner, self.worn):
                case Token() as token:
                    return token
                case Lease() as lease:
                    with suppress(LeaseLost):
                        return await self._call(lease)
                case Held(seconds, "failure"):
                    return self._known().lasting(self.means.now() + seconds)
                case Held(seconds, "call"):
                    await asyncio.sleep(max(min(seconds, LOOK), _SHORTEST))
                case Held(seconds):
                    await asyncio.sleep(max(seconds, _SHORTEST))

    def _known(self) -> Failure:
        """Why token calls fail, as far as this process knows."""
        return self.last if self.last and self.last.code == ELSEWHERE.code else ELSEWHERE

    async def _call(self, lease: Lease) -> Token | Unsaved | Failure:
        started = self.means.now()
        try:
            async with self._renewed(lease), asyncio.timeout(self.account.patience):
                token = await self.means.fetch(self.account, partial(self._confirm, lease))
            if token.deadline <= self.means.now():
                raise TokenFault("token_expired_on_arrival")  # noqa: TRY301  the same end as if the provider said so
        except (LeaseLost, StoreFault):
            raise
        except asyncio.CancelledError:
            await self._give_back(lease)
            raise
        except TokenSpared:
            await self._give_back(lease)
            return SPARED.lasting(self.means.now())
        except Exception as error:  # noqa: BLE001 - whatever it is, callers get words and the next try a pause
            return await self._failed(lease, failure(error), started)
        return await self._fetched(lease, token)

    async def _give_back(self, lease: Lease) -> None:
        """Nothing was asked, so nothing has failed: others need not wait."""
        with suppress(StoreFault):
            await self.means.store.release(self.account, lease)

    async def _confirm(self, lease: Lease) -> None:
        if not await self.means.store.renew(self.account, lease):
            raise LeaseLost

    @asynccontextmanager
    async def _renewed(self, lease: Lease) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._renew(lease))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})

    async def _renew(self, lease: Lease) -> None:
        held = True
        while held:
            await asyncio.sleep(LEASE / 3)
            with suppress(StoreFault):  # the call is under way: its token is worth having all the same
                held = await self.means.store.renew(self.account, lease)

    async def _failed(self, lease: Lease, failed: Failure, started: float) -> Failure:
        """Raises LeaseLost: another may have a token by now."""
        now = self.means.now()
        pause = rest(self.account, failed, lease.failures, spent=now - started, jitter=self.means.jitter())
        self.means.watch.fetched(self.account, failed.result, None)
        with suppress(StoreFault):
            if not await self.means.store.release(self.account, lease, pause):
                raise LeaseLost
        return failed.lasting(now + pause)

    async def _fetched(self, lease: Lease, token: Token) -> Token | Unsaved:
        self.means.watch.fetched(self.account, "ok", token)
        token = replace(token, holder=self.means.owner)
        try:
            return await self.means.store.put(self.account, token, lease)
        except StoreFault:
            return Unsaved(token, lease)
