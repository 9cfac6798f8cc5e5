"""The secrets of Paraf's own doors: what the store's records are encrypted with, Redis' login, and control's."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path as FilePath
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.keyring import Keyring, ReferenceReader
from proxy.model import Secret
from proxy.references import Reference
from proxy.settings import Settings
from proxy.source import Path
from proxy.storeforms import RedisForm, RedisLogin

LEAST: Final = 16
"""Characters of a store_key or control_token. A key is not stretched as a password would be: a word could be guessed
from one record."""


@dataclass(frozen=True, slots=True)
class StoreAccess:
    keys: tuple[Secret, ...]
    """Of `store_key`, the newest first."""
    login: RedisLogin


def own_secret(texts: Mapping[str, Secret], keys: Mapping[str, RSAPrivateKey]) -> Secret:
    """What an account's records are encrypted with unless the file says otherwise.

    The private key if it has one: every token call that uses it needs it, whatever the switches of a route, so that
    all processes come to the same one.
    """
    for key in keys.values():
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return Secret(base64.b64encode(der).decode())
    return Secret("\n".join(text.reveal() for name, text in sorted(texts.items()) if name != "client_id"))


class AccessReader(ReferenceReader):
    """Of the settings that belong to no route."""

    def __init__(self, settings: Settings, keyring: Keyring, environ: Mapping[str, str], folder: FilePath) -> None:
        super().__init__(settings.source, keyring, environ, folder)
        self._settings = settings

    def read(self) -> StoreAccess:
        return StoreAccess(tuple(self._store_keys()), self._login(self._settings.store))

    def _store_keys(self) -> Iterator[Secret]:
        several = len(self._settings.store_key) > 1
        for index, reference in enumerate(self._settings.store_key):
            path = ("store_key", str(index)) if several else ("store_key",)
            if secret := self._long(reference, path):
                yield secret

    def control_token(self) -> Secret | None:
        return self._long(self._settings.control_token, ("control_token",))

    def _long(self, reference: Reference | None, path: Path) -> Secret | None:
        secret = self._secret(reference, path)
        if secret and len(secret.reveal()) < LEAST:
            self._find(path, f"has fewer than {LEAST} characters: make one with `openssl rand -base64 32`")
        return secret

    def _login(self, form: object) -> RedisLogin:
        if not isinstance(form, RedisForm):
            return RedisLogin()
        if find_spec("redis") is None:
            self._find(("store",), "needs the Redis client: pip install 'paraf[redis]'")
        if form.password and form.is_open:
            words = "redis:// to another machine: the password travels in the clear, rediss:// hides it"
            self._find(("store", "url"), words, "warning")
        return RedisLogin(
            username=self._secret(form.username, ("store", "username")),
            password=self._secret(form.password, ("store", "password")),
            ca=self._found(("store", "ca"), self._keyring.authorities, form.ca) if form.ca else None,
        )
