"""Searches text for secrets in every form in which they could have slipped into it."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

LEAST = 10
"""Characters: shorter ones would be found by chance."""


def forms(secret: bytes) -> set[bytes]:
    """As it is; in hex, base64 at any offset, URL-encoded, escaped for JSON, and as Python shows it."""
    assert len(secret) >= LEAST
    text = secret.decode()
    urls = {quote(text, safe=""), quote(text), quote_plus(text)}
    urls |= {re.sub("%..", lambda code: code[0].lower(), each) for each in urls}
    escaped = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], repr(secret)[2:-1]}
    escaped |= {json.dumps(each)[1:-1] for each in escaped}
    plain = {text, secret.hex(), secret.hex().upper(), *urls, *escaped}
    return {each.encode() for each in plain} | set(_base64(secret))


def _base64(secret: bytes) -> Iterator[bytes]:
    """Of three offsets the characters that depend on the secret alone."""
    for offset in range(3):
        whole = base64.b64encode(bytes(offset) + secret)
        first, last = (0, 2, 3)[offset], -(-(offset + len(secret)) * 4 // 3) - 1
        yield whole[first : last - last % 4]
        yield whole[first : last - last % 4].translate(bytes.maketrans(b"+/", b"-_"))


def of_key(pem: str) -> Iterator[bytes]:
    """The lines of a private key, but for those that keys have in common."""
    yield from (line.encode() for line in pem.splitlines()[2:-1] if len(line) >= LEAST)


def leaks(secrets: Mapping[str, Iterable[bytes]], places: Mapping[str, bytes | str]) -> list[tuple[str, str]]:
    """Which secret stands in which place."""
    texts = {place: text.encode() if isinstance(text, str) else text for place, text in places.items()}
    searched = {name: {form for secret in each for form in forms(secret)} for name, each in secrets.items()}
    return [
        (name, place)
        for name, wanted in searched.items()
        for place, text in texts.items()
        if any(form in text for form in wanted)
    ]
