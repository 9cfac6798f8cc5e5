"""Forms of text that name places: where Paraf listens, where a provider is, what a route may reach.

Each `parse` raises ValueError with a sentence that says what to write; the text itself is never repeated.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
"""RFC 1123 section 2.1, and the underscore that names of containers have."""
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_URL: Final = re.compile(r"(?i:(https?))://([^/?#\\]*)(.*)", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?")
_PATH_CHARACTER: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2}"
_PATH: Final = re.compile(rf"(?:{_PATH_CHARACTER})*")
_QUERY: Final = re.compile(rf"(?:{_PATH_CHARACTER}|\?)*")
_PATTERN: Final = re.compile(r"/[!\"$&->@-\[\]-~]*")
"""Printable ASCII without `#`, `%`, `?` and the backslash."""
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_UNIX_LIMIT: Final = 107
"""Bytes of a socket's path: `sun_path` has 108 with its closing NUL (unix(7))."""


def host_name(text: str) -> str:
    """A host name or IPv4 address in lower case."""
    name = text.lower() if text.isascii() else ""
    if not _NAME.fullmatch(name) or (name.rpartition(".")[2].isdigit() and not _is_ipv4(name)):
        raise ValueError("must be a host name alone, such as api.example.com: no scheme, port, path or *")
    return name


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _host(text: str) -> str:
    """As `host_name`, or an IPv6 address that stood in brackets, without them."""
    if not text.startswith("["):
        return host_name(text)
    try:
        address = IPv6Address(text[1:-1])
    except ValueError:
        address = None
    if address is None or address.scope_id:
        raise ValueError("holds an IPv6 address that cannot be read")
    return str(address)


def host_and_port(text: str) -> tuple[str, int | None]:
    found = _AUTHORITY.fullmatch(text)
    if not found:
        raise ValueError("must be HOST or HOST:PORT; an IPv6 address stands in brackets: [::1]:8080")
    port = None if found[2] is None else int(found[2])
    if port is not None and port > 65_535:
        raise ValueError("has a port over 65535")
    return _host(found[1]), port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_address(host: str) -> bool:
    """Is it an address and no name?"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Is it this machine by its very name? (RFC 6761 section 6.3 for `localhost`.)"""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True, slots=True)
class TcpListen:
    """`host` without brackets; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    def clashes(self, other: "Listen") -> bool:
        """Would the second of both fail to bind?"""
        if isinstance(other, UnixListen) or self.port != other.port or self.port == 0:
            return False
        mine, others = _places(self.host), _places(other.host)
        return bool(mine & others) or "*" in mine | others

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixListen:
    """`mode`: who may connect, as of a file; None for what is usual there."""

    path: str
    mode: int | None = None

    @property
    def loopback(self) -> bool:
        """No browser reaches a socket in the file system."""
        return False

    def clashes(self, other: "Listen") -> bool:
        return isinstance(other, UnixListen) and self.path == other.path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Listen = TcpListen | UnixListen


def _places(host: str) -> frozenset[str]:
    if host == "localhost":
        return frozenset(("localhost", "127.0.0.1", "::1"))
    return frozenset(("*" if host in ("0.0.0.0", "::") else host,))  # noqa: S104  compared, not bound


def parse_listen(text: str) -> Listen:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `unix:/run/paraf.sock`, `unix:/run/paraf.sock?mode=0600`."""
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"))
    host, port = (text, None) if re.fullmatch(r":?[0-9]+", text) else host_and_port(text)
    if port is None:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8080 (0.0.0.0:8080 for all addresses), or unix:/PATH")
    return TcpListen(host, port)


