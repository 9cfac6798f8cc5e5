"""The sandbox's own canonical bodies. Nothing is shared with the signer, so that one mistake cannot hide in both.

Every token keeps the bytes it was written with: a parser and serializer would rewrite numbers and escapes.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

BodyMode = Literal["raw", "minify", "sorted"]
Piece = bytes | list["Piece"]

BLANKS: Final = b" \t\r\n"

# RFC 8259. Possessive repeats: a long string costs neither backtracking nor memory per character.
_TOKEN: Final = re.compile(
    rb"[ \t\r\n]*+("
    rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
    rb"|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
    rb"|true|false|null"
    rb"|[{}\[\],:])"
)

_PUNCTUATION: Final = {mark: mark for mark in (b"{", b"}", b"[", b"]", b",", b":")}
_STRING: Final = b'"'
_SCALAR: Final = b"0"

_VALUE: Final = {_STRING: "end", _SCALAR: "end", b"{": "first name", b"[": "first item"}
_NEXT: Final[dict[str, dict[bytes, str]]] = {
    "value": _VALUE,
    "first item": {**_VALUE, b"]": "end"},
    "first name": {_STRING: "colon", b"}": "end"},
    "name": {_STRING: "colon"},
    "colon": {b":": "value"},
    "end": {b",": "another", b"]": "end", b"}": "end"},
    "wrong": {},
}
"""State → kind of token → state. `another` is a name inside an object, a value inside an array."""

_ANOTHER: Final = {b"{": "name", b"[": "value"}
_CLOSES: Final = {b"}": b"{", b"]": b"["}


def canonical(body: bytes, mode: BodyMode) -> bytes:
    """The bytes that are digested. What is not one JSON text in UTF-8 stays as it is, in every mode."""
    if mode == "raw":
        return body
    tokens = json_tokens(body)
    if tokens is None:
        return body
    return b"".join(tokens if mode == "minify" else _flat(_arranged(tokens)))


def json_tokens(body: bytes) -> list[bytes] | None:
    """The tokens of one JSON text, or None when the bytes are anything else."""
    tokens, end = _scan(body)
    if body[end:].strip(BLANKS) or not _is_utf8(body) or not _grammatical(tokens):
        return None
    return tokens


def _scan(body: bytes) -> tuple[list[bytes], int]:
    found, at = [], 0
    while match := _TOKEN.match(body, at):
        found.append(match[1])
        at = match.end()
    return found, at


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _kind(token: bytes) -> bytes:
    return _PUNCTUATION.get(token) or (_STRING if token.startswith(_STRING) else _SCALAR)


def _grammatical(tokens: Iterable[bytes]) -> bool:
    state, around = "value", [b""]
    for kind in map(_kind, tokens):
        state = _NEXT[state].get(kind, "wrong")
        if kind in _ANOTHER:
            around.append(kind)
        elif kind in _CLOSES and around.pop() != _CLOSES[kind]:
            return False
        if state == "another":
            state = _ANOTHER.get(around[-1], "wrong")
    return state == "end" and around == [b""]


def _arranged(tokens: Iterable[bytes]) -> Piece:
    """The tokens as a tree, members in the order of their names; linear in depth, so deep nesting costs nothing."""
    frames: list[list[Piece]] = [[]]
    for token in tokens:
        if token in _ANOTHER:
            frames.append([])
        elif token in _CLOSES:
            inside = frames.pop()
            frames[-1].append(_object(inside) if token == b"}" else _listed(b"[", inside, b"]"))
        elif token not in (b",", b":"):
            frames[-1].append(token)
    return frames[0]


def _object(inside: list[Piece]) -> Piece:
    """`inside` alternates names and values. Duplicates keep their order: the sort is stable."""
    members = sorted(zip(inside[::2], inside[1::2], strict=True), key=lambda member: _decoded(member[0]))
    return _listed(b"{", [[name, b":", value] for name, value in members], b"}")


def _decoded(name: Piece) -> str:
    """Python compares text by code points, which is the order wanted."""
    text = json.loads(name) if isinstance(name, bytes) else ""
    return str(text)


def _listed(opening: bytes, items: list[Piece], closing: bytes) -> Piece:
    pieces: list[Piece] = [opening]
    for index, item in enumerate(items):
        pieces += [b",", item] if index else [item]
    return [*pieces, closing]


def _flat(piece: Piece) -> Iterator[bytes]:
    todo = [piece]
    while todo:
        top = todo.pop()
        if isinstance(top, bytes):
            yield top
        else:
            todo.extend(reversed(top))
