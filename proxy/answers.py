"""What a process that serves answers when it is asked of itself: by word, in JSON's types, and never a secret."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from proxy.errors import ProxyError, StoreFault
from proxy.model import Account, Clock, Token
from proxy.tokens import Tokens, fingerprint

Answerer = Callable[[Any], Awaitable[Any]]


class TokenAnswers:
    """`accounts`: those of the running configuration."""

    def __init__(self, accounts: Callable[[], Iterable[Account]], tokens: Tokens, clock: Clock) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._clock = clock

    def by_word(self) -> Mapping[str, Answerer]:
        return {"tokens": self._list, "refresh": self._refresh, "purge": self._purge, "look again": self._look_again}

    async def _list(self, _: Any) -> list[dict[str, Any]]:
        return [await self._of(account) for account in self._accounts()]

    async def _of(self, account: Account) -> dict[str, Any]:
        try:
            return account_shown(account, await self._tokens.kept(account), self._clock)
        except StoreFault:
            return {**account_shown(account, None, self._clock), "state": "store unavailable"}

    async def _refresh(self, value: Any) -> dict[str, Any]:
        account = self._named(value["account"])
        if account is None:
            return {"fault": "unknown"}
        if account.exclusive and not value["take_token"]:
            return {"fault": "exclusive"}
        try:
            token = await self._tokens.refresh(account)
        except ProxyError as error:
            return {"fault": "failed", "words": error.detail}
        except StoreFault:
            return {"fault": "store", "words": "the store of tokens cannot be reached"}
        return {"account": account.name, **_shown(token, self._clock)}

    async def _purge(self, value: Any) -> dict[str, Any]:
        account = self._named(value["account"])
        if account is None:
            return {"fault": "unknown"}
        try:
            return {"account": account.name, "purged": await self._tokens.purge(account)}
        except StoreFault:
            return {"fault": "store", "words": "the store of tokens cannot be reached"}

    async def _look_again(self, value: Any) -> bool:
        account = self._named(value["account"])
        if account is not None:
            self._tokens.look_again(account, known=value["known"])
        return True

    def _named(self, name: str) -> Account | None:
        return next((account for account in self._accounts() if account.name == name), None)


def account_shown(account: Account, token: Token | None, clock: Clock) -> dict[str, Any]:
    """All that may be told of an account's token. Ages and lives in seconds; `holder`: the process that fetched it."""
    told = {"account": account.name, "provider": account.provider, "exclusive": account.exclusive}
    return {**told, **(_shown(token, clock) if token else {"state": "none"})}


def _shown(token: Token, clock: Clock) -> dict[str, Any]:
    told: dict[str, Any] = {
        "state": "live",
        "fingerprint": fingerprint(token),
        "expires_at": _moment(token.expires_at_ms),
        "expires_in_s": round(token.deadline - clock.monotonic(), 1),
    }
    if token.fetched_at_ms:
        age = round((clock.now_ms() - token.fetched_at_ms) / 1000, 1)
        told |= {"fetched_at": _moment(token.fetched_at_ms), "age_s": age}
    return {**told, "holder": token.holder or None}


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
