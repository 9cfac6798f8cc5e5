"""Signature algorithms and encodings, one line each."""

import base64
import hmac
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from proxy.model import ParsedKey


def _rsa_sha256(key: ParsedKey, message: bytes) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2): deterministic, so vectors give the exact bytes."""
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


SYMMETRIC: Final[dict[str, Callable[[bytes, bytes], bytes]]] = {
    "hmac-sha256": lambda key, message: hmac.digest(key, message, "sha256"),
    "hmac-sha512": lambda key, message: hmac.digest(key, message, "sha512"),
}
ASYMMETRIC: Final[dict[str, Callable[[ParsedKey, bytes], bytes]]] = {"rsa-sha256": _rsa_sha256}
ALGORITHMS: Final[dict[str, Callable[[Any, bytes], bytes]]] = {**SYMMETRIC, **ASYMMETRIC}

ENCODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "b64": base64.b64encode,
    "hex": lambda value: value.hex().encode(),
    "HEX": lambda value: value.hex().upper().encode(),
}
