"""The part of a URL that is signed, in every form that signers give it: how it begins, ends and is written."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

Words = Mapping[str, str]
_UNRESERVED: Final = re.compile(r"%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")


@dataclass(frozen=True, slots=True)
class Target:
    """A provider's target in its parts. `rest` follows the base path; `added` is the profile's own beginning."""

    origin: str
    base: str
    rest: str
    query: str
    prefix: str = ""
    added: str = ""


WHOLE: Final[Words] = {"path": "without scheme and host", "url": "with scheme and host", "host": "with the host alone"}
HEADS: Final[Words] = {
    "bare": "without the path of the upstream's base",
    "base": "with the path of the upstream's base",
    "prefix": "with Paraf's prefix",
    "prefix_base": "with Paraf's prefix and the path of the base",
    "added": "with the profile's beginning",
}
FORMS: Final[Words] = {
    "raw": "as it is sent",
    "decoded": "percent-decoded",
    "normalised": "with its percent-escapes normalised",
    "encoded": "percent-encoded once more",
    "slash": "with a slash at its end",
    "no_slash": "without the slash at its end",
    "no_first": "without its first slash",
    "one_slash": "with double slashes made one",
    "lower": "in small letters",
}
TAILS: Final[Words] = {
    "query": "with its query",
    "no_query": "without its query",
    "sorted": "with its query sorted",
    "decoded_query": "with its query decoded",
    "encoded_query": "with its query encoded as a form",
    "mark": "with a question mark at its end",
}
_AXES: Final = (WHOLE, HEADS, FORMS, TAILS)
Choice = tuple[str, str, str, str]


def path_forms(target: Target, right: str) -> Iterator[tuple[str, str, str]]:
    """Name, words and text, the nearest to `right` first. Two ways at most in which a form differs from it."""
    choices = list(product(*_AXES))
    own = next((choice for choice in choices if _text(target, choice) == right), ("path", "bare", "raw", "query"))
    for choice in sorted(choices, key=lambda choice: _ways(choice, own)):
        if 0 < _ways(choice, own) <= 2:
            changed = [(name, axis[name]) for name, mine, axis in zip(choice, own, _AXES, strict=True) if name != mine]
            name, words = "+".join(name for name, _ in changed), " and ".join(words for _, words in changed)
            yield name, words, _text(target, choice)


def _ways(choice: tuple[str, ...], own: tuple[str, ...]) -> int:
    return sum(a != b for a, b in zip(choice, own, strict=True))


def _text(target: Target, choice: tuple[str, ...]) -> str:
    whole, head, form, tail = choice
    before = {"path": "", "url": target.origin, "host": target.origin.partition("://")[2]}[whole]
    text = before + _FORMS[form](_heads(target)[head] or "/") + _TAILS[tail](target.query)
    return unquote(text) if form == "decoded" else text


def _heads(target: Target) -> Mapping[str, str]:
    base, rest, prefix = target.base, target.rest, target.prefix
    return {
        "bare": rest,
        "base": base + rest,
        "prefix": prefix + rest,
        "prefix_base": prefix + base + rest,
        "added": target.added + rest,
    }


_FORMS: Final[Mapping[str, Callable[[str], str]]] = {
    "raw": str,
    "decoded": unquote,
    "normalised": lambda path: re.sub("%..", lambda found: found[0].upper(), _UNRESERVED.sub(_plain, path)),
    "encoded": lambda path: quote(path, safe="/"),
    "slash": lambda path: path if path.endswith("/") else path + "/",
    "no_slash": lambda path: path.rstrip("/") or "/",
    "no_first": lambda path: path.removeprefix("/"),
    "one_slash": lambda path: re.sub("/+", "/", path),
    "lower": str.lower,
}


def _plain(found: re.Match[str]) -> str:
    return unquote(found[0])


def _asked(query: str) -> str:
    return f"?{query}" if query else ""


def _as_form(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(
        quote(unquote_plus(name), safe="") + mark + quote(unquote_plus(value), safe="") for name, mark, value in pairs
    )


_TAILS: Final[Mapping[str, Callable[[str], str]]] = {
    "query": _asked,
    "no_query": lambda _: "",
    "sorted": lambda query: _asked("&".join(sorted(query.split("&")))),
    "decoded_query": lambda query: _asked(unquote(query)),
    "encoded_query": lambda query: _asked(_as_form(query)),
    "mark": lambda query: _asked(query) or "?",
}
