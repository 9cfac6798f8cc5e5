"""Who is calling: tokens of a route's callers, compared in constant time, and the name that goes into the log."""

import base64
import binascii
import hmac
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final

from proxy.errors import ProxyError
from proxy.headers import value_of
from proxy.model import Headers, InboundRequest, Secret

LEAST: Final = 16
"""Characters of a token."""
WORDS: Final = "the route wants a caller token: X-Paraf-Token, or Proxy-Authorization: Bearer"


class Callers:
    """`tokens` by name. What is kept are digests: of one length, and no token once this is made."""

    def __init__(self, tokens: Mapping[str, Secret]) -> None:
        self._digests = {name: _digest(token.reveal()) for name, token in tokens.items()}

    def recognise(self, request: InboundRequest) -> str:
        """The caller's name. A tunnel is asked when the request inside says nothing itself.

        Raises `caller_unauthorized`, as 407 where we were asked as a proxy.
        """
        sources = (request.headers, request.tunnel.headers if request.tunnel else ())
        for token in (token for headers in sources for token in _presented(headers)):
            if name := self._name_of(token):
                return name
        as_proxy = request.tunnel is None and not request.target.startswith("/")
        raise ProxyError("caller_unauthorized", WORDS, status=407 if as_proxy else None)

    def _name_of(self, token: str) -> str:
        """Every one is compared, so that the time tells neither which it was nor how much of it was right."""
        found, digest = "", _digest(token)
        for name, known in self._digests.items():
            found = name if hmac.compare_digest(known, digest) else found
        return found


def caller_token(token: Secret, others: Iterable[Secret]) -> Secret:
    """Raises ValueError for one that cannot be sent in a header, can be guessed, or is another caller's too."""
    text = token.reveal()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a caller token is printable ASCII without blanks: it is sent in a header")
    if len(text) < LEAST:
        raise ValueError(f"has fewer than {LEAST} characters: make one with `openssl rand -hex 32`")
    if token in others:
        raise ValueError("is another caller's token too: each has its own")
    return token


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _presented(headers: Headers) -> Iterator[str]:
    if own := value_of(headers, "X-Paraf-Token"):
        yield own.strip()
    scheme, _, credential = (value_of(headers, "Proxy-Authorization") or "").strip().partition(" ")
    if scheme.lower() == "bearer":
        yield credential.strip()
    elif scheme.lower() == "basic":
        yield _password(credential.strip())


def _password(credential: str) -> str:
    """What a program makes of `http_proxy=http://NAME:TOKEN@HOST:PORT`: most know no other way (RFC 7617)."""
    try:
        return base64.b64decode(credential, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
