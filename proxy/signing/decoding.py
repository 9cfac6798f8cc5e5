"""A signature as it was presented, taken out of every writing that gives bytes of a length signatures have."""

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from proxy.signing.profile import Signature

Decode = Callable[[str], bytes | None]
LONGEST: Final = 8192
"""Characters of a text that can be a signature: that of an RSA key of 16384 bits, in base64 of its hex, has 5464."""


def _base64(text: str) -> bytes | None:
    """With its padding and nothing else, as a strict reader wants it."""
    if len(text) % 4 or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text):
        return None
    return base64.b64decode(text)


def _unpadded(text: str) -> bytes | None:
    return None if "=" in text or not len(text) % 4 else _base64(text + "=" * (-len(text) % 4))


def _base64url(text: str) -> bytes | None:
    if not re.search(r"[_-]", text) or re.search(r"[+/]", text):
        return None
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    return _base64(bare + "=" * (-len(bare) % 4))


def _hex(digits: str) -> Decode:
    return lambda text: bytes.fromhex(text) if re.fullmatch(rf"(?:[{digits}]{{2}})+", text) else None


def _mixed(text: str) -> bytes | None:
    return _hex("0-9a-fA-F")(text) if re.search("[a-f]", text) and re.search("[A-F]", text) else None


def _wrapped(text: str) -> bytes | None:
    bare = re.sub(r"\s|\\r|\\n", "", text)
    return None if bare == text else _base64(bare)


WRITINGS: Final[tuple[tuple[str, str, Decode], ...]] = (
    ("b64", "base64", _base64),
    ("hex", "hex in small letters", _hex("0-9a-f")),
    ("HEX", "hex in capitals", _hex("0-9A-F")),
    ("b64url", "base64url", _base64url),
    ("b64_unpadded", "base64 without its padding", _unpadded),
    ("b64_lines", "base64 with line breaks or blanks in it", _wrapped),
    ("hex_mixed", "hex in letters of both cases", _mixed),
)


@dataclass(frozen=True, slots=True)
class Written:
    """`name` and `words` are empty for the writing that the profile asks for."""

    raw: bytes
    name: str
    words: str
    also: tuple[str, ...] = ()
    """Other names: a text without the four characters in which they differ is base64 and base64url."""


def written(presented: str, signature: Signature) -> Iterator[Written]:
    """Every reading of the text, the profile's own first; none of one that is too long for a signature."""
    if len(presented) > LONGEST:
        return
    for prefix, words in _prefixes(presented, signature.prefix):
        for name, told, raw in _read(presented[len(prefix) :]):
            right = name == signature.encoding and not words
            also = ("b64url",) if name in ("b64", "b64_unpadded") and not re.search("[+/]", presented) else ()
            yield Written(raw, "", "") if right else Written(raw, name, f"{told}{words}", also)


def _prefixes(presented: str, wanted: str) -> Iterator[tuple[str, str]]:
    if wanted and presented.startswith(wanted):
        yield wanted, ""
    elif wanted:
        yield "", f" without {wanted} before it"
    else:
        yield "", ""
    other = re.match(r"[A-Za-z]{2,10}-?\d{0,3}[ =]", presented)
    if other and other[0] != wanted:
        yield other[0], f" with {other[0]} before it"


def _read(text: str) -> Iterator[tuple[str, str, bytes]]:
    for name, words, decode in WRITINGS:
        raw = decode(text)
        if raw is None:
            continue
        yield name, words, raw
        for inner, inner_words, again in WRITINGS[:4]:
            twice = again(raw.decode("ascii", "replace"))
            if twice is not None:
                yield f"{name}_of_{inner}", f"{words} of the text in {inner_words}", twice
