"""A signed request as the bytes that go over the wire: what was signed, Host, Content-Length, and nothing else."""

import re
from dataclasses import dataclass
from typing import Final

from proxy.errors import ProxyError
from proxy.model import SignedRequest

_URL: Final = re.compile(
    r"""(?P<scheme>https?)://
    (?P<host>[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])
    (?::(?P<port>[0-9]{1,5}))?
    (?P<target>/[!-"$-~]*)""",
    re.VERBOSE,
)
"""No userinfo and no fragment; the target is origin-form in visible ASCII (RFC 9112 section 3.2.1)."""

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
    head: bytes
    body: bytes


def written(request: SignedRequest) -> Message:
    """Raises `internal` for a request that could not arrive byte for byte, or that would arrive as two.

    The target is cut out of the URL's text, so no URL library can rewrite it: yarl drops an empty query.
    """
    url = _URL.fullmatch(request.url)
    if url is None or not _is_writable(request):
        raise ProxyError("internal", "the signed request cannot be sent as it was signed")
    scheme, host, port, target = url.group("scheme", "host", "port", "target")
    authority = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {authority}", *map(": ".join, request.headers)]
    if request.body or request.method in _WITH_BODY:
        lines.append(f"Content-Length: {len(request.body)}")
    return Message(f"{scheme}://{authority}", ("\r\n".join(lines) + "\r\n\r\n").encode(), request.body)


def _is_writable(request: SignedRequest) -> bool:
    return bool(_TOKEN.fullmatch(request.method)) and all(
        _TOKEN.fullmatch(name) and name.lower() not in _OURS and not _CONTROLS.search(value) and _encodes(value)
        for name, value in request.headers
    )


def _encodes(value: str) -> bool:
    """Lone surrogates have no UTF-8."""
    return value.isascii() or not re.search(r"[\ud800-\udfff]", value)
