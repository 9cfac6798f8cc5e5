"""The shared vectors as tests read them, and signers made of what a vector states."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.addresses import BaseUrl
from proxy.catalogue import Catalogue
from proxy.model import Secret, Token
from proxy.signing.binding import Binding, bind, effective
from proxy.signing.exchange import Exchange
from proxy.signing.signer import Signer

FOLDER = Path(__file__).parent / "vectors"
CATALOGUE = Catalogue()


@cache
def vector_file(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def vectors(name: str, *schemes: str) -> list[dict[str, Any]]:
    return [v for v in vector_file(name)["vectors"] if not schemes or v["scheme"] in schemes]


def named(vector: Any) -> str:
    return vector["id"] if isinstance(vector, dict) else str(vector)


def octets(body: dict[str, Any]) -> bytes:
    return base64.b64decode(body["b64"])


def private_key(file: str, name: str) -> Any:
    entry = vector_file(file)["keys"][name]
    passphrase = entry.get("passphrase")
    return load_pem_private_key(entry["pem"].encode(), passphrase.encode() if passphrase else None)


def token(value: str) -> Token:
    return Token(Secret(value), 0, 0.0)


def binding(profile: str, *, client_id: str, secret: str = "", **switches: Any) -> Binding:
    known = CATALOGUE.profile(profile)
    credentials = {"client_id": client_id.encode(), "client_secret": secret.encode()}
    return bind(known, effective(known, switches), credentials)


def signer(profile: str, base: str, *, client_id: str = "client", secret: str = "", **switches: Any) -> Signer:
    return Signer(binding(profile, client_id=client_id, secret=secret, **switches), BaseUrl.parse(base))


def exchange(profile: str, *, client_id: str, secret: str = "", **switches: Any) -> Exchange:
    bound = binding(profile, client_id=client_id, secret=secret, **switches)
    assert bound.profile.token is not None
    return Exchange(bound, bound.profile.token, BaseUrl.parse("https://api.provider.example"))
