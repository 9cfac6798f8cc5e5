"""What lacks nothing but its signatures: the demands to answer, and the request that they complete.

Only `Draft.seal` makes a SignedRequest that may leave. Keys answer demands wherever they live.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from proxy.model import Headers, ParsedKey, SignedRequest
from proxy.signing.algorithms import ALGORITHMS, ENCODINGS, HmacKey
from proxy.signing.binding import Rows
from proxy.signing.profile import Signature
from proxy.signing.template import Fill, Template

Asked = tuple[tuple[str, bytes | str, Fill | None, Fill], ...]
"""Of each signature the algorithm, its key or what makes it, and what makes the string-to-sign."""

Make = Callable[[Mapping[str, bytes]], Headers]
"""What makes headers of the values of a request: put together at load."""


class Demand(NamedTuple):
    """One signature to be made: HMAC with the key itself, RSA with the private key of that name."""

    algorithm: str
    key: bytes | str
    message: bytes

    def __repr__(self) -> str:
        return f"Demand({self.algorithm})"

    def answer(self, private_keys: Mapping[str, ParsedKey]) -> bytes:
        key = private_keys[self.key] if isinstance(self.key, str) else self.key
        return ALGORITHMS[self.algorithm](key, self.message)


class Draft(NamedTuple):
    """A request that lacks nothing but its signatures; `demands` stand in the order of `headers_due`."""

    request: SignedRequest
    demands: tuple[Demand, ...]
    headers_due: tuple[tuple[str, str, str], ...]
    """Header, prefix and encoding of each signature."""

    @property
    def is_quick(self) -> bool:
        """No private key is needed."""
        return not any(isinstance(demand.key, str) for demand in self.demands)

    def seal(self, signatures: Sequence[bytes]) -> SignedRequest:
        made = [
            (header, prefix + ENCODINGS[encoding](raw).decode())
            for (header, prefix, encoding), raw in zip(self.headers_due, signatures, strict=True)
        ]
        method, url, headers, body = self.request
        return SignedRequest(method, url, (*headers, *made), body)


def making(rows: Rows) -> Make:
    renders = [(name, template.render) for name, template in rows]

    def make(values: Mapping[str, bytes]) -> Headers:
        made: Headers = ()
        for name, render in renders:  # a comprehension costs a third more (measured)
            made += ((name, render(values).decode()),)
        return made

    return make


def asked(signatures: Sequence[Signature]) -> Asked:
    """To be done at load."""
    return tuple([(each.algorithm, *_key(each.key), each.string.render) for each in signatures])


def _key(key: str | Template) -> tuple[bytes | str, Fill | None]:
    """The key, or what makes it for each request."""
    if isinstance(key, str):
        return key, None
    return (b"", key.render) if key.names else (key.render({}), None)


def demands(signatures: Asked, values: Mapping[str, bytes]) -> tuple[Demand, ...]:
    return tuple(
        [
            Demand(algorithm, made(values) if made else key, string(values))
            for algorithm, key, made, string in signatures
        ]
    )


def at_once(signatures: Sequence[Signature]) -> Make | None:
    """To be done at load: what makes their headers; None if one of them needs a private key."""
    if any(isinstance(each.key, str) for each in signatures):
        return None
    makes = [_at_once(each, *asked([each])) for each in signatures]
    return makes[0] if len(makes) == 1 else lambda values: tuple([row for make in makes for row in make(values)])


def _at_once(signature: Signature, demand: tuple[str, bytes | str, Fill | None, Fill]) -> Make:
    algorithm, key, made, string = demand
    header, prefix, encode = signature.header, signature.prefix, ENCODINGS[signature.encoding]
    if isinstance(key, HmacKey):
        sign = key.sign
        return lambda values: ((header, prefix + encode(sign(string(values))).decode()),)
    by = ALGORITHMS[algorithm]
    return lambda values: ((header, prefix + encode(by(made(values) if made else key, string(values))).decode()),)


def dues(signatures: Sequence[Signature]) -> tuple[tuple[str, str, str], ...]:
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
