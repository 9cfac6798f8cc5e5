"""Signature algorithms and encodings, one line each."""

import hashlib
import hmac
from binascii import b2a_base64, hexlify
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.model import STARS, ParsedKey


def _rsa_sha256(key: ParsedKey, message: bytes) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2): deterministic, so vectors give the exact bytes."""
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


class HmacKey(bytes):
    """A secret of HMAC with the two hash states that begin with it (RFC 2104 section 4): less than half the time."""

    sign: Callable[[bytes], bytes]

    def __new__(cls, secret: bytes, digest: str) -> Self:
        key = super().__new__(cls, secret)
        empty = hashlib.new(digest)
        block = (secret if len(secret) <= empty.block_size else hashlib.new(digest, secret).digest()).ljust(
            empty.block_size, b"\0"
        )
        begun = (hashlib.new(digest, bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
        key.sign = _signing(*begun)
        return key

    def __repr__(self) -> str:
        return STARS

    __str__ = __repr__


def _signing(begun_inner: "hashlib._Hash", begun_outer: "hashlib._Hash") -> Callable[[bytes], bytes]:
    new_inner, new_outer = begun_inner.copy, begun_outer.copy

    def sign(message: bytes) -> bytes:
        inner, outer = new_inner(), new_outer()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    return sign


def _hmac(digest: str) -> Callable[[bytes, bytes], bytes]:
    return lambda key, message: key.sign(message) if isinstance(key, HmacKey) else hmac.digest(key, message, digest)


DIGESTS: Final = {"hmac-sha256": "sha256", "hmac-sha512": "sha512"}
SYMMETRIC: Final = {name: _hmac(digest) for name, digest in DIGESTS.items()}
ASYMMETRIC: Final[dict[str, Callable[[ParsedKey, bytes], bytes]]] = {"rsa-sha256": _rsa_sha256}
ALGORITHMS: Final[dict[str, Callable[[Any, bytes], bytes]]] = {**SYMMETRIC, **ASYMMETRIC}

ENCODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "b64": lambda value: b2a_base64(value, newline=False),
    "hex": hexlify,
    "HEX": lambda value: value.hex().upper().encode(),
}

HASHES: Final = {each.name: each for each in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512(), hashes.SHA1())}  # noqa: S303  named when others used it


def recovered(key: RSAPublicKey, signature: bytes) -> tuple[str, bytes] | None:
    """The hash that an RSASSA-PKCS1-v1_5 signature holds, and its name: if this is the key it was made with."""
    for name, hashed in HASHES.items():
        with suppress(InvalidSignature):
            return name, key.recover_data_from_signature(signature, padding.PKCS1v15(), hashed)
    return None
