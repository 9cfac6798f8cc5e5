"""What must be well for payments to get through, looked at from this machine: names, connections, certificates, clock,
keys, files, store and tokens.

Nothing of a payment is sent: a provider sees a TLS handshake, one `HEAD`, and a token call where that ends nobody's
token.
"""

import asyncio
import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from proxy.addresses import BaseUrl, UnixListen
from proxy.app import token_calls
from proxy.clock import SystemClock
from proxy.errand import Fetch
from proxy.errors import ProxyError, StartError, StoreFault, TokenFault
from proxy.fetch import unleased
from proxy.generation import Generation, Lane
from proxy.headers import date_ms
from proxy.keyring import Keyring, spki_fingerprint
from proxy.model import Account, Clock
from proxy.outbound.dial import verified_tls
from proxy.outbound.outlet import Outlet
from proxy.settings import Reference, RouteSettings, Settings
from proxy.storeforms import MEMORY, RedisForm
from proxy.stores import TokenStore
from proxy.stores.opening import opened

State = Literal["ok", "warning", "failed", "skipped"]
PATIENCE: Final = 5.0
"""Seconds for each step towards a provider."""
SOON: Final = 30
"""Days before its end from which on a certificate is a warning: time for a provider to be told."""
NEAR: Final = 2.0
"""Seconds of difference that a Date header, which has whole ones, cannot tell from none."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `subject`: a provider's origin, a route, an account or the store."""

    state: State
    subject: str
    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Place:
    """A provider's host as one route reaches it. `window`: seconds by which its clock may differ from ours."""

    base: BaseUrl
    outlet: Outlet
    window: float

    @property
    def name(self) -> str:
        """The one that its certificate should have."""
        return dict(self.outlet.names).get(self.base.host, self.base.host)

    @property
    def address(self) -> tuple[str, int]:
        """Where a connection is made to."""
        if self.outlet.egress:
            return self.outlet.egress.host, self.outlet.egress.port
        return self.base.host, self.base.port or {"https": 443, "http": 80}[self.base.scheme]


async def examine(settings: Settings, generation: Generation, folder: Path, *, take_token: bool) -> list[Check]:
    """`folder`: that of the configuration file."""
    clock = SystemClock()
    looks = [asyncio.to_thread(_reached, place, clock) for place in places(generation)]
    found = [check for checks in await asyncio.gather(*looks) for check in checks]
    for route in settings.routes:
        subject = f"route {route.name}"
        found += [*_keys(generation.lanes[route.name]), *_files(subject, _of_route(route), folder)]
    found += [each for each in _files("the whole file", _of_all(settings), folder) if each.state != "ok"]
    return found + await _tokens(settings, generation, clock, take_token=take_token)


def places(generation: Generation) -> list[Place]:
    """Each host once, for API and for tokens."""
    found: dict[tuple[str, Outlet], Place] = {}
    for lane in generation.lanes.values():
        for base in (lane.route.base, *_token_base(lane)):
            found.setdefault((base.origin, lane.outlet), Place(base, lane.outlet, lane.profile.time_window))
    return list(found.values())


def _token_base(lane: Lane) -> Iterator[BaseUrl]:
    if lane.exchange and lane.profile.token:
        yield BaseUrl.parse(lane.exchange.url.removesuffix(lane.profile.token.endpoint.target))


def _reached(place: Place, clock: Clock) -> list[Check]:
    return list(_reach(place, clock))


def _reach(place: Place, clock: Clock) -> Iterator[Check]:
    """Step by step; what a failed step stands before is not tried."""
    origin = place.base.origin
    try:
        infos = socket.getaddrinfo(*place.address, type=socket.SOCK_STREAM)
    except OSError as error:
        yield Check("failed", origin, "dns", f"the name has no address ({error.strerror or 'no answer'})")
        return
    addresses = sorted({str(info[4][0]) for info in infos})
    yield Check("ok", origin, "dns", ", ".join(addresses))
    try:
        plain = socket.create_connection(place.address, PATIENCE)
    except OSError as error:
        yield Check("failed", origin, "tcp", f"no connection: {error.strerror or 'no answer in time'}")
        return
    with closing(plain):
        yield Check("ok", origin, "tcp", f"port {place.address[1]} answers")
        if place.outlet.egress:
            yield Check("skipped", origin, "tls", "behind the egress proxy: a token call tells whether it is reached")
            return
        yield from _secured(place, plain, clock)


