"""Guesses that put string or key together otherwise: separators, what is left out, other keys and schemes."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from proxy.signing.binding import Lazy
from proxy.signing.guess import AtHand, Guess, Reseal, guess
from proxy.signing.profile import Signature
from proxy.signing.reading import PartName, Reading
from proxy.signing.template import Hole, Template


def reseals(read: Reading, signature: Signature, at_hand: AtHand) -> Iterator[Guess]:
    yield from chain(_separators(read, signature), _keys(read, signature, at_hand))
    yield from chain(_left_out(signature), _schemes(read, signature))


_CHARACTERS: Final = {
    ":": "a colon", "|": "a bar", "": "nothing", ",": "a comma", ".": "a dot", "-": "a dash", ";": "a semicolon",
    " ": "a blank", "&": "an ampersand", "+": "a plus",
    "\n": "a line break", "\r\n": "CR LF", "\\n": "a backslash with n",
}  # fmt: skip


def separator_of(template: Template) -> bytes:
    """The text that parts the values: what every piece between two holes begins with."""
    between = [part for part in template.parts[1:-1] if isinstance(part, bytes)]
    first = {part[:1] for part in between}
    return first.pop() if len(first) == 1 and not re.match(rb"\w", next(iter(first), b"a")) else b""


def _separators(read: Reading, signature: Signature) -> Iterator[Guess]:
    """A separator that stands in a hole of its own, as in the token's call, is tried too."""
    mark = separator_of(signature.string)
    for other, words in _CHARACTERS.items():
        made = guess("separator", _called(other), f"{words} parts the values")
        if "token_separator" in signature.string.names:
            yield replace(made, given={"token_separator": other.encode()})
        elif mark:
            lines = _lines_parted(read, signature, mark, other.encode())
            yield replace(made, lazy=lines, reseal=_parted(mark, other.encode()))
    for end in (b"\n", mark):
        made = guess("separator", "at_end", "a line break or separator ends the string")
        yield replace(made, reseal=_ended(end))


def _lines_parted(read: Reading, signature: Signature, mark: bytes, other: bytes) -> dict[str, Lazy]:
    """Values that bring the separator with them, as DOKU's line for the digest does."""
    chosen = [name for name, let in read.profile.let.items() if not isinstance(let, Template)]
    return {name: _begun(read.lazy[name], mark, other) for name in chosen if name in signature.string.names}


def _begun(right: Lazy, mark: bytes, other: bytes) -> Lazy:
    def value(values: Mapping[str, bytes]) -> bytes:
        text = right(values)
        return other + text[len(mark) :] if text.startswith(mark) else text

    return value


def _called(text: str) -> str:
    return _CHARACTERS[text].removeprefix("a ").removeprefix("an ").replace(" ", "_").lower()


def _parted(mark: bytes, other: bytes) -> Reseal:
    def reseal(signature: Signature) -> Signature:
        parts = signature.string.parts
        last = len(parts) - 1
        changed = [
            other + part[1:] if isinstance(part, bytes) and 0 < i < last and part.startswith(mark) else part
            for i, part in enumerate(parts)
        ]
        return replace(signature, string=Template(tuple(changed)))

    return reseal


def _ended(end: bytes) -> Reseal:
    return lambda signature: replace(signature, string=Template((*signature.string.parts, end)))


def _keys(read: Reading, signature: Signature, at_hand: AtHand) -> Iterator[Guess]:
    if not isinstance(signature.key, Template):
        return
    kinds = read.profile.credentials
    names = [name for name in sorted(signature.key.names) if name in kinds and name != "client_id"]
    for name in names:
        for words, other in {**at_hand.secrets, **dict(_misread(read.given[name]))}.items():
            kind = "other" if words in at_hand.secrets else "misread"
            yield guess("key", kind, f"the key is another: {words}", **{name: other})
        yield guess("key", "client_id", "the client id stands for the secret", **{name: read.given["client_id"]})
        yield guess("key", "empty", "nothing stands for the secret", **{name: b""})
    for name, words, template in _key_forms(signature.key, names):
        yield replace(guess("key", name, words), reseal=_keyed(template))


def _misread(secret: bytes) -> Iterator[tuple[str, bytes]]:
    yield "the secret with a line break behind it", secret + b"\n"
    yield "the secret in base64", base64.b64encode(secret)
    yield "the secret in quotes", b'"' + secret + b'"'
    yield "the secret in small letters", secret.lower()
    yield "the secret in capitals", secret.upper()
    yield "SHA-256 of the secret in hex", hashlib.sha256(secret).hexdigest().encode()
    if re.fullmatch(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", secret):
        yield "the bytes of which the secret is the base64", base64.b64decode(secret)
    if re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", secret):
        yield "the bytes of which the secret is the hex", bytes.fromhex(secret.decode())


def _key_forms(key: Template, secrets: Sequence[str]) -> Iterator[tuple[str, str, Template]]:
    for name in secrets:
        yield "bare", f"the key is {name} alone", Template((Hole(name),))
    for name in ("client_id", "token"):
        yield name, f"the key is the {name.replace('_', ' ')}", Template((Hole(name),))
    yield "empty", "the key is empty", Template((b"",))
    holes = [i for i, part in enumerate(key.parts) if not isinstance(part, bytes)]
    for i in holes if len(holes) > 1 else ():
        name = getattr(key.parts[i], "name", "")
        yield f"without_{name}", f"the key is made without the {name}", _without(key, i)


def _without(key: Template, place: int) -> Template:
    """With what parts it from its neighbour."""
    parts = key.parts
    near = place - 1 if place and isinstance(parts[place - 1], bytes) else place + 1
    kept = [part for i, part in enumerate(parts) if i != place and not (i == near and isinstance(part, bytes))]
    return Template(tuple(kept))


def _keyed(template: Template) -> Reseal:
    return lambda signature: replace(signature, key=template)


_PARTS: Final[Mapping[str, PartName]] = {
    "token": "token", "authorization": "token", "timestamp": "time", "method": "method", "digest": "digest",
    "client_id": "client", "external_id": "header",
}  # fmt: skip


def _left_out(signature: Signature) -> Iterator[Guess]:
    """A value with what parts it from its neighbour."""
    string = signature.string
    for i, part in enumerate(string.parts):
        name = "" if isinstance(part, bytes) else part.name
        if name in _PARTS and len(string.names) > 1:
            made = guess(_PARTS[name], "left_out", f"the {name.replace('_', ' ')} is left out of the string")
            yield replace(made, reseal=_stringed(_without(string, i)))


def _stringed(template: Template) -> Reseal:
    return lambda signature: replace(signature, string=template)


def _schemes(read: Reading, signature: Signature) -> Iterator[Guess]:
    """Signed as another kind of call of the same provider."""
    for name, scheme in read.profile.schemes.items():
        for other in scheme.signatures:
            if not read.token_call and (other.string, other.algorithm) != (signature.string, signature.algorithm):
                words = f"it is signed as the scheme {name} does: {other.algorithm}, another string"
                made = guess("algorithm", name, words)
                yield replace(made, reseal=_as(other))


def _as(other: Signature) -> Reseal:
    return lambda signature: replace(signature, string=other.string, algorithm=other.algorithm, key=other.key)
