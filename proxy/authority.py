"""The local authority: made for some hosts and no others, and the certificates that it signs for them.

A root signs one intermediate and its key is thrown away. The limits stand in the intermediate, because Java ignores
them in a root; from a constrained intermediate OpenSSL, Node, Go and Java all take no other name (measured). RFC 5280
section 4.2.1.10.
"""

import ipaddress
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.addresses import is_address
from proxy.model import Secret

ROOT: Final = "root.pem"
"""The file beside `ca.cert` that holds what programs have to trust."""
LIFE: Final = timedelta(days=730)
"""Of root and intermediate. The root's key is gone, so a new host or the end of this time means a new authority."""
LEAF_LIFE: Final = timedelta(hours=24)
PAST: Final = timedelta(hours=1)
"""How far back a certificate begins, for programs on a machine whose clock is behind."""
TRUST_STORE_PASSWORD: Final = "changeit"  # noqa: S105 -- Java's own default; nothing secret is in a trust store


@dataclass(frozen=True, slots=True)
class MadeAuthority:
    """PEM. `chain` is the intermediate and the root; `root` is what programs have to trust."""

    root: str
    chain: str
    key: Secret


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate for one host with all that a TLS server shows; times in seconds since the epoch."""

    chain: bytes
    key: bytes = field(repr=False)
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: x509.Certificate
    chain: str
    key: EllipticCurvePrivateKey = field(repr=False)
    root: str = ""
    """Where the certificate lies that programs have to trust, if that is known."""

    @classmethod
    def read(cls, chain: str, key: Secret, root: str = "") -> "Authority":
        """Of PEM texts. Raises ValueError in words of ours."""
        first, private = _certificates(chain)[0], _private_key(key)
        if _public(first) != private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
            raise ValueError("the key does not belong to the certificate")
        if not _may_sign(first):
            raise ValueError("the first certificate may not sign others")
        return cls(first, chain, private, root)

    @property
    def ends(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def is_constrained(self) -> bool:
        return self._names() is not None

    def covers(self, host: str) -> bool:
        """May it sign for this host? An authority without name constraints may sign for every name, but no address."""
        if is_address(host):
            return False
        names = self._names()
        return names is None or any(host == name or host.endswith(f".{name}") for name in names)

    def leaf(self, host: str, now: datetime) -> Leaf:
        """A certificate for this host alone."""
        key = generate_private_key(SECP256R1())
        begins, ends = now - PAST, min(now + LEAF_LIFE, self.ends)
        signed = (
            _builder(host, self.certificate.subject, key, begins, ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(_SERVERS, critical=False)
            .add_extension(_issued_by(self.key), critical=False)
            .sign(self.key, SHA256())
        )
        return Leaf(_pem(signed).encode() + self.chain.encode(), _key_pem(key), begins.timestamp(), ends.timestamp())

    def _names(self) -> tuple[str, ...] | None:
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return None
        return tuple(str(each.value) for each in found.permitted_subtrees or () if isinstance(each, x509.DNSName))


def make_authority(hosts: Iterable[str], now: datetime) -> MadeAuthority:
    """`hosts`: names, at least one; an address cannot be among them."""
    root_key, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    begins, ends = now - PAST, now + LIFE
    name = _named("Paraf local root")
    root = (
        _builder("Paraf local root", name, root_key, begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, SHA256())
    )
    intermediate = (
        _builder("Paraf local authority", name, key, begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_SERVERS, critical=False)
        .add_extension(_constraints(hosts), critical=True)
        .add_extension(_issued_by(root_key), critical=False)
        .sign(root_key, SHA256())
    )
    return MadeAuthority(_pem(root), _pem(intermediate) + _pem(root), Secret(_key_pem(key).decode()))


def java_trust_store(bundle: str) -> bytes:
    """A PKCS#12 trust store of every certificate in a PEM text, under TRUST_STORE_PASSWORD."""
    entries = [PKCS12Certificate(each, str(number).encode()) for number, each in enumerate(_readable(bundle))]
    return serialize_java_truststore(entries, BestAvailableEncryption(TRUST_STORE_PASSWORD.encode()))


def utc_now() -> datetime:
    return datetime.now(UTC)


_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_SERVERS: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def _constraints(hosts: Iterable[str]) -> x509.NameConstraints:
    return x509.NameConstraints(
        permitted_subtrees=[x509.DNSName(host) for host in sorted(hosts)],
        excluded_subtrees=[x509.IPAddress(ipaddress.ip_network(every)) for every in ("0.0.0.0/0", "::/0")],
    )


def _builder(
    subject: str, issuer: x509.Name, key: EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(subject[:64]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _issued_by(key: EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certificates(text: str) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValueError("holds no PEM certificate that can be read") from None


def _readable(bundle: str) -> Iterator[x509.Certificate]:
    """A system's bundle may hold what this library does not take, or warns of: the rest is as good without it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in _BLOCK.findall(bundle):
            with suppress(ValueError, Warning):
                yield x509.load_pem_x509_certificate(block.encode())


def _private_key(pem: Secret) -> EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem.reveal().encode(), None)
    except (ValueError, TypeError):
        raise ValueError("holds no PEM key that can be read without a passphrase") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError("is no elliptic-curve key")  # noqa: TRY004 -- a finding, like the others
    return key


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