def _secured(place: Place, plain: socket.socket, clock: Clock) -> Iterator[Check]:
    origin = place.base.origin
    if place.base.scheme == "http":
        yield Check("warning", origin, "tls", "plain HTTP: good for tests only")
        yield from _clock(place, plain, clock)
        return
    context = place.outlet.tls(None) or verified_tls()
    try:
        secured = context.wrap_socket(plain, server_hostname=place.name)
    except ssl.SSLCertVerificationError as error:
        yield Check("failed", origin, "tls", _of_certificate(error))
        return
    except OSError as error:
        yield Check("failed", origin, "tls", f"the handshake failed: {getattr(error, 'reason', None) or 'cut off'}")
        return
    with closing(secured):
        yield _certificate(place, secured, clock)
        yield from _clock(place, secured, clock)


_CERTIFICATE: Final = {
    10: "the certificate has expired; if it is good elsewhere, look at this machine's clock",
    9: "the certificate is not valid yet: look at this machine's clock",
    18: "the certificate is signed by itself: name its authority in tls.ca",
    19: "the chain ends at an authority that is not trusted here: name it in tls.ca",
    20: "the authority is not trusted here, or the provider leaves a certificate of its chain out",
    21: "the chain cannot be followed: the provider leaves a certificate out, or another server answers",
    62: "the certificate is for other names than this host: does another server answer?",
    64: "the certificate is for other addresses than this one",
}
"""By X509_V_ERR of OpenSSL."""


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    return _CERTIFICATE.get(error.verify_code, f"the certificate is not accepted (OpenSSL: {error.verify_message})")


def _certificate(place: Place, secured: ssl.SSLSocket, clock: Clock) -> Check:
    held: dict[str, Any] = secured.getpeercert() or {}
    issuer = {name: value for row in held.get("issuer", ()) for name, value in row}
    days = int(ssl.cert_time_to_seconds(held["notAfter"]) - clock.now_ms() / 1000) // 86_400
    by = issuer.get("organizationName") or issuer.get("commonName") or "an authority without a name"
    words = f"{secured.version()}, by {by}, {days} days left (until {held['notAfter']})"
    return Check("warning" if days < SOON else "ok", place.base.origin, "tls", words)


def _clock(place: Place, sock: socket.socket, clock: Clock) -> Iterator[Check]:
    origin = place.base.origin
    try:
        there_ms = date_ms((("Date", _date(place, sock)),))
    except (OSError, ValueError, http.client.HTTPException):
        there_ms = None
    if there_ms is None:
        yield Check("skipped", origin, "clock", "the host says no time: its answer has no Date header")
    else:
        yield _skew(origin, (there_ms - clock.now_ms()) / 1000, place.window)


