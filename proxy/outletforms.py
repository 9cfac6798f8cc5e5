"""How a configuration file says how a route's connections come about: TLS, the egress proxy, what is kept."""

import math
from dataclasses import dataclass, replace
from typing import Any, Final

from proxy.addresses import BaseUrl, host_name, is_loopback
from proxy.quantities import duration
from proxy.references import Reference, ReferenceShape, client_id, path_of_file
from proxy.shape import Choice, Either, Key, Parsed, Record, Whole

VERSIONS: Final = ("1.2", "1.3")
CA: Final = ReferenceShape(path_of_file)


@dataclass(frozen=True, slots=True)
class TlsForm:
    """`sni` is for the API host alone: the token host is often another."""

    ca: Reference | None = None
    client_cert: Reference | None = None
    client_key: Reference | None = None
    sni: str | None = None
    min_version: str | None = None


@dataclass(frozen=True, slots=True)
class EgressForm:
    """`proxy` has no path; `username`, `password` and `ca` are references."""

    proxy: BaseUrl
    username: Reference | None = None
    password: Reference | None = None
    ca: Reference | None = None

    @property
    def is_open(self) -> bool:
        """Can others on the way read its password?"""
        return self.proxy.scheme == "http" and not is_loopback(self.proxy.host)


@dataclass(frozen=True, slots=True)
class PoolForm:
    """`size`: most idle connections that are kept; `idle` and `age` in seconds."""

    size: float = math.inf
    idle: float = 15.0
    age: float = 300.0


def _tls(client_cert: Reference | None, client_key: Reference | None, **others: Any) -> TlsForm:
    if (client_cert is None) is not (client_key is None):
        raise ValueError("client_cert and client_key go together")
    return TlsForm(client_cert=client_cert, client_key=client_key, **others)


def parse_egress(text: str) -> EgressForm:
    proxy = BaseUrl.parse(text)
    if proxy.path:
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT, without a path")
    return EgressForm(proxy)


def _egress(
    url: EgressForm, username: Reference | None, password: Reference | None, ca: Reference | None
) -> EgressForm:
    if (username is None) is not (password is None):
        raise ValueError("username and password go together")
    if ca and url.proxy.scheme == "http":
        raise ValueError("ca is for https:// alone: nothing else checks a certificate")
    return replace(url, username=username, password=password, ca=ca)


def _pool(**parts: float | None) -> PoolForm:
    return PoolForm(**{name: part for name, part in parts.items() if part is not None})


POOL: Final = Record(
    {
        "size": Key(Whole(0, 100_000), "most idle connections that are kept; 0: each call has one of its own"),
        "idle": Key(duration(), "how long an idle connection is kept at most"),
        "age": Key(duration(), "how old a connection is used at most, so that a provider that moved is followed"),
    },
    _pool,
)


def tls_shape(secret: ReferenceShape) -> Record:
    return Record(
        {
            "ca": Key(CA, "PEM file of authorities to trust instead of the system's"),
            "client_cert": Key(CA, "PEM file of the certificate to show, with those between it and its root"),
            "client_key": Key(secret, "its private key, in PEM"),
            "sni": Key(Parsed(host_name, "a host name"), "name asked for, and expected in the certificate, of the API"),
            "min_version": Key(Choice(VERSIONS), "lowest version of TLS"),
        },
        _tls,
    )


def egress_shape(secret: ReferenceShape) -> Either:
    secret = replace(secret, passphrase=None)
    url = Parsed(parse_egress, "http://HOST:PORT or https://HOST:PORT")
    return Either(
        url,
        Record(
            {
                "url": Key(url, "where it is", required=True),
                "username": Key(replace(secret, literal=client_id), "of its login"),
                "password": Key(secret, "of its login"),
                "ca": Key(CA, "PEM file of authorities to trust for https:// instead of the system's"),
            },
            _egress,
        ),
    )
