"""A body as programs write it anew: what is signed when a JSON library comes between the bytes sent and the digest.

The habits of each library are those measured over the shared vectors (`minify.json`) and written in its documentation.
None of them is ever what Paraf signs; they are guesses of `diagnose`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from proxy.signing.canonical import NotJson, minify, sort_keys, strip_blanks

MOST: Final = 262_144
"""Bytes of a body up to which serializers are tried; a larger one is read in its lexical forms alone."""

Number = Callable[[str], str]
_NUMBER: Final = "\x00N"
"""Stands before number text that was put aside as a string; NUL is escaped in all that a serializer writes."""
_PUT_ASIDE: Final = re.compile(r'"\\u0000N([^"]*)"')
_COMPACT: Final = (",", ":")
_SPACED: Final = (", ", ": ")


def _as_written(text: str) -> str:
    return text


def _python(text: str) -> str:
    return str(int(text)) if re.fullmatch(r"-?\d+", text) else repr(float(text))


def _javascript(text: str) -> str:
    """ECMA-262 section 6.1.6.1.20, Number::toString: every number is a double, in its shortest digits."""
    sign, digits, exponent = Decimal(repr(float(text))).normalize().as_tuple()
    shown = "".join(map(str, digits))
    return ("-" if sign and shown != "0" else "") + _placed(shown, len(shown) + int(exponent))


def _go(text: str) -> str:
    """As JavaScript's, but that minus zero keeps its sign."""
    written = _javascript(text)
    return "-0" if written == "0" and text.startswith("-") else written


def _placed(digits: str, point: int) -> str:
    """`point`: how many of the digits stand before it."""
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if digits[1:] else ""
    return f"{digits[0]}{rest}e{point - 1:+d}"


@dataclass(frozen=True, slots=True)
class Library:
    """How one serializer writes. `replaced`: texts that it escapes inside strings, where alone they can stand."""

    name: str
    words: str
    separators: tuple[str, str] = _COMPACT
    ascii: bool = False
    number: Number = _as_written
    replaced: tuple[tuple[str, str], ...] = ()
    sort: bool = False
    indent: int | None = None
    integers_first: bool = False
    empty_is_list: bool = False

    def write(self, body: bytes) -> bytes:
        """Raises ValueError or RecursionError for what it cannot read."""
        text = json.dumps(
            json.loads(body, parse_float=self._aside, parse_int=self._aside, object_pairs_hook=self._members),
            ensure_ascii=self.ascii,
            separators=self.separators,
            sort_keys=self.sort,
            indent=self.indent,
        )
        text = _PUT_ASIDE.sub(r"\1", text)
        for plain, escaped in self.replaced:
            text = text.replace(plain, escaped)
        return text.encode()

    def _aside(self, text: str) -> str:
        return _NUMBER + self.number(text)

    def _members(self, pairs: list[tuple[str, Any]]) -> Any:
        members = dict(pairs)
        if not members and self.empty_is_list:
            return []
        if not self.integers_first:
            return members
        first = sorted((name for name in members if re.fullmatch(r"0|[1-9]\d{0,8}", name, re.ASCII)), key=int)
        return {name: members[name] for name in (*first, *(name for name in members if name not in first))}


_HTML: Final = tuple((each, f"\\u{ord(each):04x}") for each in "<>&\u2028\u2029")
_SLASH: Final = (("/", "\\/"),)
_NET: Final = tuple((each, f"\\u{ord(each):04X}") for each in "<>&'+`")

LIBRARIES: Final = (
    Library("json", "anew by a serializer, without blanks"),
    Library("python", "by Python's json.dumps: blanks after , and :, non-ASCII escaped", _SPACED, True, _python),
    Library("python_utf8", "by Python's json.dumps(ensure_ascii=False)", _SPACED, False, _python),
    Library("python_compact", "by Python's json.dumps without blanks, non-ASCII escaped", _COMPACT, True, _python),
    Library("python_compact_utf8", "by Python's json.dumps(ensure_ascii=False), no blanks", _COMPACT, False, _python),
    Library("python_sorted", "by Python's json.dumps(sort_keys=True), no blanks", _COMPACT, True, _python, sort=True),
    Library("python_spaced_sorted", "by Python's json.dumps(sort_keys=True)", _SPACED, True, _python, sort=True),
    Library("javascript", "by JavaScript's JSON.stringify", number=_javascript, integers_first=True),
    Library("php", "by PHP's json_encode: slashes and non-ASCII escaped", _COMPACT, True, _python, _SLASH),
    Library("php_unicode", "by PHP's json_encode(JSON_UNESCAPED_UNICODE)", _COMPACT, False, _python, _SLASH),
    Library("php_lists", "by PHP, with {} become []", _COMPACT, True, _python, _SLASH, empty_is_list=True),
    Library("go", "by Go's json.Marshal of a map: sorted, <>& escaped", _COMPACT, False, _go, _HTML, True),
    Library("go_struct", "by Go's json.Marshal of a struct: <>& escaped", replaced=_HTML),
    Library("gson", "by Java's Gson: <>&=' escaped", replaced=(*_HTML, ("=", "\\u003d"), ("'", "\\u0027"))),
    Library("dotnet", "by .NET's System.Text.Json: <>&'+ and non-ASCII escaped", ascii=True, replaced=_NET),
    Library("indented_2", "by a serializer with an indent of two", (",", ": "), indent=2),
    Library("indented_4", "by a serializer with an indent of four", (",", ": "), indent=4),
)

LEXICAL: Final[Mapping[str, tuple[str, Callable[[bytes], bytes]]]] = {
    "raw": ("as its bytes are", lambda body: body),
    "minify": ("minified", minify),
    "sorted": ("minified, with its members sorted", sort_keys),
    "no_blanks": ("with blanks inside strings removed too", strip_blanks),
    "empty": ("as if there were none", lambda _: b""),
    "newline": ("with a line break at its end", lambda body: body + b"\n"),
    "minify_newline": ("minified, with a line break at its end", lambda body: minify(body) + b"\n"),
    "crlf": ("with its line ends as CR LF", lambda body: body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")),
    "stripped": ("without the blanks around it", lambda body: body.strip()),
    "mark": ("with a byte order mark before it", lambda body: b"\xef\xbb\xbf" + body),
}
_OF_NOTHING: Final = ("{}", "null", '""', "[]")


def rewritings(body: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Name, words and bytes of every form. Forms that come to the same bytes are not left out."""
    for name, (words, write) in LEXICAL.items():
        try:
            yield name, words, write(body)
        except NotJson:
            continue
    if not body:
        yield from ((f"of_{text}", f"as if it were {text}", text.encode()) for text in _OF_NOTHING)
    elif len(body) <= MOST:
        yield from _anew(body)


def _anew(body: bytes) -> Iterator[tuple[str, str, bytes]]:
    for library in LIBRARIES:
        try:
            yield library.name, f"as written {library.words}", library.write(body)
        except (ValueError, RecursionError, OverflowError):
            continue
    try:
        yield (
            "twice",
            "as one JSON string that holds the JSON text",
            json.dumps(body.decode(), ensure_ascii=False).encode(),
        )
    except ValueError:
        return
