"""What lacks nothing but its signatures: the demands to answer, and the request that they complete.

Only `Draft.seal` makes a SignedRequest that may leave. Keys answer demands wherever they live.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.model import Headers, ParsedKey, SignedRequest
from proxy.signing.algorithms import ALGORITHMS, ENCODINGS
from proxy.signing.binding import Rows, Values
from proxy.signing.profile import Signature
from proxy.signing.template import Template


@dataclass(frozen=True, slots=True)
class Demand:
    """One signature to be made: HMAC with the key itself, RSA with the private key of that name."""

    algorithm: str
    key: bytes | str = field(repr=False)
    message: bytes = field(repr=False)

    def answer(self, private_keys: Mapping[str, ParsedKey]) -> bytes:
        key = private_keys[self.key] if isinstance(self.key, str) else self.key
        return ALGORITHMS[self.algorithm](key, self.message)


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that lacks nothing but its signatures; `demands` stand in the order of `headers_due`."""

    request: SignedRequest
    demands: tuple[Demand, ...]
    headers_due: tuple[tuple[str, str, str], ...]
    """Header, prefix and encoding of each signature."""

    def seal(self, signatures: Sequence[bytes]) -> SignedRequest:
        made = [
            (header, prefix + ENCODINGS[encoding](raw).decode())
            for (header, prefix, encoding), raw in zip(self.headers_due, signatures, strict=True)
        ]
        unsigned = self.request
        return SignedRequest(unsigned.method, unsigned.url, (*unsigned.headers, *made), unsigned.body)


def rendered(headers: Rows, values: Values) -> Headers:
    return tuple([same or (name, render(values).decode()) for name, render, same in headers])


def demands(signatures: Sequence[Signature], values: Values) -> tuple[Demand, ...]:
    return tuple(
        [
            Demand(
                signature.algorithm,
                signature.key if isinstance(signature.key, str) else signature.key.render(values),
                signature.string.render(values),
            )
            for signature in signatures
        ]
    )


def headers_due(signatures: Sequence[Signature]) -> tuple[tuple[str, str, str], ...]:
    return tuple((signature.header, signature.prefix, signature.encoding) for signature in signatures)


def json_body(body: Any, values: Mapping[str, bytes]) -> bytes:
    """A JSON body whose leaves are templates: filled as a value, so that nothing in it needs escaping by hand."""
    return json.dumps(_filled(body, values), separators=(",", ":"), ensure_ascii=False).encode()


def _filled(value: Any, values: Mapping[str, bytes]) -> Any:
    if isinstance(value, Template):
        return value.render(values).decode()
    if isinstance(value, dict):
        return {name: _filled(member, values) for name, member in value.items()}
    if isinstance(value, list):
        return [_filled(member, values) for member in value]
    return value
