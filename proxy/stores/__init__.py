"""Where tokens are kept, and how processes agree on the one that fetches the next.

A store holds for each account (`Account.identity`) one token, at most one lease on its next token call, and the moment
before which nobody starts that call. What each step means is written once, in `slot`; redis repeats it in Lua.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

from proxy.model import Account, Token
from proxy.storeforms import RedisLogin

LEASE: Final = 5.0
"""Seconds for which a lease holds unless it is renewed: how long others wait for a holder that died."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make one token call.

    `fence` is greater than that of every earlier lease of the account. `failures`: token calls in a row that gave no
    token. `ahead`: seconds by which the store's clock is ahead of this process's monotonic one, at least.
    """

    owner: str
    fence: int
    failures: int = 0
    ahead: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """No token call now: another holds the lease (`call`), or one was made just before (`gap`), or failed (`failure`).

    `seconds`: until the claim is worth repeating, unless something happens before.
    """

    seconds: float
    why: Literal["call", "gap", "failure"]


class StoreWatch(Protocol):
    """Told how the store fares."""

    def answered(self) -> None: ...
    def failed(self, reason: str) -> None:
        """`reason`: a word of ours or the name of an exception's class."""
        ...

    def readable(self, account: Account) -> None:
        """The account's record was there and could be opened."""
        ...

    def unreadable(self, account: Account) -> None:
        """A record was there that none of our keys opens, or that is no record."""
        ...


class TokenStore(Protocol):
    """Every method raises StoreFault when the store gives no answer, after a second or so at the latest."""

    async def get(self, account: Account) -> Token | None:
        """The kept token; never one whose deadline has come."""
        ...

    async def claim(self, account: Account, owner: str, worn: Token | None) -> Token | Lease | Held:
        """What is kept, unless it is the worn token; else the lease, unless somebody else must be waited for.

        With the lease begins the gap: nobody gets the next one before `account.min_gap` has passed. An owner who asks
        again while its lease holds gets a new one: the answer to its first claim was lost.
        """
        ...

    async def renew(self, account: Account, lease: Lease) -> bool:
        """Another `LEASE` seconds. False: the lease has gone to somebody else, or is forgotten."""
        ...

    async def put(self, account: Account, token: Token, lease: Lease) -> Token:
        """End the lease with a token, and give the one that is kept now.

        That is another when the lease was lost and a token is kept whose end at the provider is no earlier.
        """
        ...

    async def release(self, account: Account, lease: Lease, rest: float | None = None) -> bool:
        """End the lease without a token. `rest`: the call failed, and nobody starts one for so many seconds.

        False: the lease has gone to somebody else, or is forgotten.
        """
        ...

    async def drop(self, account: Account, token: Token, *, refused: bool = True) -> int:
        """Forget this token, which the provider refused, or an operator; another that is kept stays.

        Gives how many tokens in a row, with this one, were refused in the first half of their life; 0 when it was
        older, or not the kept one.
        """
        ...

    def log_in(self, login: RedisLogin) -> None:
        """What to say from the next connection on, where a login is asked for, and which authorities to trust."""
        ...

    async def close(self) -> None: ...