def _date(place: Place, sock: socket.socket) -> str:
    """Of the answer to a HEAD that carries nothing."""
    host = place.base.origin.partition("://")[2]
    path = place.base.path or "/"
    sock.sendall(f"HEAD {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    with closing(http.client.HTTPResponse(sock, method="HEAD")) as answer:
        answer.begin()
        return answer.getheader("Date") or ""


def _skew(origin: str, behind: float, window: float) -> Check:
    """`behind`: seconds by which our clock is behind the provider's."""
    far = abs(behind)
    if far <= NEAR:
        return Check("ok", origin, "clock", f"agrees within {NEAR:.0f} s")
    way = "behind" if behind > 0 else "ahead of"
    words = f"this machine's clock is {far:.0f} s {way} the provider's, which accepts {window:.0f} s"
    if far <= window / 2:
        return Check("ok", origin, "clock", words)
    fix = ": set it by NTP (`timedatectl set-ntp true`, or chrony); a container has the clock of its host"
    return Check("failed" if far > window else "warning", origin, "clock", words + fix)


def _keys(lane: Lane) -> Iterator[Check]:
    subject = f"route {lane.route.name}"
    for credential, key in lane.keys.items():
        words = f"{credential}: RSA {key.public_key().key_size}, its public part has the fingerprint SHA-256"
        yield Check("ok", subject, "key", f"{words} {spki_fingerprint(cast(Any, key))}")
    if lane.outlet.identity:
        yield Check("ok", subject, "key", "tls.client_cert and tls.client_key belong together")
    if not lane.keys:
        yield Check("ok", subject, "key", "every credential is read; none of them is a private key")


def _files(subject: str, secrets: Mapping[str, Reference | None], folder: Path) -> Iterator[Check]:
    keyring = Keyring()
    remarks = [
        Check("warning", subject, "files", f"{name}: {remark}")
        for name, reference in secrets.items()
        if reference is not None
        for remark in keyring.remarks(reference, base=folder)
    ]
    yield from remarks or [Check("ok", subject, "files", "no secret file is open to others")]


def _of_route(route: RouteSettings) -> dict[str, Reference | None]:
    """Its secrets, by the names they have in the file."""
    callers = {f"caller_token.{name}": reference for name, reference in route.caller_token.items()}
    egress = {"egress_proxy.password": route.egress_proxy.password} if route.egress_proxy else {}
    return {**route.credentials, **callers, **egress, "tls.client_key": route.tls.client_key}


def _of_all(settings: Settings) -> dict[str, Reference | None]:
    """Those that belong to no route."""
    keys = {f"store_key.{place}": reference for place, reference in enumerate(settings.store_key)}
    ca = {"ca.key": settings.ca.key} if settings.ca else {}
    password = settings.store.password if isinstance(settings.store, RedisForm) else None
    return {**keys, **ca, "control_token": settings.control_token, "store.password": password}


async def _tokens(settings: Settings, generation: Generation, clock: Clock, *, take_token: bool) -> list[Check]:
    """The store is asked for every account; a provider for those that can spare a token."""
    subject = f"store {settings.store.kind}"
    try:
        async with (
            opened_for(settings, generation, clock) as store,
            token_calls(generation, clock) as fetch,
        ):
            found = [
                Check("ok", subject, "store", "every process has its own" if settings.store == MEMORY else "answers")
            ]
            for account in generation.accounts:
                kept = await store.get(account)
                if kept is not None:
                    left = (kept.expires_at_ms - clock.now_ms()) // 1000
                    found.append(Check("ok", f"account {account.name}", "token", f"in the store, {left} s left"))
                elif account.exclusive and not take_token:
                    found.append(await asyncio.to_thread(_running, settings, generation, account))
                else:
                    found.append(await _fetched(account, fetch))
            return found
    except (StoreFault, StartError) as error:
        return [Check("failed", subject, "store", f"gives no answer ({error})" if str(error) else "gives no answer")]


async def _fetched(account: Account, fetch: Fetch) -> Check:
    subject = f"account {account.name}"
    try:
        token = await fetch(account, unleased)
    except TokenFault as fault:
        return Check("failed", subject, "token", f"the token call gave none: {fault.words}")
    except ProxyError as error:
        return Check("failed", subject, "token", f"the token call did not get through: {error.detail}")
    left = (token.expires_at_ms - SystemClock().now_ms()) // 1000
    return Check("ok", subject, "token", f"the provider gives one, for {left} s; it is not kept")


def opened_for(settings: Settings, generation: Generation, clock: Clock) -> AbstractAsyncContextManager[TokenStore]:
    """The store of the configuration, for a look. Raises StartError; its calls StoreFault."""
    return opened(settings.store, generation.store.login, generation.store_secrets, clock, _Watch())


class _Watch:
    """A store's faults are raised here too; nobody need count them."""

    def answered(self) -> None: ...
    def failed(self, reason: str) -> None: ...
    def readable(self, account: Account) -> None: ...
    def unreadable(self, account: Account) -> None: ...


NOT_ASKED: Final = "exclusive: not asked, a new token would end the live one (--take-token asks all the same)"


def _running(settings: Settings, generation: Generation, account: Account) -> Check:
    """What the Paraf that runs with this file says of its token."""
    subject = f"account {account.name}"
    if settings.control is None:
        return Check("skipped", subject, "token", f"{NOT_ASKED}; with `control` set the running Paraf is asked")
    try:
        rows = _told_by_control(settings, generation)
    except (OSError, ValueError, http.client.HTTPException):
        return Check("skipped", subject, "token", f"{NOT_ASKED}; the running Paraf does not answer at `control`")
    row = next((row for row in rows if row.get("account") == account.name and row.get("expires_in_s")), None)
    if row is None:
        return Check("warning", subject, "token", "the running Paraf has none now; the next request fetches one")
    return Check("ok", subject, "token", f"the running Paraf has one, {row['expires_in_s']:.0f} s left")


def _told_by_control(settings: Settings, generation: Generation) -> Iterable[dict[str, Any]]:
    place = settings.control
    name = "localhost" if isinstance(place, UnixListen) else str(place)
    connection = http.client.HTTPConnection(name, timeout=PATIENCE)
    if isinstance(place, UnixListen):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(place.path)
    headers = {"Authorization": f"Bearer {generation.control_token.reveal()}"} if generation.control_token else {}
    with closing(connection):
        connection.request("GET", "/tokens", headers=headers)
        rows: list[dict[str, Any]] = json.loads(connection.getresponse().read())["tokens"]
        return rows
