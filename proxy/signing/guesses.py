"""What signers are known to do otherwise, as guesses to be tried: each changes one part of a reading.

Where the evidence is: `paraf verify` in the documentation lists the parts; the mistakes are those that public signers,
SDKs and issue threads show.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Final

from proxy.signing.binding import Lazy
from proxy.signing.guess import AtHand, Guess, guess
from proxy.signing.names import let_rows
from proxy.signing.pathforms import Target, path_forms
from proxy.signing.profile import Signature
from proxy.signing.reading import PartName, Reading, apart
from proxy.signing.reseals import reseals
from proxy.signing.rewriting import rewritings
from proxy.signing.spellings import Spelling, spellings
from proxy.signing.template import Template

FEW_SECONDS: Final = 5
MINUTE: Final = 60
DRIFT: Final = 900
"""Seconds that a time in the string may be away from its header's and still be found."""


def guesses(read: Reading, signature: Signature, at_hand: AtHand) -> Iterator[Guess]:
    """Those that can matter to this signature."""
    used = _needed(read, signature)
    if used & {"body", "raw_body"}:
        yield from _bodies(read)
        yield from _digests(read, used)
        yield from _lines(read, used)
    if used & {"endpoint", "url", "path", "query", "target"}:
        yield from _paths(read, used)
    if used & {"timestamp", "now"} and read.at_ms is not None:
        yield from _times(read, read.at_ms, used)
    if used & {"token", "authorization"}:
        yield from _tokens(read, used, at_hand)
    if "method" in used:
        yield from _methods(read)
    yield from chain(_clients(read, used, at_hand), _ids(used), reseals(read, signature, at_hand))


def _needed(read: Reading, signature: Signature) -> set[str]:
    """Names that the string and the key come to, lets followed down."""
    names = set(signature.names)
    for name in reversed(list(read.profile.let)):
        if name in names:
            names |= {each for _, template in let_rows(read.profile.let[name]) for each in template.names}
    return names


def _bodies(read: Reading) -> Iterator[Guess]:
    for name, words, body in rewritings(read.presented.body):
        yield guess("body", name, f"the body is signed {words}", body=body, raw_body=body)


def _paths(read: Reading, used: set[str]) -> Iterator[Guess]:
    """Of the value that the string holds. The parts of a target that stand in it apart are only cut otherwise."""
    values, profile, base = read.values(), read.profile, read.base
    path, _, query = read.presented.target.partition("?")
    rest = path[len(base.path) :] or "/"
    target = Target(base.origin, base.path, rest, query, read.presented.prefix, profile.add_prefix)
    for value in sorted(used & {"endpoint", "url", "path"}):
        for name, words, text in path_forms(target, values[value].decode()):
            yield guess("path", name, f"the path is signed {words}", **{value: text.encode()})
    if "query" in used:
        yield guess("path", "no_query", "the query is left out", query=b"")
        yield guess("path", "sorted", "the query is sorted", query=b"&".join(sorted(values["query"].split(b"&"))))


