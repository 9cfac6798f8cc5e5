"""One live token for each account: fetched once however many wait, ahead of its end, and again after a refusal.

A request is served from this process's memory. The store, and through it other processes, is asked when there is no
token in it, after a refusal, and when it is time for the next token: by an errand of its own, so that a caller who
leaves takes nothing from the others. Life is counted on the monotonic clock alone.
"""

import asyncio
import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from proxy.errand import Errand, Fetch, Jitter, Means, TokenWatch, Unsaved, Using
from proxy.errors import ProxyError, StoreFault
from proxy.failures import STORE_PAUSE, Failure, late
from proxy.model import Account, Clock, Token
from proxy.stores import TokenStore
from proxy.stores.record import mark


class Tokens:
    """The tokens of all accounts. `owner` names this process among those that share the store."""

    def __init__(
        self,
        store: TokenStore,
        fetch: Fetch,
        clock: Clock,
        *,
        owner: str,
        jitter: Jitter,
        watch: TokenWatch,
        using: Using = lambda _: nullcontext(),
    ) -> None:
        self._means = Means(store, fetch, clock.monotonic, jitter, watch, owner, using)
        self._keepers: dict[tuple[str, ...], _Keeper] = {}

    async def get(self, account: Account) -> Token:
        """A token with life left.

        Raises ProxyError `token_unavailable` or `store_unavailable`, at most `account.patience` seconds later.
        """
        return await self._keeper(account).get()

    def at_hand(self, account: Account, now: float) -> Token | None:
        """As `get` would give it `now`, on the monotonic clock, if there is nothing to be done for it."""
        keeper = self._keepers.get(account.identity)
        life = keeper and keeper.life
        return life.token if life and now < life.carefree_until else None

    async def replace(self, account: Account, refused: Token) -> Token | None:
        """Another token than the one the provider refused, or None when no other can be had."""
        return await self._keeper(account).replace(refused)

    def adopt(self, accounts: Iterable[Account]) -> None:
        """A newer configuration: their names, patience and gaps from now on. Tokens and token calls go on."""
        for account in accounts:
            if account.identity in self._keepers:
                self._keepers[account.identity].account = account

    async def kept(self, account: Account) -> Token | None:
        """What the store has, for people to see. Raises StoreFault."""
        return await self._means.store.get(account)

    async def refresh(self, account: Account) -> Token:
        """Another token than the kept one, though that still serves. Raises ProxyError or StoreFault."""
        return await self._keeper(account).refresh(await self.kept(account))

    async def purge(self, account: Account) -> bool:
        """Forget the kept token, if there is one; the next request fetches. Raises StoreFault."""
        kept = await self.kept(account)
        if kept is not None:
            await self._means.store.drop(account, kept, refused=False)
        self.look_again(account, known=None)
        return kept is not None

    def look_again(self, account: Account, *, known: str | None) -> None:
        """Ask the store for the next request, unless the token in use has the fingerprint `known`."""
        if account.identity in self._keepers:
            self._keepers[account.identity].look_again(known)

    async def close(self) -> None:
        """Give up every token call under way; who waits for one gets `shutting_down`."""
        await asyncio.gather(*(keeper.close() for keeper in self._keepers.values()))

    def _keeper(self, account: Account) -> "_Keeper":
        keeper = self._keepers.get(account.identity)
        if keeper is None:
            keeper = self._keepers[account.identity] = _Keeper(account, self._means)
        return keeper


def fingerprint(token: Token) -> str:
    """Tells tokens apart for people; nobody can come from it to the token."""
    return mark(token)[:16]


@dataclass(frozen=True, slots=True)
class _Life:
    """How long one token serves; moments in seconds of the monotonic clock."""

    token: Token
    usable_until: float
    refresh_from: float
    refused: bool = False
    carefree_until: float = field(init=False)
    """Until then there is nothing to be done about it."""

    def __post_init__(self) -> None:
        until = -math.inf if self.refused else min(self.usable_until, self.refresh_from)
        object.__setattr__(self, "carefree_until", until)


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


class _Keeper:
    """The token of one account, as this process knows it."""

    def __init__(self, account: Account, means: Means) -> None:
        self.account = account
        self._means = means
        self._now = means.now
        self.life: _Life | None = None
        self._failure: Failure | None = None
        self._errand: asyncio.Task[Token | Failure] | None = None
        self._saving: asyncio.Task[None] | None = None

    async def get(self) -> Token:
        life = self._usable()
        if life is None:
            return await self._obtain()
        if self._now() >= life.refresh_from and not self._standing_failure():
            self._under_way()
        return life.token

    async def replace(self, refused: Token) -> Token | None:
        life = self.life or _life(self.account, refused, self._now(), 0.0)
        if life.token.value == refused.value:
            self.life = replace(life, refused=True)
        elif usable := self._usable():
            return usable.token
        try:
            brought = await self._obtain()
        except ProxyError:
            return None
        return brought if brought.value != refused.value else None

    async def refresh(self, kept: Token | None) -> Token:
        if kept is not None and (self.life is None or self.life.token.value != kept.value):
            self._adopted(kept)
        return await self._obtain()

    def look_again(self, known: str | None) -> None:
        if self.life and fingerprint(self.life.token) != known:
            self.life = None

    async def close(self) -> None:
        tasks = {task for task in (self._errand, self._saving) if task}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _usable(self) -> _Life | None:
        life = self.life
        return life if life and not life.refused and self._now() < life.usable_until else None

    def _standing_failure(self) -> Failure | None:
        failed = self._failure
        return failed if failed and self._now() < failed.until else None

    async def _obtain(self) -> Token:
        """The token of the errand under way, or of a new one unless the last one's failure forbids it yet."""
        if failed := self._standing_failure():
            raise failed.error(self.account, self._now())
        errand = self._under_way()
        # Not wait_for: that would end the errand of all when one of them leaves.
        await asyncio.wait({errand}, timeout=self.account.patience)
        if errand.done() and errand.cancelled():
            raise ProxyError("shutting_down", "the token call was given up")
        brought = errand.result() if errand.done() else late(self.account)
        if isinstance(brought, Failure):
            raise brought.error(self.account, self._now())
        return brought

    def _under_way(self) -> asyncio.Task[Token | Failure]:
        if self._errand is None or self._errand.done():
            self._errand = asyncio.create_task(self._run())
        return self._errand

    async def _run(self) -> Token | Failure:
        life = self.life
        worn, refused = (life.token, life.refused) if life else (None, False)
        with self._means.using(self.account):
            brought = await Errand(self.account, self._means, worn, refused, self._failure).run()
        match brought:
            case Failure():
                self._failure = brought
                return brought
            case Unsaved(token):
                adopted = self._adopted(token)
                self._save_later(brought)
                return adopted
            case Token():
                return self._adopted(brought)

    def _adopted(self, token: Token) -> Token:
        self.life = _life(self.account, token, self._now(), self._means.jitter())
        self._failure = None
        self._means.watch.kept(self.account, token)
        return token

    def _save_later(self, unsaved: Unsaved) -> None:
        if self._saving:
            self._saving.cancel()
        self._saving = asyncio.create_task(self._save(unsaved))

    async def _save(self, unsaved: Unsaved) -> None:
        """Put into the store, as soon as it answers, what it could not take: or others fetch again and end it."""
        token = unsaved.token
        while (life := self._usable()) and life.token == token:
            await asyncio.sleep(STORE_PAUSE * (1 - self._means.jitter() / 2))
            try:
                kept = await self._means.store.put(self.account, token, unsaved.lease)
            except StoreFault:
                continue
            if kept.value != token.value:
                self._adopted(kept)
            return
