"""What a route says of its connections to the provider, read and ready to be used."""

import ssl
from dataclasses import dataclass

from proxy.outbound.dial import verified_tls


@dataclass(frozen=True, slots=True)
class Outlet:
    """`ca`: PEM certificates to trust instead of the system's. `allow_private`: names may lead to this network."""

    ca: str | None = None
    allow_private: bool = False

    def tls(self, system: ssl.SSLContext | None) -> ssl.SSLContext | None:
        """`system`, which trusts the system's roots, if it will do; it is dear to make."""
        return verified_tls(self.ca) if self.ca else system
