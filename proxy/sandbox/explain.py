"""Why a signature does not match: known mistakes of signers, tried one after another until one reproduces it."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import Any, Final
from urllib.parse import unquote

from proxy.sandbox.answers import Part
from proxy.sandbox.bodies import canonical
from proxy.sandbox.schemes import ALGORITHMS, ENCODINGS, SCHEMES, Keys, Parts, Scheme, decoded, verify
from proxy.sandbox.stamps import spellings


@dataclass(frozen=True, slots=True)
class Attempt:
    """One guess at how the signature was made."""

    scheme: Scheme
    parts: Parts
    keys: Keys


@dataclass(frozen=True, slots=True)
class Mistake:
    """`words` complete the sentence "the signature was made ..."."""

    part: Part
    words: str
    commit: Callable[[Attempt], Attempt]


@dataclass(frozen=True, slots=True)
class Wire:
    """What else is known of the refused request. `at_ms` is its own time; `tokens` are others of the account."""

    body: bytes = field(default=b"", repr=False)
    origin: str = ""
    mount: str = ""
    target: str = ""
    at_ms: int = 0
    tokens: Sequence[str] = field(default=(), repr=False)


def explain(attempt: Attempt, presented: str, mistakes: Iterable[Mistake]) -> tuple[Part, str]:
    """The part that differs and words for it, by the first mistake that reproduces the signature."""
    for mistake in mistakes:
        guess = mistake.commit(attempt)
        if verify(guess.scheme, guess.parts, guess.keys, presented):
            return mistake.part, f"the signature was made {mistake.words}"
    return _unexplained(attempt, presented)


def _unexplained(attempt: Attempt, presented: str) -> tuple[Part, str]:
    scheme, key = attempt.scheme, attempt.keys.public_key
    signature = decoded(scheme, presented)
    if signature is None:
        return "encoding", f"the signature is not {scheme.prefix}{scheme.encoding} on one line"
    rsa_size = key.key_size // 8 if key else 256
    wanted = rsa_size if scheme.algorithm.startswith("rsa") else int(scheme.algorithm[-3:]) // 8
    if len(signature) != wanted:
        return "algorithm", f"the signature has {len(signature)} bytes, {scheme.algorithm} gives {wanted}"
    return "key", "no known deviation reproduces it: the key differs, or something signed was changed on the way"


def call_mistakes(wire: Wire) -> Iterator[Mistake]:
    bodies, paths = list(_bodies(wire)), list(_paths(wire))
    yield from chain(bodies, paths, _tokens(wire), _times(wire), METHODS, SEALS, KEYS)
    for first, second in product(bodies, paths):
        yield _both(first, second)


def token_mistakes(wire: Wire) -> Iterator[Mistake]:
    yield from chain(SEPARATORS, _times(wire), SEALS)


def _both(first: Mistake, second: Mistake) -> Mistake:
    words = f"{first.words}, and {second.words}"
    return Mistake(first.part, words, lambda attempt: second.commit(first.commit(attempt)))


def _with(**changes: Any) -> Callable[[Attempt], Attempt]:
    return lambda attempt: replace(attempt, parts=replace(attempt.parts, **changes))


def _altering(change: Callable[[Parts], Parts]) -> Callable[[Attempt], Attempt]:
    return lambda attempt: replace(attempt, parts=change(attempt.parts))


def _sealing(**changes: Any) -> Callable[[Attempt], Attempt]:
    return lambda attempt: replace(attempt, scheme=replace(attempt.scheme, **changes))


def _body(body: bytes) -> Callable[[Attempt], Attempt]:
    def commit(attempt: Attempt) -> Attempt:
        return _with(body=body, digest=attempt.scheme.digest(body))(attempt)

    return commit


def _digest(write: Callable[[bytes], str]) -> Callable[[Attempt], Attempt]:
    return _altering(lambda parts: replace(parts, digest=write(parts.body)))


def _rewritten(**style: Any) -> Callable[[bytes], bytes]:
    def rewrite(body: bytes) -> bytes:
        try:
            return json.dumps(json.loads(body), **style).encode()
        except (ValueError, RecursionError):
            return body

    return rewrite


_COMPACT: Final = (",", ":")

BODIES: Final[tuple[tuple[str, Callable[[bytes], bytes]], ...]] = (
    ("over the body as sent, not minified", lambda body: body),
    ("over the minified body, its members in their given order", lambda body: canonical(body, "minify")),
    ("over the minified body with its members sorted", lambda body: canonical(body, "sorted")),
    ("over a body with blanks removed inside strings too", lambda body: b"".join(body.split())),
    ("over an empty body", lambda _: b""),
    ("over a body that a serializer wrote anew", _rewritten(separators=_COMPACT, ensure_ascii=False)),
    ("over a body written anew with non-ASCII escaped", _rewritten(separators=_COMPACT)),
    ("over a body written anew with blanks after colons and commas", _rewritten()),
    ("over a body written anew with its members sorted", _rewritten(separators=_COMPACT, sort_keys=True)),
    ("over the minified body with a newline at its end", lambda body: canonical(body, "minify") + b"\n"),
)


def _bodies(wire: Wire) -> Iterator[Mistake]:
    for words, rewrite in BODIES:
        yield Mistake("body", words, _body(rewrite(wire.body)))
    yield Mistake("body", "without a body digest", _with(digest=""))
    for words, write in DIGESTS:
        yield Mistake("body", words, _digest(write))


DIGESTS: Final[tuple[tuple[str, Callable[[bytes], str]], ...]] = (
    ("with the body digest in hex", lambda body: hashlib.sha256(body).hexdigest()),
    ("with the body digest in upper-case hex", lambda body: hashlib.sha256(body).hexdigest().upper()),
    ("with the body digest in base64", lambda body: b64encode(hashlib.sha256(body).digest()).decode()),
    ("with SHA-256= before the digest", lambda body: "SHA-256=" + b64encode(hashlib.sha256(body).digest()).decode()),
)


def _paths(wire: Wire) -> Iterator[Mistake]:
    path, _, query = wire.target.partition("?")
    by_name = "&".join(sorted(query.split("&")))
    guesses = {
        "over the path alone, without query or base path": path,
        "over path and query, without the base path": wire.target,
        "over base path and path, without the query": wire.mount + path,
        "over base path, path and query": wire.mount + wire.target,
        "over the full URL": wire.origin + wire.mount + wire.target,
        "over the full URL without the base path": wire.origin + wire.target,
        "over a decoded path": unquote(path),
        "over a decoded path and query": unquote(wire.target),
        "over a sorted query": f"{path}?{by_name}",
        "over a path with a slash at its end": path + "/",
        "over a path without the slash at its end": path.rstrip("/"),
        "over a path without the slash before it": path.removeprefix("/"),
    }
    return (Mistake("path", words, _with(path=guess)) for words, guess in guesses.items())


def _tokens(wire: Wire) -> Iterator[Mistake]:
    yield Mistake(
        "token", "with `Bearer ` before the token", _altering(lambda p: replace(p, token=f"Bearer {p.token}"))
    )
    yield Mistake("token", "without the token", _with(token=""))
    for token in wire.tokens:
        yield Mistake("token", "with an earlier token than the one sent", _with(token=token))


def _times(wire: Wire) -> Iterator[Mistake]:
    """The header's instant written otherwise, and the clock read twice: moments up to two seconds apart."""
    for name, text in spellings(wire.at_ms).items():
        yield Mistake("time", f"over the time {name}, unlike its header", _with(time=text))
    for seconds in (-1, 1, -2, 2):
        for text in spellings(wire.at_ms + seconds * 1000).values():
            yield Mistake("time", f"over a time {abs(seconds)} s away from its header", _with(time=text))


