"""The sandbox's own strings-to-sign and signature checks, one row for each scheme; the signer has no part in them."""

import hashlib
import hmac
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.model import Secret


@dataclass(frozen=True, slots=True)
class Parts:
    """What a signature can cover, as it stood in the request.

    `body` is canonical, `digest` its hash as the string holds it; an empty `digest` leaves DOKU's Digest line out.
    `path` is whatever the provider signs in its place: path, path and query, or a full URL.
    """

    method: str
    path: str
    body: bytes = field(repr=False)
    digest: str
    time: str
    token: str = field(default="", repr=False)
    client_id: str = ""
    request_id: str = ""
    time_name: str = "Request-Timestamp"
    version: str = ""
    separator: str = "|"


@dataclass(frozen=True, slots=True)
class Keys:
    secret: Secret
    public_key: RSAPublicKey | None = None


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one kind of signature is made; `algorithm` and `encoding` are names of the tables below."""

    string: Callable[[Parts], bytes]
    algorithm: str
    encoding: str = "base64"
    digest: Callable[[bytes], str] = lambda body: hashlib.sha256(body).hexdigest()
    key: Callable[[Parts, str], str] = lambda _, secret: secret
    prefix: str = ""


def octets(text: str) -> bytes:
    """Header text as the bytes it came in."""
    return text.encode("utf-8", "surrogateescape")


def verify(scheme: Scheme, parts: Parts, keys: Keys, presented: str) -> bool:
    signature = decoded(scheme, presented)
    if signature is None:
        return False
    key = octets(scheme.key(parts, keys.secret.reveal()))
    return ALGORITHMS[scheme.algorithm](key, keys.public_key, scheme.string(parts), signature)


def seal(scheme: Scheme, parts: Parts, secret: Secret) -> str:
    """The signature of an HMAC scheme, for the endpoint that hands them out."""
    name = scheme.algorithm.removeprefix("hmac-")
    mac = hmac.digest(octets(scheme.key(parts, secret.reveal())), scheme.string(parts), name)
    return scheme.prefix + ENCODINGS[scheme.encoding][0](mac)


def decoded(scheme: Scheme, presented: str) -> bytes | None:
    """The signature's bytes, or None unless it is written exactly as this encoding writes them."""
    if not presented.startswith(scheme.prefix):
        return None
    text = presented.removeprefix(scheme.prefix)
    encode, decode = ENCODINGS[scheme.encoding]
    try:
        signature = decode(text)
    except ValueError:
        return None
    return signature if encode(signature) == text else None


def _in_hex_digits(text: str) -> bytes:
    return bytes.fromhex(b64decode(text).decode("ascii"))


ENCODINGS: Final[dict[str, tuple[Callable[[bytes], str], Callable[[str], bytes]]]] = {
    "base64": (lambda raw: b64encode(raw).decode(), b64decode),
    "hex": (bytes.hex, bytes.fromhex),
    "upper-case hex": (lambda raw: raw.hex().upper(), bytes.fromhex),
    "URL-safe base64": (lambda raw: urlsafe_b64encode(raw).decode(), urlsafe_b64decode),
    "base64 without its padding": (
        lambda raw: b64encode(raw).decode().rstrip("="),
        lambda text: b64decode(text + "=" * (-len(text) % 4)),
    ),
    "base64 of hex digits": (lambda raw: b64encode(raw.hex().encode()).decode(), _in_hex_digits),
}

Check = Callable[[bytes, RSAPublicKey | None, bytes, bytes], bool]
"""HMAC key, public key, message, signature."""


def _hmac(name: str) -> Check:
    return lambda key, _, message, signature: hmac.compare_digest(hmac.digest(key, message, name), signature)


def _rsa(pad: Callable[[], padding.AsymmetricPadding], algorithm: hashes.HashAlgorithm) -> Check:
    def check(_: bytes, public_key: RSAPublicKey | None, message: bytes, signature: bytes) -> bool:
        if public_key is None:
            return False
        try:
            public_key.verify(signature, message, pad(), algorithm)
        except InvalidSignature:
            return False
        return True

    return check


def _pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)


ALGORITHMS: Final[dict[str, Check]] = {
    "hmac-sha512": _hmac("sha512"),
    "hmac-sha256": _hmac("sha256"),
    "hmac-sha1": _hmac("sha1"),
    "rsa-sha256": _rsa(padding.PKCS1v15, hashes.SHA256()),
    "rsa-sha512": _rsa(padding.PKCS1v15, hashes.SHA512()),
    "rsa-sha1": _rsa(padding.PKCS1v15, hashes.SHA1()),  # noqa: S303 - recognised to be explained, never accepted
    "rsa-pss-sha256": _rsa(_pss, hashes.SHA256()),
}


def _token(parts: Parts) -> bytes:
    return octets(f"{parts.client_id}{parts.separator}{parts.time}")


def _symmetric(parts: Parts) -> bytes:
    return octets(f"{parts.method}:{parts.path}:{parts.token}:{parts.digest}:{parts.time}")


def _asymmetric(parts: Parts) -> bytes:
    return octets(f"{parts.method}:{parts.path}:{parts.digest}:{parts.time}")


def _netzme(parts: Parts) -> bytes:
    head = f"path={parts.path}&method={parts.method}&token=Bearer {parts.token}&timestamp={parts.time}&body="
    return octets(head) + parts.body


def _netzme_key(parts: Parts, secret: str) -> str:
    return f"{secret}-{parts.time}-Bearer {parts.token}"


def _doku_lines(parts: Parts) -> bytes:
    lines = [
        f"Client-Id:{parts.client_id}",
        f"Request-Id:{parts.request_id}",
        f"{parts.time_name}:{parts.time}",
        f"Request-Target:{parts.path}",
    ]
    return octets("\n".join([*lines, f"Digest:{parts.digest}"] if parts.digest else lines))


def _doku_digest(body: bytes) -> str:
    return b64encode(hashlib.sha256(body).digest()).decode()


def _callback(parts: Parts) -> bytes:
    return octets(f"{parts.path}:{parts.version}:{parts.digest}:{parts.time}")


SCHEMES: Final[dict[str, Scheme]] = {
    "snap.token": Scheme(_token, "rsa-sha256"),
    "snap.symmetric": Scheme(_symmetric, "hmac-sha512"),
    "snap.asymmetric": Scheme(_asymmetric, "rsa-sha256"),
    "klikoo.token": Scheme(_token, "rsa-sha256"),
    "klikoo.transaction": Scheme(_symmetric, "hmac-sha512"),
    "netzme.transaction": Scheme(_netzme, "hmac-sha256", encoding="hex", key=_netzme_key),
    "doku.nonsnap": Scheme(_doku_lines, "hmac-sha256", digest=_doku_digest, prefix="HMACSHA256="),
    "ifortepay.callback": Scheme(_callback, "hmac-sha512"),
}
