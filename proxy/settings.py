"""What one configuration file says, as frozen values, and how its text becomes them.

Files and environment are handed in. A value that exists here is valid; all that is wrong is found in one reading.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, cast

from proxy.addresses import (
    AllowRule,
    BaseUrl,
    Listen,
    TcpListen,
    UnixListen,
    host_name,
    parse_admin,
    parse_listen,
    parse_prefix,
)
from proxy.bounds import (
    FORMATS,
    LEVELS,
    MODES,
    Circuit,
    Drain,
    Limits,
    LogLevel,
    LogSettings,
    Mode,
    Timeouts,
    TraceSettings,
    room_for,
)
from proxy.crosschecks import DEFAULT_ADDRESSES, cross_check
from proxy.errors import Finding
from proxy.outletforms import CA, POOL, EgressForm, PoolForm, TlsForm, egress_shape, tls_shape
from proxy.quantities import duration, size
from proxy.references import (
    CredentialsShape,
    EnvReference,
    FileReference,
    Inline,
    Reference,
    ReferenceShape,
    client_id,
    inline,
)
from proxy.shape import BAD, Choice, Either, Flag, Key, Listing, Only, OrOff, Parsed, Record, Table, Text, Whole
from proxy.source import Report, Scalar, Source, parse
from proxy.storeforms import MEMORY, StoreForm, parse_redis, parse_store, redis_form
from proxy.switches import SWITCHES

__all__ = [
    "AllowRule",
    "BaseUrl",
    "CaForm",
    "Circuit",
    "Drain",
    "EnvReference",
    "FileReference",
    "Inline",
    "Limits",
    "Listen",
    "LogSettings",
    "Reference",
    "RouteSettings",
    "Settings",
    "TcpListen",
    "Timeouts",
    "UnixListen",
    "json_schema",
    "read_settings",
    "setting_paths",
]

MOST_WORKERS: Final = 64


@dataclass(frozen=True, slots=True)
class CaForm:
    """The local authority of interception: its certificate with the chain above it, and its key."""

    cert: Reference
    key: Reference


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """One route as written. `prefix` is "" for a route in front of everything; `allow` is empty for all calls.

    `hosts` is None when the file names none: then they are the environment's own. `switches` holds only what the
    route sets otherwise than its profile.
    """

    name: str
    provider: str
    environment: str | None
    credentials: Mapping[str, Reference]
    prefix: str
    hosts: tuple[str, ...] | None
    upstream: BaseUrl | None
    token_upstream: BaseUrl | None
    allow: tuple[AllowRule, ...]
    limits: Limits
    timeouts: Timeouts
    circuit: Circuit
    switches: Mapping[str, Any]
    allow_small_keys: bool
    intercept: bool
    caller_token: Mapping[str, Reference]
    token_standin: bool
    allow_private: bool
    mode: Mode
    tls: TlsForm
    egress_proxy: EgressForm | None
    pool: PoolForm
    refusals: int


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole file. `admin` and `control` are None when they are off, `bodies` when nothing is said; `profiles` are
    folders as written; `store_key`: newest first.
    """

    listen: tuple[Listen, ...]
    admin: Listen | None
    log: LogSettings
    allowed_hosts: tuple[str, ...]
    drain: Drain
    strict_permissions: bool
    profiles: tuple[str, ...]
    routes: tuple[RouteSettings, ...]
    source: Source
    version: int = 1
    store: StoreForm = MEMORY
    store_key: tuple[Reference, ...] = ()
    workers: int = 1
    control: Listen | None = None
    control_token: Reference | None = None
    ca: CaForm | None = None
    trace: TraceSettings = field(default_factory=TraceSettings)
    bodies: int | None = None

    @property
    def room(self) -> int:
        """Bytes of bodies that may be held at once."""
        return self.bodies or room_for((route.limits for route in self.routes), self.workers)


def _given(noun: Callable[..., Any]) -> Callable[..., Any]:
    """Defaults stand once, in the noun: what the file does not say is not handed over."""
    return lambda **parts: noun(**{name: part for name, part in parts.items() if part is not None})


def _limits(body: float | None, **counts: float | None) -> Limits:
    return cast("Limits", _given(Limits)(body=None if body is None else int(body), **counts))


def collector(text: str) -> str:
    return BaseUrl.parse(text).text


