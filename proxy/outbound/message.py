"""A signed request as the bytes that go over the wire: what was signed, Host, Content-Length, and nothing else."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from proxy.errors import ProxyError
from proxy.model import SignedRequest

_PLACE: Final = re.compile(
    r"""(?P<scheme>https?)://
    (?P<host>[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])
    (?::(?P<port>[0-9]{1,5}))?""",
    re.VERBOSE,
)
"""No userinfo."""
_TARGET: Final = re.compile(r"/[!-\"$-~]*")
"""Origin-form in visible ASCII, no fragment (RFC 9112 section 3.2.1)."""

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
"""Headers that say where the request goes, where it ends, or what the connection becomes."""
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
"""An empty body of these is announced too (RFC 9110 section 8.6): some servers answer 411 otherwise."""
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Message:
    """`origin` is scheme, host and port: where it goes. `head` ends with the empty line."""

    origin: str
    head: bytes = field(repr=False)
    body: bytes = field(repr=False)


def written(request: SignedRequest) -> Message:
    """Raises `internal` for a request that could not arrive byte for byte, or that would arrive as two.

    The target is cut out of the URL's text, so no URL library can rewrite it: yarl drops an empty query.
    """
    cut = request.url.find("/", 8)
    place, target = _place(request.url[:cut]), request.url[cut:]
    if cut < 0 or place is None or not _TARGET.fullmatch(target) or not _is_writable(request):
        raise _unwritable()
    origin, authority = place
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {authority}", *map(": ".join, request.headers)]
    if request.body or request.method in _WITH_BODY:
        lines.append(f"Content-Length: {len(request.body)}")
    lines.append("\r\n")
    try:
        return Message(origin, "\r\n".join(lines).encode(), request.body)
    except UnicodeEncodeError:  # lone surrogates have no UTF-8
        raise _unwritable() from None


@lru_cache(maxsize=256)
def _place(text: str) -> tuple[str, str] | None:
    """Origin and authority of a URL without its target."""
    found = _PLACE.fullmatch(text)
    if found is None:
        return None
    scheme, host, port = found.group("scheme", "host", "port")
    authority = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    return f"{scheme}://{authority}", authority


def _is_writable(request: SignedRequest) -> bool:
    names, values = zip(*request.headers, strict=True) if request.headers else ((), ())
    text = "".join(values)
    return _are_theirs(names) and _is_token(request.method) and (text.isprintable() or not _CONTROLS.search(text))


@lru_cache(maxsize=256)  # a caller sends the same names again and again
def _are_theirs(names: tuple[str, ...]) -> bool:
    return all(_is_token(name) and name.lower() not in _OURS for name in names)


@lru_cache(maxsize=1024)
def _is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def _unwritable() -> ProxyError:
    return ProxyError("internal", "the signed request cannot be sent as it was signed")
