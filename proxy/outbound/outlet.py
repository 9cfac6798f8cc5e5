"""What a route says of its connections to the provider, read and ready to be used."""

import os
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import NamedTemporaryFile
from typing import Final

from proxy.model import Secret
from proxy.outbound.dial import Road, verified_tls
from proxy.outbound.egress import Egress
from proxy.outbound.reach import Address

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are to the provider's TLS: PEM texts."""

    chain: str = field(repr=False)
    key: Secret
    passphrase: Secret | None = None

    def load(self, context: ssl.SSLContext) -> None:
        """Raises ValueError of our own words."""
        asked = []

        def password() -> str:
            asked.append(True)  # without an answer OpenSSL would ask at the terminal
            return self.passphrase.reveal() if self.passphrase else ""

        try:
            with _as_file(f"{self.chain}\n{self.key.reveal()}\n") as path:
                context.load_cert_chain(path, password=password)
        except ssl.SSLError as fault:
            raise ValueError(_why(fault, asked=bool(asked), opened=self.passphrase is not None)) from None


def _why(fault: ssl.SSLError, *, asked: bool, opened: bool) -> str:
    if fault.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return "is not the key of the certificate in client_cert"
    if asked:
        return "cannot be opened with this passphrase" if opened else "is encrypted: name its `passphrase`"
    return "holds no private key in PEM that can be read"


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """OpenSSL reads a key from a file only. This one is in memory, where the system has such."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("identity"), "wb") as file:
            file.write(text.encode())
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with NamedTemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            yield file.name


@dataclass(frozen=True, slots=True)
class EgressAccess:
    """`login` is the value of Proxy-Authorization; `ca`: PEM certificates."""

    host: str
    port: int
    tls: bool
    login: Secret | None = None
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Outlet:
    """`ca`: PEM certificates to trust instead of the system's. `names`: by host of a URL, the one that its certificate
    is expected to have. `allow_private`: names may lead to this network. `most_idle`, `idle`, `age`: see WireTransport.
    """

    ca: str | None = None
    identity: Identity | None = None
    min_version: str | None = None
    names: tuple[tuple[str, str], ...] = ()
    allow_private: bool = False
    egress: EgressAccess | None = None
    most_idle: float = float("inf")
    idle: float = 15.0
    age: float = 300.0

    def tls(self, system: ssl.SSLContext | None) -> ssl.SSLContext | None:
        """`system`, which trusts the system's roots, if it will do; it is dear to make."""
        if not (self.ca or self.identity or self.min_version):
            return system
        context = verified_tls(self.ca)
        if self.identity:
            self.identity.load(context)
        if self.min_version:
            context.minimum_version = _VERSIONS[self.min_version]
        return context

    def road(self, system: ssl.SSLContext | None, listening: Collection[Address] = ()) -> Road:
        return Road(self.allow_private, listening, dict(self.names), self._egress(system))

    def _egress(self, system: ssl.SSLContext | None) -> Egress | None:
        access = self.egress
        if access is None:
            return None
        tls = (verified_tls(access.ca) if access.ca or system is None else system) if access.tls else None
        return Egress(access.host, access.port, tls, access.login)
