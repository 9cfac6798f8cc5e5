"""Private keys in the forms that operators paste: every vector, DER, and what is said to all that is no RSA key."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from proxy.keyforms import PUBLISHED_KEYS, load_private_key, spki_fingerprint
from proxy.model import Secret

VECTORS = Path(__file__).parent / "vectors"


def vectors(name: str) -> dict[str, dict[str, Any]]:
    return {vector["id"]: vector for vector in json.loads((VECTORS / name).read_text())["vectors"]}


FORMS = vectors("key-formats.json")


def load(form: dict[str, Any], **options: bool) -> Any:
    passphrase = Secret(form["passphrase"]) if "passphrase" in form else None
    return load_private_key(form["material"].encode(), passphrase, **options)


def refusal(material: bytes, passphrase: Secret | None = None, **options: bool) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        load_private_key(material, passphrase, **options)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form["expect"]["load"] == "ok"])
def test_every_form_gives_the_key_that_signs(name: str) -> None:
    expect = FORMS[name]["expect"]
    key = load(FORMS[name])
    assert spki_fingerprint(key) == expect["spki_sha256"]
    signature = key.sign(expect["message"].encode(), padding.PKCS1v15(), hashes.SHA256())
    assert base64.b64encode(signature).decode() == expect["signature"]


WORDS = {
    "key-16-enc-wrong-pass": "wrong passphrase",
    "key-17-enc-no-pass": "the key is encrypted: add passphrase",
    "key-19-ec": "elliptic-curve key: the provider needs RSA",
    "key-20-ed25519": "no RSA key: the provider needs RSA",
    "key-21-public": "this is a public key: give the private half",
    "key-22-truncated": "cut off",
    "key-23-empty": "is empty",
    "key-25-rsa-512": "RSA of 512 bit, under 2048: make a longer one, or set allow_small_keys: true",
    "key-26-rsa-1024": "RSA of 1024 bit",
}


def fragments(material: str) -> list[str]:
    """Pieces of the key's text that no message may hold."""
    body = re.sub(r"-----[^-]+-----", "", material)
    return [body[at : at + 12] for at in range(0, len(body) - 12, 12)]


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form["expect"]["load"] == "error"])
def test_every_other_form_is_refused_with_what_to_do(name: str) -> None:
    form = FORMS[name]
    words = refusal(form["material"].encode(), Secret(form["passphrase"]) if "passphrase" in form else None)
    assert WORDS[name] in words
    assert not [piece for piece in fragments(form["material"]) if piece in words]


def test_all_27_forms_are_covered() -> None:
    loads = [form["expect"]["load"] for form in FORMS.values()]
    assert (loads.count("ok"), loads.count("error"), loads.count("either")) == (17, 9, 1)


def test_a_wrong_label_is_forgiven() -> None:
    (form,) = [form for form in FORMS.values() if form["expect"]["load"] == "either"]
    assert load(form).key_size == 2048


@pytest.mark.parametrize("name", ["key-25-rsa-512", "key-26-rsa-1024"])
def test_small_keys_pass_when_allowed(name: str) -> None:
    assert load(FORMS[name], allow_small=True).key_size in (512, 1024)


@pytest.mark.parametrize("structure", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_der(structure: PrivateFormat) -> None:
    key = load(FORMS["key-01-pkcs8"])
    der = key.private_bytes(Encoding.DER, structure, NoEncryption())
    assert spki_fingerprint(load_private_key(der, None)) == spki_fingerprint(key)
    assert spki_fingerprint(load_private_key(base64.b64encode(der), None)) == spki_fingerprint(key)


def pem() -> str:
    return str(FORMS["key-01-pkcs8"]["material"])


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + pem(),
        f'"{pem()}"',
        pem().replace("\n", "\\r\\n"),
        pem().replace("\n", ""),
        "Bag Attributes\n    friendlyName: x\n" + pem(),
        FORMS["key-21-public"]["material"] + pem(),
        "\n\n" + pem().replace("\n", " \n\n"),
        base64.encodebytes(pem().encode()).decode(),
        str(FORMS["key-10-bare-pkcs8"]["material"])[:64] + "\\n" + str(FORMS["key-10-bare-pkcs8"]["material"])[64:],
    ],
)
def test_more_ways_to_paste_a_key(text: str) -> None:
    fingerprint = FORMS["key-01-pkcs8"]["expect"]["spki_sha256"]
    assert spki_fingerprint(load_private_key(text.encode(), None)) == fingerprint


def test_an_old_encrypted_key_on_one_line() -> None:
    form = FORMS["key-15-enc-traditional"]
    for text in (form["material"].replace("\n", "\\n"), form["material"].replace("\n", " ")):
        key = load_private_key(text.encode(), Secret(form["passphrase"]))
        assert spki_fingerprint(key) == form["expect"]["spki_sha256"]
    assert "wrong passphrase" in refusal(form["material"].encode(), Secret("no"))


def block(label: str) -> bytes:
    return f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    ("material", "words"),
    [
        (block("CERTIFICATE"), "this is a certificate"),
        (block("CERTIFICATE REQUEST"), "this is a certificate request"),
        (block("RSA PUBLIC KEY"), "this is a public key"),
        (block("OPENSSH PRIVATE KEY"), "ssh-keygen -p -m PKCS8"),
        (block("DH PARAMETERS"), "no private key can be read"),
        (block("PRIVATE KEY"), "no private key can be read"),
        (b"hunter2", "no private key can be read"),
        (b"aHVudGVyMg==", "no private key can be read"),
        (b"\xff\xfe-\x00-\x00", "no private key can be read"),
        (b"0\x82\x04\xbe", "no private key can be read"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: X\n\n-----END RSA PRIVATE KEY-----",
         "no private key can be read"),
        (b" \n", "is empty"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_named(material: bytes, words: str) -> None:
    assert words in refusal(material)


def test_a_public_key_or_certificate_in_der_is_named() -> None:
    public = load(FORMS["key-01-pkcs8"]).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert "public key" in refusal(public)
    assert "public key" in refusal(base64.b64encode(public))


def test_an_elliptic_curve_key_behind_its_parameters_is_named() -> None:
    assert "elliptic-curve" in refusal(block("EC PARAMETERS") + FORMS["key-19-ec"]["material"].encode())


def test_keys_that_documents_print_are_refused() -> None:
    printed = [vector for vector in vectors("published.json").values() if "spki_sha256" in vector]
    assert {vector["spki_sha256"] for vector in printed} == PUBLISHED_KEYS
    for vector in printed:
        assert "printed in public documents" in refusal(vector["private_pem"].encode(), allow_small=True)


def test_a_passphrase_is_in_no_message() -> None:
    form = FORMS["key-16-enc-wrong-pass"]
    assert "hunter2" not in refusal(form["material"].encode(), Secret("hunter2"))
