"""A signed request as the bytes that go over the wire: what was signed, Host, Content-Length, and nothing else."""

import re
from typing import Final, NamedTuple

from proxy.errors import ProxyError
from proxy.model import Headers, SignedRequest
from proxy.remembered import Remembered

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


class Message(NamedTuple):
    """`origin` is scheme, host and port: where it goes. `head` ends with the empty line."""

    origin: str
    head: bytes
    body: bytes

    def __repr__(self) -> str:
        return f"Message({self.origin})"


def written(request: SignedRequest) -> Message:
    """Raises `internal` for a request that could not arrive byte for byte, or that would arrive as two.

    The target is cut out of the URL's text, so no URL library can rewrite it: yarl drops an empty query.
    """
    method, url, headers, body = request
    cut = url.find("/", 8)
    place, target = _PLACES[url[:cut]], url[cut:]
    if cut < 0 or place is None or not _TARGET.fullmatch(target) or not _is_writable(method, headers):
        raise _unwritable()
    origin, version_and_host = place
    lines = [f"{method} {target}{version_and_host}", *map(": ".join, headers)]
    lines.append(f"Content-Length: {len(body)}\r\n\r\n" if body or method in _WITH_BODY else "\r\n")
    try:
        return Message(origin, "\r\n".join(lines).encode(), body)
    except UnicodeEncodeError:  # lone surrogates have no UTF-8
        raise _unwritable() from None


def _place(text: str) -> tuple[str, str] | None:
    """Origin of a URL without its target, and what follows the target in a head."""
    found = _PLACE.fullmatch(text)
    if found is None:
        return None
    scheme, host, port = found.group("scheme", "host", "port")
    authority = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    return f"{scheme}://{authority}", f" HTTP/1.1\r\nHost: {authority}"


def _is_writable(method: str, headers: Headers) -> bool:
    names, values = zip(*headers, strict=False) if headers else ((), ())
    text = "".join(values)
    return _ARE_THEIRS[names] and _IS_TOKEN[method] and (text.isprintable() or not _CONTROLS.search(text))


def _are_theirs(names: tuple[str, ...]) -> bool:
    return all(_is_token(name) and name.lower() not in _OURS for name in names)


def _is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


_PLACES: Final = Remembered(_place)
_ARE_THEIRS: Final = Remembered(_are_theirs)
_IS_TOKEN: Final = Remembered(_is_token)


def _unwritable() -> ProxyError:
    return ProxyError("internal", "the signed request cannot be sent as it was signed")
