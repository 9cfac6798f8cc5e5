"""Tokens as they lie in a file or in Redis: encrypted, bound to their account, with a format version.

    version (1 byte) | key id (8) | nonce (12) | AES-256-GCM over JSON, with its tag (16)

A reader takes its own version and the one before, so that old and new processes run side by side during an upgrade:
within two versions members of the JSON are only added. Pure.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.model import Account, Secret, Token

VERSION: Final = 1
NONCE: Final = 12
"""Bytes, random: one key stays far below the 2^32 records that NIST SP 800-38D section 8.3 allows."""
_READABLE: Final = (VERSION, VERSION - 1)
_KEY_ID: Final = 8
_HEAD: Final = 1 + _KEY_ID + NONCE


@dataclass(frozen=True, slots=True)
class Key:
    """`id` tells which key a record needs, and nothing about the key."""

    id: bytes
    value: bytes = field(repr=False)


def derive(secret: Secret) -> Key:
    """HKDF-SHA256 (RFC 5869): the secret itself signs for a provider and is never a key here."""
    made = HKDF(SHA256(), 32 + _KEY_ID, salt=None, info=b"paraf token record").derive(secret.reveal().encode())
    return Key(made[32:], made[:32])


def mark(token: Token) -> str:
    """Tells tokens apart without showing them."""
    return hashlib.sha256(token.value.reveal().encode()).hexdigest()[:32]


def client_hash(account: Account) -> str:
    return hashlib.sha256(account.client_id.encode()).hexdigest()[:32]


def seal(account: Account, token: Token, key: Key, nonce: bytes, version: int = VERSION) -> bytes:
    head = bytes([version]) + key.id + nonce
    told = {"fetched_at_ms": token.fetched_at_ms, "holder": token.holder}
    plain = json.dumps({"token": token.value.reveal(), "expires_at_ms": token.expires_at_ms, **told}).encode()
    return head + AESGCM(key.value).encrypt(nonce, plain, _bound(account, head))


def unseal(account: Account, record: bytes, keys: Iterable[Key], deadline: float) -> Token | None:
    """None: it is damaged, of another account or version, or none of the keys is its own. `deadline`: as in Token."""
    head, sealed = record[:_HEAD], record[_HEAD:]
    key = next((key for key in keys if key.id == head[1 : 1 + _KEY_ID]), None)
    if key is None or head[0] not in _READABLE:
        return None
    try:
        plain = AESGCM(key.value).decrypt(head[-NONCE:], sealed, _bound(account, head))
        members = json.loads(plain)
        return Token(
            Secret(str(members["token"])),
            int(members["expires_at_ms"]),
            deadline,
            fetched_at_ms=int(members.get("fetched_at_ms", 0)),
            holder=str(members.get("holder", "")),
        )
    except (InvalidTag, ValueError, KeyError, TypeError):
        return None


def _bound(account: Account, head: bytes) -> bytes:
    """What a record is good for: laid under another account's name, it does not open."""
    named = [account.provider, account.environment, account.token_url, client_hash(account)]
    return head + json.dumps(named).encode()
