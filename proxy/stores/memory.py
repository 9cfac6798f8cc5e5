"""Tokens of one process, gone with it."""

from collections import defaultdict
from collections.abc import Callable

from proxy.model import Account, Token
from proxy.storeforms import RedisLogin
from proxy.stores import Held, Lease
from proxy.stores.record import mark
from proxy.stores.slot import Kept, Slot


class MemoryStore:
    """On the clock that deadlines are taken from (`monotonic`, seconds). Never fails."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._now = monotonic
        self._slots: defaultdict[tuple[str, ...], Slot[Token]] = defaultdict(Slot)

    async def get(self, account: Account) -> Token | None:
        kept = self._slots[account.identity].live(self._now())
        return kept.form if kept else None

    async def claim(self, account: Account, owner: str, worn: Token | None) -> Token | Lease | Held:
        slot = self._slots[account.identity]
        slot, said = slot.claim(owner, mark(worn) if worn else "", account.min_gap, self._now())
        self._slots[account.identity] = slot
        return said.form if isinstance(said, Kept) else said

    async def renew(self, account: Account, lease: Lease) -> bool:
        self._slots[account.identity], held = self._slots[account.identity].renew(lease, self._now())
        return held

    async def put(self, account: Account, token: Token, lease: Lease) -> Token:
        kept = Kept(token, mark(token), token.deadline, token.expires_at_ms)
        self._slots[account.identity], kept = self._slots[account.identity].put(lease, kept, self._now())
        return kept.form

    async def release(self, account: Account, lease: Lease, rest: float | None = None) -> bool:
        self._slots[account.identity], held = self._slots[account.identity].release(lease, rest, self._now())
        return held

    async def drop(self, account: Account, token: Token, *, refused: bool = True) -> int:
        slot, strikes = self._slots[account.identity].drop(mark(token), self._now(), refused=refused)
        self._slots[account.identity] = slot
        return strikes

    def log_in(self, login: RedisLogin) -> None:
        """Nobody asks for one."""

    async def close(self) -> None:
        """Nothing to end."""
