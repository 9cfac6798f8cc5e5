"""RSA private keys in every form that operators paste them: PEM, DER, base64 of either, one line, escaped newlines.

Every refusal is a ValueError that says what to do; no message holds a part of the key or another library's words.
"""

import base64
import binascii
import hashlib
import re
import textwrap
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)

from proxy.model import Secret

PUBLISHED_KEYS: Final = frozenset(
    {
        # developer.ifortepay.id/snap/auth/access-token-b2b
        "e9ea8bf2a30a272e88d9ffc2e0e3b39f3e13f5071be0bd43787cc78f7671ea1b",
        # apidocs-vsnap.netzme.id/api-reference/toko-netzme/credentials-and-signature
        "56bf4fc73096a28e91274ed095b829ddcb413d3fc9ba31bb2de95490b7743ec0",
    }
)
"""Private keys that documents print, by `spki_fingerprint`: whoever reads those can sign."""

LEAST_BITS: Final = 2048

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_OLD_ENCRYPTION: Final = re.compile(r"\s*Proc-Type: 4,ENCRYPTED\s+DEK-Info: (\S+)\s+(.*)", re.DOTALL)
"""RFC 1421 section 4.6, as OpenSSL wrote encrypted PKCS#1 before PKCS#8."""
_PUBLIC: Final = "this is a public key: give the private half"
_CERTIFICATE: Final = "this is a certificate: give the private key that belongs to it"
_OTHER_BLOCKS: Final = {
    "PUBLIC KEY": _PUBLIC,
    "RSA PUBLIC KEY": _PUBLIC,
    "CERTIFICATE": _CERTIFICATE,
    "CERTIFICATE REQUEST": "this is a certificate request: give the private key that belongs to it",
    "OPENSSH PRIVATE KEY": "this key is in OpenSSH's own form: rewrite a copy with ssh-keygen -p -m PKCS8 -f COPY",
}
_UNREADABLE: Final = "no private key can be read from this: it is cut off, damaged or something else"


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A key as bytes that the library takes: DER, or PEM where only that can carry the encryption."""

    content: bytes = field(repr=False)
    pem: bool = False

    def load(self, password: bytes | None) -> object:
        return (load_pem_private_key if self.pem else load_der_private_key)(self.content, password)


def load_private_key(material: bytes, passphrase: Secret | None, *, allow_small: bool = False) -> RSAPrivateKey:
    """A passphrase for a key that is not encrypted is ignored."""
    key = _opened(_encoded(material), passphrase)
    if not isinstance(key, RSAPrivateKey):
        kind = "an elliptic-curve key" if isinstance(key, EllipticCurvePrivateKey) else "no RSA key"
        raise ValueError(f"this is {kind}: the provider needs RSA")  # noqa: TRY004  the file is wrong, not the call
    if spki_fingerprint(key) in PUBLISHED_KEYS:
        raise ValueError("this private key is printed in public documents: anybody can sign with it, make your own")
    if key.key_size < LEAST_BITS and not allow_small:
        raise ValueError(
            f"RSA of {key.key_size} bit, under {LEAST_BITS}: make a longer one, or set allow_small_keys: true"
        )
    return key


def spki_fingerprint(key: RSAPrivateKey) -> str:
    """SHA-256, in hex, of the public half's SubjectPublicKeyInfo in DER (RFC 5280 section 4.1)."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _opened(encoded: _Encoded, passphrase: Secret | None) -> object:
    try:
        return encoded.load(None)
    except TypeError:  # the library's word for "encrypted"
        pass
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(_instead(encoded.content)) from None
    if not passphrase:
        raise ValueError("the key is encrypted: add passphrase, as in {file: PATH, passphrase: {env: NAME}}")
    try:
        return encoded.load(passphrase.reveal().encode())
    except UnsupportedAlgorithm:
        raise ValueError(
            "the key is encrypted in a way that is not known here: openssl pkcs8 -topk8 mends it"
        ) from None
    except ValueError:
        raise ValueError("wrong passphrase for this key, or the key is damaged") from None


def _instead(der: bytes) -> str:
    """What it is, if it is not a private key."""
    from cryptography import x509  # noqa: PLC0415 -- 3 MiB that a key in order does not need

    for load, words in ((load_der_public_key, _PUBLIC), (x509.load_der_x509_certificate, _CERTIFICATE)):
        try:
            load(der)
        except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
            continue
        return words
    return _UNREADABLE


def _encoded(material: bytes) -> _Encoded:
    if _is_der(material):
        return _Encoded(material)
    try:
        text = material.removeprefix(b"\xef\xbb\xbf").decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(_UNREADABLE) from None
    text = text.replace("\\r", "").replace("\\n", "\n").strip(" \t\r\n\"'")
    if not text:
        raise ValueError("is empty: there is no key in it")
    return _from_pem(text) if "-----BEGIN" in text else _from_base64(text)


def _is_der(material: bytes) -> bool:
    """A SEQUENCE (0x30) with something that no text has."""
    return material[:1] == b"0" and not material.isascii()


def _from_base64(text: str) -> _Encoded:
    """Bare base64 is of DER, or of a whole PEM text, as Kubernetes and Klikoo carry it."""
    inner = _debase64(text)
    if _is_der(inner) or inner.lstrip().startswith(b"-----BEGIN"):
        return _encoded(inner)
    raise ValueError(_UNREADABLE)


def _from_pem(text: str) -> _Encoded:
    blocks = _BLOCK.findall(text)
    if not blocks:
        raise ValueError("the PEM text is cut off: its END line is missing")
    private = [block for block in blocks if block[0].endswith("PRIVATE KEY") and block[0] not in _OTHER_BLOCKS]
    if not private:
        raise ValueError(_OTHER_BLOCKS.get(blocks[0][0], _UNREADABLE))
    label, body = private[0]
    if old := _OLD_ENCRYPTION.fullmatch(body):
        return _Encoded(_rewritten(label, old[1], old[2]), pem=True)
    return _Encoded(_debase64(body))


def _rewritten(label: str, cipher: str, body: str) -> bytes:
    head = f"-----BEGIN {label}-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: {cipher}\n\n"
    lines = textwrap.wrap("".join(body.split()), 64)
    return "\n".join([head + lines[0], *lines[1:], f"-----END {label}-----\n"]).encode() if lines else b""


def _debase64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        raise ValueError(_UNREADABLE) from None
