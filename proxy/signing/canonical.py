"""Canonical bodies, lexically: which bytes of a JSON body are digested or signed.

`minify` drops JSON white space outside strings and touches nothing else: number text, escapes, member order and
double names stay as written. A parser and a serializer would change all of these (measured over the shared vectors:
`json.dumps` gives other bytes in 12 of 27 cases). `sorted` also orders the members of every object by the code points
of their names. What is not JSON (RFC 8259, UTF-8, no byte order mark) has no canonical form and stays as it is.
"""

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

try:  # of the extra `fast`
    from msgspec import json as msgspec_json

    _format: Any = msgspec_json.format
except ImportError:
    _format = None

MAX_DEPTH: Final = 512
"""Levels of nesting; RFC 8259 section 9 lets a reader set a limit. Deeper text is a weapon, not a payment: it costs
seconds and hundreds of bytes a byte. It counts as no JSON, so its bytes are signed and sent as they are."""
_SHALLOW: Final = 2 * MAX_DEPTH
"""Bytes that hold no more levels: each has two brackets."""

_BLANKS: Final = b" \t\r\n"
_NO_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))
_STEPS: Final = tuple(1 if byte in b"[{" else -1 for byte in range(256))
_TOKEN: Final = re.compile(
    rb"[ \t\r\n]*(?:"
    rb"([\[\]{}:,])"
    rb'|("(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+")'
    rb"|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![0-9.eE+-])|true|false|null)"
    rb")"
)


class NotJson(ValueError):
    """The body is no RFC 8259 text in UTF-8."""


def minify(body: bytes) -> bytes:
    """The body without blanks outside strings. Raises NotJson.

    msgspec's `format` copies all else as it is, in a tenth of the time, but looks at no UTF-8 and counts no levels.
    What it cannot read, such as half of a surrogate pair, is not its to judge.
    """
    try:
        made: bytes | None = _format and _format(body, indent=-1)
    except (ValueError, RecursionError):
        made = None
    if made is None or (len(body) > _SHALLOW and _may_be_deep(body)):
        _require_json(body)
        return _without_blanks(body)
    if not body.isascii():
        _require_utf8(body)
    return made


def sort_keys(body: bytes) -> bytes:
    """As `minify`, and members of every object ordered by name; equal names keep their order. Raises NotJson."""
    _require_utf8(body)
    return b"".join(_flatten(_Tree(_tokens(body)).root))


def strip_blanks(body: bytes) -> bytes:
    """Every blank dropped, also inside strings (some providers' own helpers do this)."""
    return body.translate(None, _BLANKS)


def _without_blanks(body: bytes) -> bytes:
    """For valid JSON only. Cut at the quotes and clean what lies outside in one call: 16 µs a KiB, a token
    expression needs 100. Escapes are set aside as control bytes, which valid JSON cannot hold inside strings.
    """
    if len(body.translate(None, _BLANKS)) == len(body):
        return body
    escaped = b"\\" in body
    if escaped:
        body = body.replace(b"\\\\", b"\x01\x01").replace(b'\\"', b"\x01\x02")
    parts = body.split(b'"')
    outside = b"\x00".join(parts[::2])
    parts[::2] = outside.translate(None, _BLANKS).split(b"\x00")
    body = b'"'.join(parts)
    return body.replace(b"\x01\x02", b'\\"').replace(b"\x01\x01", b"\\\\") if escaped else body


def _refuse_constant(name: str) -> None:
    raise NotJson(name)


_decoder: Final = json.JSONDecoder(
    # Numbers are judged, not converted: 23 digits stay 23 digits, and 5,000 of them are no fault.
    parse_constant=_refuse_constant,
    parse_int=len,
    parse_float=len,
)


def _require_utf8(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotJson from None


def _require_json(body: bytes) -> None:
    text = _require_utf8(body)
    if _may_be_deep(body):
        _Tree(_tokens(body))
        return
    try:
        _decoder.decode(text)
    except (ValueError, RecursionError):  # the latter of levels that never end, which were not counted
        raise NotJson from None


def _may_be_deep(body: bytes) -> bool:
    """Counted with the brackets inside strings: never too low, and too high for odd texts only."""
    brackets = body.translate(None, _NO_BRACKETS)
    return len(brackets) > _SHALLOW and max(accumulate(map(_STEPS.__getitem__, brackets))) > MAX_DEPTH


def _tokens(body: bytes) -> Iterator[bytes]:
    at, end = 0, len(body.rstrip(_BLANKS))
    while at < end:
        found = _TOKEN.match(body, at)
        if not found:
            raise NotJson
        yield found[found.lastindex or 0]
        at = found.end()


_Frame = list[Any]
"""Pieces of one value: bytes, or a nested frame. Depth costs no recursion here."""


class _Tree:
    """The grammar of RFC 8259 over tokens, with the raw text of every part kept."""

    def __init__(self, tokens: Iterator[bytes]) -> None:
        self._tokens = tokens
        self._open: list[tuple[bytes, _Frame]] = []
        self.root = self._read()

    def _next(self) -> bytes:
        token = next(self._tokens, None)
        if token is None:
            raise NotJson
        return token

    def _read(self) -> _Frame:
        root: _Frame = []
        self._begin(self._next(), root)
        while self._open:
            closer, parts = self._open[-1]
            self._member(closer, parts, self._next())
        if next(self._tokens, None) is not None:
            raise NotJson
        return root

    def _begin(self, token: bytes, into: _Frame) -> None:
        """Put the value that starts with `token` into a frame; a container stays open."""
        if token in (b"{", b"["):
            if len(self._open) == MAX_DEPTH:
                raise NotJson
            frame: _Frame = []
            into.append((token, frame))
            self._open.append((b"}" if token == b"{" else b"]", frame))
        elif token in b":,]}":
            raise NotJson
        else:
            into.append(token)

    def _member(self, closer: bytes, parts: _Frame, token: bytes) -> None:
        if token == closer and not (parts and parts[-1] is None):
            self._open.pop()
            return
        if parts:
            if parts[-1] is None:
                parts.pop()
            elif token != b",":
                raise NotJson
            else:
                parts.append(None)  # a comma was read: a member must follow
                return
        if closer == b"}":
            self._named(token, parts)
        else:
            self._begin(token, parts)

    def _named(self, name: bytes, parts: _Frame) -> None:
        if not name.startswith(b'"') or self._next() != b":":
            raise NotJson
        value: _Frame = [name]
        parts.append(value)
        self._begin(self._next(), value)


def _flatten(root: _Frame) -> Iterator[bytes]:
    """The pieces in canonical order, from an explicit stack."""
    stack: list[Any] = [root[0]]
    while stack:
        piece = stack.pop()
        if isinstance(piece, bytes):
            yield piece
        elif isinstance(piece, list):
            name, value = piece
            stack += [value, b":", name]
        else:
            opener, members = piece
            ordered = sorted(members, key=_name) if opener == b"{" else members
            stack.append(b"}" if opener == b"{" else b"]")
            for index, member in enumerate(reversed(ordered)):
                stack += [b",", member] if index else [member]
            stack.append(opener)


def _name(member: list[bytes]) -> str:
    name = member[0]
    return str(json.loads(name)) if b"\\" in name else name[1:-1].decode()