LOG: Final = Record(
    {
        "level": Key(Choice(LEVELS), "least severity that is logged"),
        "format": Key(Choice(FORMATS), "auto is human on a terminal, json elsewhere"),
    },
    _given(LogSettings),
)
TRACE: Final = Record(
    {
        "propagate": Key(Flag(), "send the trace of a request on to the provider"),
        "otlp": Key(Parsed(collector, "a URL such as http://127.0.0.1:4318"), "collector of OpenTelemetry spans"),
    },
    _given(TraceSettings),
)
DRAIN: Final = Record(
    {
        "delay": Key(duration(0), "how long listeners stay open after SIGTERM"),
        "timeout": Key(duration(0), "how long requests in flight may take after that"),
    },
    _given(Drain),
)
LIMITS: Final = Record(
    {
        "body": Key(size(), "largest request body"),
        "concurrency": Key(OrOff(Whole(1, 100_000), math.inf), "most requests in flight to the provider"),
        "queue": Key(OrOff(Whole(0, 1_000_000), 0), "most requests that wait for their turn"),
    },
    _limits,
)
CIRCUIT: Final = Record(
    {
        "faults": Key(Whole(1, 10_000), "how many faults of the provider in a row open it"),
        "probe": Key(duration(), "how often one request is then let through"),
    },
    _given(Circuit),
)
TIMEOUTS: Final = Record(
    {
        "connect": Key(duration(), "to connect, TLS included"),
        "first_byte": Key(duration(), "from the sent request to the answer's head"),
        "idle": Key(duration(), "each pause in an answer's body"),
        "total": Key(duration(), "from the request's arrival to the answer's head"),
        "token": Key(duration(), "to fetch a token, and to wait for one"),
    },
    _given(Timeouts),
)
HOSTS: Final = Listing(Parsed(host_name, "a host name"))
BASE_URL: Final = Parsed(BaseUrl.parse, "a URL such as https://api.example.com")
ALLOW: Final = Listing(Parsed(AllowRule.parse, "a method and a path such as POST /orders/**"), least=1)
SECRET: Final = ReferenceShape(passphrase=ReferenceShape())
INLINE_SECRET: Final = ReferenceShape(inline, ReferenceShape(inline))
CALLER_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def _store(secret: ReferenceShape) -> Either:
    secret = replace(secret, passphrase=None)
    return Either(
        Parsed(parse_store, "memory, file:///DIRECTORY, redis://HOST/0, rediss://HOST/0 or unix:///PATH"),
        Record(
            {
                "url": Key(
                    Parsed(parse_redis, "redis://HOST:6379/0, rediss://HOST:6379/0 or unix:///PATH"),
                    "where Redis is",
                    required=True,
                ),
                "username": Key(replace(secret, literal=client_id), "of Redis' access list"),
                "password": Key(secret, "what Redis asks for"),
                "ca": Key(CA, "PEM file of authorities to trust for rediss:// instead of the system's"),
            },
            redis_form,
        ),
    )


def _route(secret: ReferenceShape) -> Record:
    return Record(
        {
            "provider": Key(Text(), "the profile: `paraf providers` lists them", required=True),
            "environment": Key(Text(), "the provider's hosts to use; optional when upstream is given"),
            "credentials": Key(CredentialsShape(secret), "references to what the profile asks for", required=True),
            "prefix": Key(Parsed(parse_prefix, "a path such as /doku"), "what callers put in front; default: the name"),
            "hosts": Key(HOSTS, "hosts that select this route; default: the environment's own"),
            "upstream": Key(BASE_URL, "override of the environment's API base"),
            "token_upstream": Key(BASE_URL, "override of the token base; default: upstream if that is given"),
            "allow": Key(ALLOW, "calls that may pass; default: all under the base", ()),
            "limits": Key(LIMITS, "bounds of what is held", Limits()),
            "timeouts": Key(TIMEOUTS, "bounds of waiting", Timeouts()),
            "circuit": Key(
                OrOff(CIRCUIT, Circuit(faults=math.inf)), "when a failing provider is left alone", Circuit()
            ),
            "intercept": Key(Flag(), "read what programs send over CONNECT to the route's hosts", default=False),
            "caller_token": Key(
                Table(replace(secret, passphrase=None), CALLER_NAME, "letters, digits and . _ -", least=1),
                "who may call, by name, and the token that each sends",
            ),
            "allow_small_keys": Key(Flag(), "take RSA keys of fewer than 2048 bit", default=False),
            "mode": Key(Choice(MODES), "shadow: the caller's own signature goes through, and is compared", "sign"),
            "allow_private": Key(Flag(), "the upstream's name may lead to an address of this network", default=False),
            "token_standin": Key(Flag(), "answer the provider's token endpoint here, for SDKs", default=False),
            "tls": Key(tls_shape(secret), "TLS to the provider", TlsForm()),
            "egress_proxy": Key(egress_shape(secret), "HTTP proxy through which the provider is reached"),
            "pool": Key(POOL, "connections that are kept", PoolForm()),
            "refusals": Key(Whole(0, 1000), "how many refused requests are kept for operators", 0),
            **SWITCHES,
        }
    )