HASHES: Final = ("sha256", "sha512", "sha384", "sha1", "md5")
WRITINGS: Final[Mapping[str, tuple[str, Callable[[bytes], bytes]]]] = {
    "hex": ("in hex", lambda raw: raw.hex().encode()),
    "HEX": ("in hex with capitals", lambda raw: raw.hex().upper().encode()),
    "b64": ("in base64", base64.b64encode),
    "b64url": ("in base64url", lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")),
    "b64_of_hex": ("as base64 of its hex", lambda raw: base64.b64encode(raw.hex().encode())),
    "raw": ("as bare bytes", lambda raw: raw),
}


def digest_names(read: Reading, used: Iterable[str]) -> list[str]:
    """Values that are a digest of the body."""
    values = read.values()
    shown = {write(hashlib.new(kind, read.given["body"], usedforsecurity=False).digest())
             for kind, (_, write) in product(HASHES, WRITINGS.values())}  # fmt: skip
    return [name for name in sorted(used) if name in read.profile.let and values[name] in shown]


def _digests(read: Reading, used: set[str]) -> Iterator[Guess]:
    for name in digest_names(read, used):
        for kind, (writing, (words, write)) in product(HASHES, WRITINGS.items()):
            told = f"the body's digest is {kind.upper()} {words}"
            yield _lazily("digest", f"{kind}_{writing}", told, name, _digest(kind, write))
        yield _lazily("digest", "none", "the body's digest is left out", name, lambda _: b"")
        yield _lazily("digest", "body", "the body itself stands for its digest", name, lambda values: values["body"])
        yield _lazily("digest", "label", "SHA-256= stands before the digest", name, _labelled(read.lazy[name]))


def _digest(kind: str, write: Callable[[bytes], bytes]) -> Lazy:
    return lambda values: write(hashlib.new(kind, values["body"], usedforsecurity=False).digest())


def _labelled(right: Lazy) -> Lazy:
    return lambda values: b"SHA-256=" + right(values)


def _lazily(part: PartName, name: str, words: str, value: str, lazy: Lazy) -> Guess:
    return replace(guess(part, name, words), lazy={value: lazy})


def _lines(read: Reading, used: set[str]) -> Iterator[Guess]:
    """The other rows of what a profile chooses by method or body, such as DOKU's line for the digest."""
    for name, let in read.profile.let.items():
        if name in used and not isinstance(let, Template):
            for (_, row), template in let_rows(let):
                yield _lazily("digest", f"line_{row.lower()}", f"{name} is as for {row}", name, template.render)


def _times(read: Reading, at_ms: int, used: set[str]) -> Iterator[Guess]:
    if "timestamp" not in used:
        yield from (_drift(seconds, now=b"%d" % (at_ms + seconds * 1000)) for seconds in _apart(FEW_SECONDS))
        return
    for each in _forms(read):
        yield guess("time", each.name, f"the time is signed {each.words}", timestamp=each.write(at_ms).encode())
    yield from _drifts(read, at_ms, _apart(FEW_SECONDS))


def rare_guesses(read: Reading, signature: Signature) -> Iterator[Guess]:
    """Many, and seldom true: times of any second or millisecond near the header's."""
    at_ms, used = read.at_ms, _needed(read, signature)
    if at_ms is None or "timestamp" not in used:
        return
    yield from _drifts(read, at_ms, _apart(DRIFT)[2 * FEW_SECONDS :])
    forms = list(_forms(read))
    for seconds, each in product(_apart(FEW_SECONDS), forms):
        words = f"the time is signed {each.words}, {_moved(seconds)}"
        yield guess("time", "drift", words, timestamp=each.write(at_ms + seconds * 1000).encode())
    if at_ms % 1000 == 0:
        yield from _thousandths(at_ms, [each for each in forms if each.name in _WITH_MS])


def _drifts(read: Reading, at_ms: int, apart_s: Iterable[int]) -> Iterator[Guess]:
    """In the header's own form."""
    header = read.given["timestamp"].decode()
    own = [each for each in _forms(read) if each.write(at_ms) == header][:1]
    for seconds, each in product(apart_s, own):
        yield _drift(seconds, timestamp=each.write(at_ms + seconds * 1000).encode())


_WITH_MS: Final = ("iso_offset_ms", "iso_z_ms", "epoch_ms")


def _forms(read: Reading) -> Iterator[Spelling]:
    offset = read.profile.zone
    yield Spelling("form", f"as {read.form}", read.form, offset)
    yield from spellings(offset)


def _apart(most: int) -> list[int]:
    return [seconds for away in range(1, most + 1) for seconds in (away, -away)]


def _moved(seconds: int) -> str:
    return f"{apart(seconds * 1000)} its header"


def _drift(seconds: int, **given: bytes) -> Guess:
    made = guess("time", "drift", f"the time that is signed is {_moved(seconds)}", **given)
    return replace(made, lone=abs(seconds) > MINUTE)


def _thousandths(at_ms: int, forms: Sequence[Spelling]) -> Iterator[Guess]:
    """The header has whole seconds, the string of the same moment has more."""
    for each, ms in product(forms, range(1, 1000)):
        yield guess("time", each.name, f"the time is signed {each.words}", timestamp=each.write(at_ms + ms).encode())


def _tokens(read: Reading, used: set[str], at_hand: AtHand) -> Iterator[Guess]:
    token = read.given["token"]
    if "authorization" in used:
        yield guess("token", "no_bearer", "the token is signed without `Bearer `", authorization=token)
        yield guess(
            "token", "bearer", "the token is signed with `Bearer ` twice", authorization=b"Bearer Bearer " + token
        )
    else:
        yield guess("token", "bearer", "the token is signed with `Bearer ` before it", token=b"Bearer " + token)
    yield _token("bearer_small", "the token is signed with `bearer ` before it", b"bearer " + token, b"bearer " + token)
    yield _token("empty", "the token is signed as nothing", b"", b"")
    yield _token("bearer_alone", "the word Bearer is signed without a token", b"", b"Bearer ")
    for words, other in at_hand.tokens.items():
        yield _token("other", f"another token is signed: {words}", other, b"Bearer " + other)
        yield _token("other_bare", f"another token is signed, without `Bearer `: {words}", other, other)


def _token(name: str, words: str, token: bytes, authorization: bytes) -> Guess:
    return guess("token", name, words, token=token, authorization=authorization)


def _methods(read: Reading) -> Iterator[Guess]:
    method = read.presented.method
    yield guess("method", "lower", "the method is signed in small letters", method=method.lower().encode())
    yield guess("method", "upper", "the method is signed in capitals", method=method.upper().encode())
    yield guess("method", "title", f"the method is signed as {method.title()}", method=method.title().encode())
    yield guess("method", "none", "the method is left out", method=b"")
    for other in ("POST", "GET", "PUT", "PATCH", "DELETE"):
        yield guess("method", "other", f"another method is signed: {other}", method=other.encode())


def _clients(read: Reading, used: set[str], at_hand: AtHand) -> Iterator[Guess]:
    for name in sorted({"client_id", "partner_id"} & used):
        own = {"the route's own": read.binding.known.get(name, b"")}
        for words, other in {**own, **at_hand.clients}.items():
            yield guess("client", "other", f"another {name} is signed: {words}", **{name: other})
        yield guess("client", "none", f"{name} is left out", **{name: b""})


def _ids(used: set[str]) -> Iterator[Guess]:
    if "external_id" in used:
        yield guess("header", "external_id", "the external id is left out", external_id=b"")
