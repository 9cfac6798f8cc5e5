"""Seals and opens the records of all accounts: where `record` meets keys and randomness."""

import os
from collections.abc import Callable, Sequence

from proxy.errors import StoreFault
from proxy.model import Account, Secret, Token
from proxy.stores import StoreWatch
from proxy.stores.record import NONCE, derive, seal, unseal

StoreSecrets = Callable[[Account], Sequence[Secret]]
"""What the keys of an account's records are derived from, the newest first: during a rotation there are two."""


class Safe:
    def __init__(self, secrets: StoreSecrets, watch: StoreWatch) -> None:
        self._secrets = secrets
        self._watch = watch

    def seal(self, account: Account, token: Token) -> bytes:
        """Under the newest key. Raises StoreFault if there is none: a reload took the account away."""
        if not (secrets := self._secrets(account)):
            raise StoreFault
        return seal(account, token, derive(secrets[0]), os.urandom(NONCE))

    def open(self, account: Account, record: bytes, deadline: float) -> Token | None:
        """None, and counted, when it cannot be read."""
        token = unseal(account, record, map(derive, self._secrets(account)), deadline)
        tell = self._watch.unreadable if token is None else self._watch.readable
        tell(account)
        return token
