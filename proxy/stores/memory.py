"""Tokens of one process, gone with it."""

import math
from collections.abc import Callable

from cachetools import TLRUCache

from proxy.model import Account, Token


class MemoryStore:
    """Each token with its own end, on the clock that its deadline was taken from (`monotonic`, seconds)."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        # Without a bound on purpose: there are as many accounts as the configuration names, and an eviction
        # would fetch again, which for an exclusive account kills the token in use.
        self._kept = TLRUCache[tuple[str, ...], Token](
            math.inf, ttu=lambda _identity, token, _now: token.deadline, timer=monotonic
        )

    async def get(self, account: Account) -> Token | None:
        return self._kept.get(account.identity)

    async def put(self, account: Account, token: Token) -> None:
        self._kept[account.identity] = token

    async def drop(self, account: Account, token: Token) -> None:
        if self._kept.get(account.identity) == token:
            self._kept.pop(account.identity, None)