METHODS: Final = (
    Mistake("method", "over the method in lower case", _altering(lambda p: replace(p, method=p.method.lower()))),
    *(Mistake("method", f"over the method {name}", _with(method=name)) for name in ("POST", "GET", "PUT", "DELETE")),
)

SEPARATORS: Final = (
    Mistake("encoding", "with a colon between client id and time", _with(separator=":")),
    Mistake("encoding", "with a bar between client id and time", _with(separator="|")),
    Mistake("encoding", "with nothing between client id and time", _with(separator="")),
)


def _asymmetric(attempt: Attempt) -> Attempt:
    return replace(attempt, scheme=SCHEMES["snap.asymmetric"])


SEALS: Final = (
    Mistake("encoding", "without the prefix before its base64", _sealing(prefix="")),
    *(Mistake("encoding", f"in {name}", _sealing(encoding=name)) for name in ENCODINGS),
    Mistake("algorithm", "with the RSA key over a string without the token", _asymmetric),
    *(
        Mistake("algorithm", f"with {algorithm}, in {name}", _sealing(algorithm=algorithm, encoding=name))
        for algorithm, name in product(ALGORITHMS, ENCODINGS)
    ),
)

KEYS: Final[tuple[Mistake, ...]] = tuple(
    Mistake("key", words, _sealing(key=key))
    for words, key in (
        ("with the bare secret as its key", lambda _, secret: secret),
        ("with a newline after the secret", lambda _, secret: secret + "\n"),
        ("with the time and the secret, but no token, as its key", lambda p, secret: f"{secret}-{p.time}"),
        ("without `Bearer` in its key", lambda p, secret: f"{secret}-{p.time}-{p.token}"),
        ("with the client id as its key", lambda p, _: p.client_id),
        ("with an empty key", lambda *_: ""),
    )
)
