"""The merchants that the sandbox knows, and a way to make up fresh ones."""

import secrets
import string
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.model import Secret
from proxy.sandbox.rules import RULES, Rule


@dataclass(frozen=True, slots=True)
class SandboxAccount:
    """One merchant, mounted at `/<name>`.

    `readings` settle what the provider's documents leave open, against the profile's `Rule`: `canonical`,
    `sign_path`, `digest_for`, `token_separator`, `strip_base_path` (`true` | `false`), `timestamp` and
    `external_id` (`free`).
    """

    name: str
    profile: str
    client_id: str
    client_secret: Secret
    public_key: RSAPublicKey | None = field(default=None, repr=False)
    readings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FreshAccount:
    """An account and the merchant's own half of its key: PEM, PKCS#8; None where the provider takes no RSA key."""

    account: SandboxAccount
    private_key_pem: str | None = field(repr=False)


def fresh_accounts(profiles: Sequence[str]) -> list[FreshAccount]:
    """One account for each profile named, with new credentials. Costs an RSA key each; never for real use."""
    return [_fresh(name, RULES[profile]) for name, profile in zip(_names(profiles), profiles, strict=True)]


def _names(profiles: Sequence[str]) -> Iterator[str]:
    """The profile's name; the second of a kind is `doku-2`."""
    seen = Counter[str]()
    for profile in profiles:
        seen[profile] += 1
        yield profile if seen[profile] == 1 else f"{profile}-{seen[profile]}"


def _fresh(name: str, rule: Rule) -> FreshAccount:
    account = SandboxAccount(
        name,
        rule.profile,
        client_id=_CLIENT_IDS[rule.profile](),
        client_secret=Secret(_SECRETS.get(rule.profile, _alphanumeric)()),
    )
    if not takes_rsa(rule):
        return FreshAccount(account, None)
    key = generate_private_key(65537, 2048)
    return FreshAccount(replace(account, public_key=key.public_key()), _pem(key))


def takes_rsa(rule: Rule) -> bool:
    return rule.style == "snap" or (rule.token is not None and rule.token.check == "klikoo")


def _pem(key: RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _pick(alphabet: str, count: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(count))


def _digits(count: int) -> str:
    return _pick(string.digits, count)


def _alphanumeric() -> str:
    return _pick(string.ascii_letters + string.digits, 16)


_CLIENT_IDS: Final[Mapping[str, Callable[[], str]]] = {
    "snap": lambda: f"pjp-sandbox-{_digits(6)}",
    "doku": lambda: f"BRN-{_digits(4)}-{_digits(13)}",
    "doku-nonsnap": lambda: f"MCH-{_digits(4)}-{_digits(14)}",
    "ifortepay-payment": lambda: f"MCP{_digits(10)}",
    "ifortepay-disbursement": lambda: f"MCPD{_digits(10)}",
    "klikoo": lambda: str(uuid.uuid4()),
    "netzme": lambda: f"toko-sandbox-{_digits(6)}",
    "netzme-main": lambda: f"netzme-sandbox-{_digits(6)}",
    "netzme-vsnap": lambda: f"TokoSandbox{_digits(6)}",
}

_SECRETS: Final[Mapping[str, Callable[[], str]]] = {
    "klikoo": lambda: secrets.token_hex(16),
    "doku": lambda: f"SK-{_alphanumeric()}",
    "doku-nonsnap": lambda: f"SK-{_alphanumeric()}",
    # Ifortepay lets the merchant choose, of letters, digits and !@#$%^.
    "ifortepay-payment": lambda: _alphanumeric() + _pick("!@#$%^", 2),
    "ifortepay-disbursement": lambda: _alphanumeric() + _pick("!@#$%^", 2),
}
