"""How a configuration file says where tokens are kept: memory, a directory, or Redis."""

import re
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import unquote

from proxy.addresses import host_and_port, is_loopback
from proxy.model import Secret
from proxy.references import Reference

StoreKind = Literal["memory", "file", "redis"]

_FORMS: Final = "memory, file:///DIRECTORY, redis://HOST:6379/0, rediss://HOST:6379/0 or unix:///PATH"
_REDIS: Final = re.compile(r"(rediss?)://([^/?#\\]*)(?:/([0-9]{1,4})?)?")
_SOCKET: Final = re.compile(r"unix://(/[^?\x00]*[^/?\x00])(?:\?db=([0-9]{1,4}))?")
_DIRECTORY: Final = re.compile(r"file://(/[^\x00?#]*[^\x00?#/])/?")
_PORT: Final = 6379


@dataclass(frozen=True, slots=True)
class MemoryForm:
    kind: StoreKind = "memory"


@dataclass(frozen=True, slots=True)
class FileForm:
    """`path` is absolute."""

    path: str
    kind: StoreKind = "file"


@dataclass(frozen=True, slots=True)
class RedisForm:
    """`socket` is the path of a unix socket, else None; `username`, `password` and `ca` are references."""

    host: str = ""
    port: int = _PORT
    socket: str | None = None
    database: int = 0
    tls: bool = False
    username: Reference | None = None
    password: Reference | None = None
    ca: Reference | None = None
    kind: StoreKind = "redis"

    @property
    def is_open(self) -> bool:
        """Can others on the way read what is sent? Tokens are encrypted anyhow, a password is not."""
        return not self.tls and self.socket is None and not is_loopback(self.host)


StoreForm = MemoryForm | FileForm | RedisForm


MEMORY: Final = MemoryForm()


@dataclass(frozen=True, slots=True)
class RedisLogin:
    """What the references of a RedisForm lead to; `ca`: PEM certificates."""

    username: Secret | None = None
    password: Secret | None = None
    ca: str | None = None


def parse_store(text: str) -> StoreForm:
    """Raises ValueError with a sentence that repeats nothing of the text."""
    if text == "memory":
        return MEMORY
    if text.startswith("file:"):
        return _directory(text)
    if text.startswith(("redis:", "rediss:", "unix:")):
        return parse_redis(text)
    raise ValueError(f"must be {_FORMS}")


def _directory(text: str) -> FileForm:
    found = _DIRECTORY.fullmatch(text)
    if not found:
        raise ValueError("must be the full path of a directory after file://, as in file:///var/lib/paraf")
    path = unquote(found[1])
    if ".." in path.split("/") or "\x00" in path:
        raise ValueError("the path of the directory must not hold ..")
    return FileForm(path)


def parse_redis(text: str) -> RedisForm:
    if text.startswith("unix:"):
        found = _SOCKET.fullmatch(text)
        if not found:
            raise ValueError("must be the full path of Redis' socket, as in unix:///run/redis/redis.sock?db=0")
        return RedisForm(socket=found[1], database=int(found[2] or 0))
    found = _REDIS.fullmatch(text)
    if not found:
        raise ValueError("must be redis://HOST:6379/0, rediss://HOST:6379/0 or unix:///PATH, with no more in it")
    if "@" in found[2]:
        raise ValueError("must not hold a user or password: write store: {url: ..., password: {env: NAME}}")
    host, port = host_and_port(found[2])
    if port == 0:
        raise ValueError("has port 0, which nobody can call")
    return RedisForm(host, port or _PORT, database=int(found[3] or 0), tls=found[1] == "rediss")


def redis_form(
    url: RedisForm, username: Reference | None, password: Reference | None, ca: Reference | None
) -> RedisForm:
    """Of the mapping's parts. Raises ValueError when they do not go together."""
    if username and not password:
        raise ValueError("username stands without password: Redis wants both")
    if ca and not url.tls:
        raise ValueError("ca is for rediss:// alone: nothing else checks a certificate")
    return replace(url, username=username, password=password, ca=ca)
