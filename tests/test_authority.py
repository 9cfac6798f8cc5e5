"""The local authority: what it signs, what OpenSSL takes from it, and what it cannot be made to do."""

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.x509.oid import NameOID
from tunnelling import trusting

from proxy.authority import LEAF_LIFE, LIFE, Authority, java_trust_store, make_authority, utc_now
from proxy.model import Secret

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
HOSTS = ("api.provider.example", "token.provider.example")
MADE = make_authority(HOSTS, utc_now())
AUTHORITY = Authority.read(MADE.chain, MADE.key)


def shaken(leaf, asked: str, root: str = MADE.root) -> str:
    """The reason for which OpenSSL refuses the certificate; "" when it does not."""
    server, client = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with_file(inside, leaf)
    there = inside.wrap_bio(*server, server_side=True)
    here = trusting(root).wrap_bio(*client, server_hostname=asked)
    for _ in range(4):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as refusal:
                return refusal.verify_message
            server[0].write(client[1].read())
            client[0].write(server[1].read())
    return ""


def with_file(context, leaf) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(leaf.chain + leaf.key)
        file.flush()
        context.load_cert_chain(file.name)


@pytest.mark.parametrize("host", HOSTS)
def test_openssl_takes_a_leaf_for_its_host(host):
    assert shaken(AUTHORITY.leaf(host, utc_now()), host) == ""


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("bank.example", "permitted subtree violation"),
        ("provider.example", "permitted subtree violation"),
        ("api.provider.example.evil.example", "permitted subtree violation"),
    ],
)
def test_openssl_takes_nothing_else_though_the_key_would_sign_it(host, why):
    assert shaken(AUTHORITY.leaf(host, utc_now()), host) == why


def test_a_leaf_is_for_one_host():
    assert "Hostname mismatch" in shaken(AUTHORITY.leaf(HOSTS[0], utc_now()), HOSTS[1])


def test_another_authority_of_the_same_hosts_is_not_taken():
    other = make_authority(HOSTS, utc_now())
    leaf = Authority.read(other.chain, other.key).leaf(HOSTS[0], utc_now())
    assert shaken(leaf, HOSTS[0]) != ""


def test_an_address_is_not_taken():
    excluded = AUTHORITY.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert excluded.critical
    assert [each.value for each in excluded.value.excluded_subtrees] == [
        ipaddress.ip_network("0.0.0.0/0"),
        ipaddress.ip_network("::/0"),
    ]


def test_a_leaf_lives_for_a_day_and_never_longer_than_its_authority():
    made = make_authority(HOSTS, NOW)
    authority = Authority.read(made.chain, made.key)
    leaf = authority.leaf(HOSTS[0], NOW)
    assert leaf.ends - NOW.timestamp() == LEAF_LIFE.total_seconds()
    late = authority.leaf(HOSTS[0], NOW + LIFE - timedelta(hours=3))
    assert late.ends == (NOW + LIFE).timestamp() == authority.ends.timestamp()


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("api.provider.example", True),
        ("deep.api.provider.example", True),
        ("provider.example", False),
        ("xapi.provider.example", False),
        ("10.0.0.1", False),
        ("::1", False),
    ],
)
def test_what_it_covers(host, covered):
    assert AUTHORITY.covers(host) is covered


def test_one_without_constraints_covers_every_name():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody's own")])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    authority = Authority.read(signed.public_bytes(Encoding.PEM).decode(), Secret(pem))
    assert not authority.is_constrained
    assert authority.covers("any.example")
    assert not authority.covers("10.0.0.1")


def test_what_is_no_authority():
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    other = make_authority(HOSTS, NOW)
    leaf = AUTHORITY.leaf(HOSTS[0], utc_now())
    for chain, key, words in (
        ("nothing", MADE.key, "no PEM certificate"),
        (MADE.chain, Secret("nothing"), "no PEM key"),
        (MADE.chain, Secret(rsa), "no elliptic-curve key"),
        (MADE.chain, other.key, "does not belong"),
        (leaf.chain.decode(), Secret(leaf.key.decode()), "may not sign others"),
    ):
        with pytest.raises(ValueError, match=words):
            Authority.read(chain, key)


def test_the_key_does_not_print():
    assert "PRIVATE" not in repr(MADE) + repr(AUTHORITY) + repr(AUTHORITY.leaf(HOSTS[0], NOW))


def test_a_trust_store_holds_what_can_be_read_and_leaves_out_the_rest():
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    store = java_trust_store(f"# a comment\n{broken}{MADE.root}")
    held = pkcs12.load_pkcs12(store, b"changeit").additional_certs
    assert [each.certificate for each in held] == [x509.load_pem_x509_certificate(MADE.root.encode())]
