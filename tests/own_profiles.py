"""Profiles as an operator writes them, in a folder of the test's own, and what their signers make of a call."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.addresses import BaseUrl
from proxy.catalogue import Catalogue
from proxy.errors import ConfigError, Finding
from proxy.headers import names_of
from proxy.model import ParsedKey, Secret, SignedRequest, Token
from proxy.signing.binding import Binding, bind, effective
from proxy.signing.draft import Draft
from proxy.signing.exchange import Exchange
from proxy.signing.profile import Profile
from proxy.signing.signer import Call, Signer

NOW = 1_768_447_845_678
"""2026-01-15T10:30:45.678+07:00"""

BANK = """\
title: Bank
docs: https://bank.example/docs
environments:
  sandbox: {api: "https://sandbox.bank.example"}
credentials: {client_id: text, client_secret: text, private_key: pem}
timestamp: iso_offset_s
canonical: minify
sign_path: path
signature: plain
schemes:
  plain:
    token: false
    set: {X-TIME: "{timestamp}"}
    signatures:
      - header: X-SIG
        string: "{method}:{endpoint}:{body|sha256|hex}:{timestamp}"
        algorithm: hmac-sha256
        key: "{client_secret}"
"""


def catalogue(folder: Path, **texts: str) -> Catalogue:
    """Of a folder with these files, `name` with its text each."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return Catalogue([folder])


def profile(folder: Path, text: str, **others: str) -> Profile:
    return catalogue(folder, mine=text, **others).profile("mine")


def findings(folder: Path, text: str, **others: str) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        profile(folder, text, **others)
    return caught.value.findings


def bound(own: Profile, credentials: Mapping[str, str], **switches: Any) -> Binding:
    return bind(own, effective(own, switches), {name: value.encode() for name, value in credentials.items()})


def signer(own: Profile, base: str, credentials: Mapping[str, str], **switches: Any) -> Signer:
    return Signer(bound(own, credentials, **switches), BaseUrl.parse(base))


def exchange(own: Profile, base: str, credentials: Mapping[str, str], **switches: Any) -> Exchange:
    assert own.token
    return Exchange(bound(own, credentials, **switches), own.token, BaseUrl.parse(base))


def folded(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())


@dataclass(frozen=True)
class Sent:
    """What a call came to: the sealed request, and what was signed on the way."""

    call: Call
    draft: Draft
    request: SignedRequest

    @property
    def message(self) -> str:
        return self.draft.demands[0].message.decode()

    @property
    def header_names(self) -> list[str]:
        """As a server that folds names reads them."""
        return [folded(name) for name, _ in self.request.headers]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.request.headers if folded(key) == folded(name)]

    def one(self, name: str) -> str:
        values = self.all(name)
        assert len(values) == 1, (name, values)
        return values[0]


def send(
    by: Signer,
    method: str = "POST",
    target: str = "/v1/pay",
    *headers: tuple[str, str],
    body: bytes = b"",
    token: str | None = "T0ken",
    now_ms: int = NOW,
    external_id: str | None = None,
    keys: Mapping[str, ParsedKey] | None = None,
) -> Sent:
    call = by.admit(method, target, names_of(headers), headers, body)
    kept = Token(Secret(token), 0, 0.0) if token is not None and call.aim.scheme.token else None
    draft = by.draft(call, kept, now_ms, call.external_id or external_id)
    sealed = draft.seal([demand.answer(keys or {}) for demand in draft.demands])
    assert (call.aim.scheme.quick is not None) == draft.is_quick
    if draft.is_quick:
        assert by.signed(call, kept, now_ms, call.external_id or external_id) == sealed
    return Sent(call, draft, sealed)
