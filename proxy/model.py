"""The nouns that flow through Paraf: frozen, and right from birth.

What is made for each request is a NamedTuple: a frozen dataclass is three times as dear to make (measured).

`InboundRequest` → `Route` → `Token` → `SignedRequest` → `UpstreamResponse`. Servers and clients stand behind
the Protocols here, so that the pipeline knows neither.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from proxy.errors import Sent

Headers = tuple[tuple[str, str], ...]
"""Names as written, values as text (UTF-8), in the order sent; a name may repeat."""
Fields = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""The header of an answer as it came: its names, and their values. A row of names comes again and again."""

STARS: Final = "********"


class Secret:
    """Text that cannot be printed: stars in every form; `reveal()` is the only way out.

    Equality is by value, so that two routes can be found to disagree about one secret.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return STARS

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(STARS, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _: object) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")

    __getstate__ = __reduce__


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of one token, shared by every route that agrees in the first four fields after `name`.

    `name` is that of its first route in the file. Times in seconds.
    """

    name: str
    provider: str
    environment: str
    token_url: str
    client_id: str
    exclusive: bool = False
    """A new token kills the old one at the provider: never refreshed ahead."""
    refresh_ahead: float = 60.0
    """How long before its end a token is replaced, while it is still used."""
    min_gap: float = 1.0
    """Least time between two token calls."""
    patience: float = 10.0
    """`timeouts.token`: the longest that a token call takes, and that a request waits for one."""

    identity: tuple[str, str, str, str] = field(init=False, repr=False, compare=False)
    """What makes it the same account, whatever it is called and however patient it is."""

    def __post_init__(self) -> None:
        identity = self.provider, self.environment, self.token_url, self.client_id
        object.__setattr__(self, "identity", identity)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and its end on two clocks.

    `expires_at_ms`: wall clock, epoch milliseconds, as the provider said it: for people, metrics and shared stores.
    `deadline`: the same moment on this process's monotonic clock, in seconds: what decides whether it is sent, so
    that a jump of the wall clock neither kills it nor keeps it alive.
    """

    value: Secret
    expires_at_ms: int
    deadline: float
    fetched_at_ms: int = field(default=0, compare=False)
    """Wall clock; 0 when it is not known."""
    holder: str = field(default="", compare=False)
    """The process that fetched it, for people."""


class SignedRequest(NamedTuple):
    """What leaves, byte for byte. Only `proxy.signing` makes one; `proxy.outbound` sends nothing else.

    `url` is absolute and already encoded; `headers` hold every header but Host and Content-Length,
    which follow from `url` and `body`.
    """

    method: str
    url: str
    headers: Headers
    body: bytes

    def __repr__(self) -> str:
        return f"SignedRequest({self.method}, {self.url!r})"


class Clock(Protocol):
    """Time, handed in so that a signature is a function of its arguments and no test sleeps."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds, never backwards."""
        ...


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What a CONNECT named: the requests inside are for nothing else.

    `headers` are those of the CONNECT, which says who is calling. `misnamed`: the TLS inside asked for another host.
    """

    host: str
    port: int
    headers: Headers = field(repr=False)
    misnamed: bool = False


class InboundRequest(Protocol):
    """The caller's request as the pipeline sees it; the head is whole, the body has yet to be held."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str:
        """The raw request target: origin-form, or absolute-form from a program behind `http_proxy`."""
        ...

    @property
    def headers(self) -> Headers: ...
    @property
    def names(self) -> tuple[str, ...]:
        """Those of `headers`: what becomes of a row is mostly decided by them."""
        ...

    @property
    def loopback(self) -> bool:
        """Did it arrive on a loopback listener? Then a browser may be behind it, and its Host must be a known one."""
        ...

    @property
    def tunnel(self) -> Tunnel | None:
        """Through which it came, if it did."""
        ...

    def whole(self, limit: int) -> bytes | None:
        """The body, never inflated, if all of it came with the head; it then need not be held. Refused as by `hold`."""
        ...

    async def hold(self, limit: int) -> bytes:
        """Read the whole body, never inflated.

        Refused with `body_too_large` past `limit` bytes and with `request_timeout` when it trickles. Answers
        `Expect: 100-continue` first, so it is called only when everything known from the head is in order.
        """
        ...


class UpstreamResponse(Protocol):
    """The provider's answer: head here, body as it comes. Exactly one of `chunks` to its end or `close` frees it."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> bytes: ...
    @property
    def fields(self) -> Fields: ...

    def whole(self) -> bytes | None:
        """The body, if all of it has come already; it then need not be asked for in chunks."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, never inflated; raises ProxyError (`sent: maybe`) when it breaks off."""
        ...

    async def close(self) -> None:
        """Give the answer up; its connection is not used again unless the body was read to the end."""
        ...


@dataclass(slots=True)
class Attempt:
    """One sending of one signed request. The transport writes `maybe` just before the first byte leaves."""

    sent: Sent = "no"


class ParsedKey(Protocol):
    """An RSA private key as `signing.algorithms` uses it (cryptography's RSAPrivateKey is one)."""

    def sign(self, data: bytes, padding: Any, algorithm: Any) -> bytes: ...
    def public_key(self) -> Any: ...
