"""Where tokens are kept between requests."""

from typing import Protocol

from proxy.model import Account, Token


class TokenStore(Protocol):
    """One token for each account, found by `Account.identity`."""

    async def get(self, account: Account) -> Token | None:
        """The kept token; never one whose deadline has come."""
        ...

    async def put(self, account: Account, token: Token) -> None: ...

    async def drop(self, account: Account, token: Token) -> None:
        """Forget this token; another that was kept meanwhile stays."""
        ...