def _unix(text: str) -> UnixListen:
    path, _, wish = text.partition("?")
    mode = re.fullmatch(r"mode=(0?[0-7]{3})", wish)
    if wish and not (mode and int(mode[1], 8) & 0o600 == 0o600):
        raise ValueError("behind the path of a socket stands its mode alone, which lets the owner in: ?mode=0600")
    if not path.startswith("/") or path.endswith("/") or "\x00" in path:
        raise ValueError("a unix socket needs its full path: unix:/run/paraf.sock")
    if len(path.encode()) > _UNIX_LIMIT:
        raise ValueError(f"the path of a unix socket has at most {_UNIX_LIMIT} bytes")
    return UnixListen(path, int(mode[1], 8)) if mode else UnixListen(path)


def parse_admin(text: str) -> Listen | None:
    """As `parse_listen`; `off` is none."""
    return None if text == "off" else parse_listen(text)


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Where a provider is: `port` only when it is not the scheme's own, `path` empty or `/like/this`."""

    scheme: str
    host: str
    port: int | None = None
    path: str = ""

    @property
    def origin(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{_bracketed(self.host)}{port}"

    @property
    def text(self) -> str:
        return self.origin + self.path

    @classmethod
    def parse(cls, text: str) -> "BaseUrl":
        found = _URL.fullmatch(text)
        if not found:
            raise ValueError("must be a URL such as https://api.example.com")
        if "@" in found[2]:
            raise ValueError("must not hold a user or password: credentials have their own place")
        scheme = found[1].lower()
        host, port = host_and_port(found[2])
        if port == 0:
            raise ValueError("has port 0, which nobody can call")
        return cls(scheme, host, None if port == _DEFAULT_PORTS[scheme] else port, _base_path(found[3]))


def _base_path(text: str) -> str:
    if "?" in text or "#" in text:
        raise ValueError("must not hold a query or fragment: callers send those")
    if not _PATH.fullmatch(text) or "//" in text:
        raise ValueError("has a path that cannot be sent as it is: no //, and encode other characters as %XX")
    _refuse_dots(text)
    return text.removesuffix("/")


def _refuse_dots(path: str) -> None:
    if any(part in (".", "..") for part in re.split(r"[/\\;]", unquote(path))):
        raise ValueError("must not hold a segment . or ..")


@dataclass(frozen=True, slots=True)
class AllowRule:
    """`method` is `*` for each; in `pattern` `*` is a segment or part of one, `**` any number of segments."""

    method: str
    pattern: str

    @classmethod
    def parse(cls, text: str) -> "AllowRule":
        method, _, pattern = text.partition(" ")
        if method not in (*METHODS, "*"):
            raise ValueError(f"must begin with a method ({' '.join(METHODS)} or *), as in: POST /orders/**")
        return cls(method, _pattern(pattern.strip(" ")))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call of a provider: a method, and the target under its base, with its query if it has one."""

    method: str
    target: str

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        method, _, target = text.partition(" ")
        if method not in METHODS:
            raise ValueError(f"must begin with a method ({' '.join(METHODS)}), as in: POST /v1/token")
        path, _, query = target.partition("?")
        if not path.startswith("/") or not _PATH.fullmatch(path) or not _QUERY.fullmatch(query):
            raise ValueError("needs a path that can be sent as it is after the method, as in: POST /v1/token")
        _refuse_dots(path)
        return cls(method, target)


def _pattern(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("needs a path that begins with / after the method, as in: POST /orders/**")
    if not _PATTERN.fullmatch(text):
        raise ValueError("the path is matched decoded and without its query: leave out % and ? and blanks")
    if any("**" in segment and segment != "**" for segment in text.split("/")):
        raise ValueError("** stands for whole segments: write /orders/**")
    if "//" in text:
        raise ValueError("must not hold //")
    _refuse_dots(text)
    return text


def parse_prefix(text: str) -> str:
    """`/doku`; a lone `/` is given as the empty text, which is in front of everything."""
    if text == "/":
        return ""
    if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)+", text):
        raise ValueError("must be a path such as /doku: letters, digits and - . _ ~, no slash at its end")
    _refuse_dots(text)
    return text
