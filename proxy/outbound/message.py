"""A signed request as the bytes that go over the wire: what was signed, Host, Content-Length, and nothing else."""

import re
from typing import Final

from proxy.errors import ProxyError
from proxy.model import SignedRequest
from proxy.remembered import Remembered

_PLACE: Final = re.compile(
    r"""(?P<scheme>https?)://
    (?P<host>[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])
    (?::(?P<port>[0-9]{1,5}))?""",
    re.VERBOSE,
)
"""No userinfo."""
_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NAME: Final = re.compile(_WORD)
_LINE: Final = re.compile(_WORD + r" /[!-\"$-~]*")
"""A method, and a target in origin-form: visible ASCII, no fragment (RFC 9112 section 3.2.1)."""
_SHOWN: Final = bytes(byte if byte == 9 or (byte >= 32 and byte != 127) else 0x3F for byte in range(256))
"""Each byte as itself, but for the control characters; the tab is none."""
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
"""Headers that say where the request goes, where it ends, or what the connection becomes."""
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
"""An empty body of these is announced too (RFC 9110 section 8.6): some servers answer 411 otherwise."""
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def written(request: SignedRequest) -> tuple[str, bytes]:
    """Scheme, host and port, which is where it goes; and the head, which ends with the empty line.

    Raises `internal` for a request that could not arrive byte for byte, or that would arrive as two.
    """
    method, url, headers, body = request
    origin, start = _STARTS[method, url]
    names, values = zip(*headers) if headers else ((), ())  # noqa: B905 -- pairs
    length = f"Content-Length: {len(body)}\r\n" if body or method in _WITH_BODY else ""
    try:
        head, filled = (start + _FORMS[names] % (*values, length)).encode(), "".join(values).encode()
    except UnicodeEncodeError:  # lone surrogates have no UTF-8
        raise _unwritable() from None
    if filled.translate(_SHOWN) != filled:
        raise _unwritable()
    return origin, head


def _start(words: tuple[str, str]) -> tuple[str, str]:
    """Origin of a URL, and how the head of such a request begins.

    The target is cut out of the URL's text, so no URL library can rewrite it: yarl drops an empty query.
    """
    method, url = words
    cut = url.find("/", 8)
    found = _PLACE.fullmatch(url[:cut])
    line = f"{method} {url[cut:]}"  # without a path, the last character: no target
    if found is None or not _LINE.fullmatch(line):
        raise _unwritable()
    scheme, host, port = found.group("scheme", "host", "port")
    authority = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    return f"{scheme}://{authority}", f"{line} HTTP/1.1\r\nHost: {authority}\r\n"


def _form(names: tuple[str, ...]) -> str:
    """What follows in a head with these headers, to be filled with their values and the line of the length."""
    if not all(_NAME.fullmatch(name) and name.lower() not in _OURS for name in names):
        raise _unwritable()
    return "".join([name.replace("%", "%%") + ": %s\r\n" for name in names]) + "%s\r\n"


_STARTS: Final = Remembered(_start)
_FORMS: Final = Remembered(_form)


def _unwritable() -> ProxyError:
    return ProxyError("internal", "the signed request cannot be sent as it was signed")
