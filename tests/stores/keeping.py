"""What tests of stores share: accounts, tokens, and a store of each kind on the clock of this machine."""

import time
from collections.abc import Sequence
from pathlib import Path

from proxy.clock import SystemClock
from proxy.model import Account, Clock, Secret, Token
from proxy.storeforms import RedisForm, RedisLogin
from proxy.stores import Lease, TokenStore
from proxy.stores.file import FileStore
from proxy.stores.memory import MemoryStore
from proxy.stores.redis import RedisStore
from proxy.stores.safe import Safe

DOKU = Account("doku", "doku", "sandbox", "https://api.test/token", "BRN-1", min_gap=0.0)
OTHER = Account("doku2", "doku", "sandbox", "https://api.test/token", "BRN-2", min_gap=0.0)
KEY = Secret("0123456789abcdef")


class Seen:
    """A StoreWatch that remembers."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.answers = 0
        self.damaged = 0

    def answered(self) -> None:
        self.answers += 1

    def failed(self, reason: str) -> None:
        self.faults.append(reason)

    def readable(self, account: Account) -> None: ...

    def unreadable(self, account: Account) -> None:
        self.damaged += 1


class HandClock:
    def __init__(self) -> None:
        self.wall_ms, self.now = 1_768_447_845_000, 1_000.0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic(self) -> float:
        return self.now


def token(value: str, life: float = 60.0, *, ends_ms: int | None = None, now: float | None = None) -> Token:
    """`ends_ms`: what the provider said, if it is not the same thing."""
    now = time.monotonic() if now is None else now
    return Token(Secret(value), int((time.time() + life) * 1000) if ends_ms is None else ends_ms, now + life)


def memory() -> MemoryStore:
    return MemoryStore(time.monotonic)


def file(
    folder: Path, seen: Seen | None = None, *keys: Secret, clock: Clock | None = None, boot: str | None = None
) -> FileStore:
    watch = seen or Seen()
    store = FileStore(folder, Safe(lambda _: keys or (KEY,), watch), clock or SystemClock(), watch)
    if boot is not None:
        store._boot = boot
    return store


def redis_store(path: Path, seen: Seen | None = None, *keys: Secret, login: RedisLogin | None = None) -> RedisStore:
    watch = seen or Seen()
    form = RedisForm(socket=str(path))
    return RedisStore(form, login or RedisLogin(), Safe(lambda _: keys or (KEY,), watch), time.monotonic, watch)


async def leased(store: TokenStore, account: Account = DOKU, owner: str = "a", worn: Token | None = None) -> Lease:
    claimed = await store.claim(account, owner, worn)
    assert isinstance(claimed, Lease), claimed
    return claimed


async def keep(store: TokenStore, kept: Token, account: Account = DOKU, worn: Token | None = None) -> Token:
    return await store.put(account, kept, await leased(store, account, worn=worn))


def value(kept: object) -> object:
    """The text of a token; anything else as it is."""
    return kept.value.reveal() if isinstance(kept, Token) else kept


def values(kept: Sequence[object]) -> list[object]:
    return [value(each) for each in kept]