def _file(secret: ReferenceShape) -> Record:
    return Record(
        {
            "version": Key(Only(1), "write version: 1, the version of this format", required=True),
            "listen": Key(
                Listing(Parsed(parse_listen, "HOST:PORT or unix:/PATH"), single=True, least=1),
                "where callers connect",
                (parse_listen(DEFAULT_ADDRESSES["listen"]),),
            ),
            "admin": Key(
                Parsed(parse_admin, "HOST:PORT, unix:/PATH or off"),
                "probes and metrics",
                parse_listen(DEFAULT_ADDRESSES["admin"]),
            ),
            "control": Key(
                Parsed(parse_listen, "unix:/PATH, or a loopback address such as 127.0.0.1:9465"),
                "reload, quit, tokens: for operators; another address than loopback needs control_token",
            ),
            "control_token": Key(
                replace(secret, passphrase=None), "what a caller of control must show: Authorization: Bearer"
            ),
            "store": Key(_store(secret), "where tokens are kept", MEMORY),
            "store_key": Key(
                Listing(replace(secret, passphrase=None), single=True, least=1),
                "what kept tokens are encrypted with, the newest first; default: the account's own secret",
                (),
            ),
            "bodies": Key(size(maximum=MOST_WORKERS << 30), "request bodies that are held at once, over all workers"),
            "workers": Key(Whole(1, MOST_WORKERS), "processes that serve together", 1),
            "log": Key(LOG, "what is logged, and how", LogSettings()),
            "ca": Key(
                Record(
                    {
                        "cert": Key(CA, "PEM file of its certificate, and what is above it", required=True),
                        "key": Key(CA, "PEM file of its key", required=True),
                    },
                    CaForm,
                ),
                "the local authority of interception; `paraf ca init` makes it",
            ),
            "trace": Key(TRACE, "traces of requests", TraceSettings()),
            "allowed_hosts": Key(HOSTS, "further names that a loopback listener answers to", ()),
            "drain": Key(DRAIN, "how Paraf ends", Drain()),
            "strict_permissions": Key(Flag(), "secrets that others can read are an error", default=False),
            "profiles": Key(
                Listing(Text(r"[^\x00]+", "the path of a folder")), "folders with profiles of your own", ()
            ),
            "routes": Key(
                Table(_route(secret), r"[a-z0-9][a-z0-9_-]*", "small letters, digits, - and _", least=1),
                "what callers can address, by name",
                required=True,
            ),
        },
    )


def _settings(source: Source, routes: dict[str, dict[str, Any]], **parts: Any) -> Settings:
    made = tuple(_route_settings(name, dict(values)) for name, values in routes.items())
    parts["bodies"] = parts["bodies"] and int(parts["bodies"])
    return Settings(source=source, routes=made, **parts)


def _route_settings(name: str, values: dict[str, Any]) -> RouteSettings:
    switches = {key: value for key in SWITCHES if (value := values.pop(key)) is not None}
    prefix = values.pop("prefix")
    return RouteSettings(
        name=name,
        prefix=f"/{name}" if prefix is None else prefix,
        credentials=MappingProxyType(values.pop("credentials")),
        switches=MappingProxyType(switches),
        caller_token=MappingProxyType(values.pop("caller_token") or {}),
        **values,
    )


def _log_level(environ: Mapping[str, str], report: Report) -> LogLevel | None:
    """PARAF_LOG_LEVEL, which wins over the file; empty is as if it were not set."""
    text = environ.get("PARAF_LOG_LEVEL", "")
    variable = Scalar(text, line=1, column=1, file="PARAF_LOG_LEVEL")
    read = Choice(LEVELS).read(variable, ("log", "level"), report) if text else None
    return None if read is BAD else cast("LogLevel | None", read)


def read_settings(
    text: str, file: str, *, environ: Mapping[str, str], allow_inline_secrets: bool = False
) -> tuple[Settings, list[Finding]]:
    """As `read_source`."""
    return read_source(parse(text, file), environ=environ, allow_inline_secrets=allow_inline_secrets)


def read_source(
    source: Source, *, environ: Mapping[str, str], allow_inline_secrets: bool = False
) -> tuple[Settings, list[Finding]]:
    """The settings and what to warn of. Raises ConfigError with every finding, sorted."""
    report = Report(source.file)
    read = _file(INLINE_SECRET if allow_inline_secrets else SECRET).read(source.root, (), report)
    cross_check(source.root, report)
    level = _log_level(environ, report)
    report.raise_if_failed()
    settings = _settings(source, **read)
    log = replace(settings.log, level=level) if level else settings.log
    return replace(settings, log=log), sorted(report.findings)


def json_schema() -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Paraf",
        **_file(SECRET).schema(),
        "$defs": {"reference": SECRET.definition(), "passphrase": ReferenceShape().definition()},
    }


def setting_paths() -> list[str]:
    """Every key that a file may hold, dotted: `routes.*.limits.body`."""
    return list(dict.fromkeys(_paths(json_schema(), ())))


def _paths(schema: dict[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        yield ".".join((*above, name))
        yield from _paths(below, (*above, name))
    for part in schema.get("anyOf", ()):
        yield from _paths(part, above)
    if isinstance(free := schema.get("additionalProperties"), dict):
        yield from _paths(free, (*above, "*"))
