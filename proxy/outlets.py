"""Reads what a route says of its connections: certificates, the key to show, the egress proxy's login."""

import base64
import re
import ssl
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Final

from proxy.keyring import Keyring, ReferenceReader
from proxy.model import Secret
from proxy.outbound.outlet import EgressAccess, Identity, Outlet
from proxy.outletforms import EgressForm
from proxy.references import Inline, Reference
from proxy.settings import RouteSettings
from proxy.source import Path, Source

UNSEEN: Final = (
    "behind an egress proxy Paraf does not see the provider's address: whether a name leads to the inside, or back to "
    "Paraf, the proxy itself must refuse"
)
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}


class OutletReader(ReferenceReader):
    """Of one route."""

    def __init__(
        self, source: Source, route: RouteSettings, keyring: Keyring, environ: Mapping[str, str], folder: FilePath
    ) -> None:
        super().__init__(source, keyring, environ, folder, ("routes", route.name))
        self._route = route

    def read(self, host: str | None) -> Outlet:
        """`host`: the API's. Complete when there is no finding of an error."""
        tls, pool = self._route.tls, self._route.pool
        return Outlet(
            ca=self._certificates(tls.ca, ("tls", "ca")),
            identity=self._identity(),
            min_version=tls.min_version,
            names=((host, tls.sni),) if host and tls.sni else (),
            allow_private=self._route.allow_private,
            egress=self._egress(self._route.egress_proxy),
            most_idle=pool.size,
            idle=pool.idle,
            age=pool.age,
        )

    def _certificates(self, reference: Reference | None, path: Path) -> str | None:
        text = reference and self._found(path, self._keyring.authorities, reference)
        if not text:
            return None
        try:
            return certificates(text)
        except ValueError as error:
            self._find(path, str(error))
        return None

    def _identity(self) -> Identity | None:
        tls, path = self._route.tls, ("tls", "client_key")
        chain = self._certificates(tls.client_cert, ("tls", "client_cert"))
        key = self._secret(tls.client_key, path)
        below = None if tls.client_key is None or isinstance(tls.client_key, Inline) else tls.client_key.passphrase
        passphrase = self._secret(below, path)
        if chain is None or key is None or (below and passphrase is None):
            return None
        identity = Identity(chain, key, passphrase)
        try:
            identity.load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        except ValueError as error:
            self._find(path, str(error))
        return identity

    def _egress(self, form: EgressForm | None) -> EgressAccess | None:
        if form is None:
            return None
        self._find(("egress_proxy",), UNSEEN, "warning")
        if form.password and form.is_open:
            words = "http:// to another machine: the password travels in the clear, https:// hides it"
            self._find(("egress_proxy", "url"), words, "warning")
        username = self._secret(form.username, ("egress_proxy", "username"))
        password = self._secret(form.password, ("egress_proxy", "password"))
        login = _basic(username.reveal(), password.reveal()) if username and password else None
        ca = self._certificates(form.ca, ("egress_proxy", "ca"))
        at = form.proxy
        return EgressAccess(at.host, at.port or _PORTS[at.scheme], at.scheme == "https", login, ca)


def _basic(username: str, password: str) -> Secret:
    """RFC 7617."""
    return Secret("Basic " + base64.b64encode(f"{username}:{password}".encode()).decode())


def certificates(text: str) -> str:
    """The PEM blocks alone: what stands between them in a bundle may be no ASCII, which `ssl` refuses."""
    blocks = "\n".join(_CERTIFICATE.findall(text))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=blocks)
    except (ssl.SSLError, ValueError):
        raise ValueError("holds no PEM certificate that can be read") from None
    return blocks
