"""One generation of everything that configuration decides: profiles, keys, accounts and lanes, built as a whole.

A reload builds the next one beside it and swaps; nothing in it changes after it was built. Every finding of every
route is reported at once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.addresses import BaseUrl
from proxy.catalogue import Catalogue
from proxy.errors import ConfigError, Finding
from proxy.gate import Gate
from proxy.keyring import Keyring
from proxy.model import Account, Secret
from proxy.routes import Route, RouteTable
from proxy.sealing import PrivateKeys
from proxy.settings import RouteSettings, Settings
from proxy.shape import did_you_mean
from proxy.signing.binding import Binding, bind, effective
from proxy.signing.exchange import Exchange
from proxy.signing.names import needed_credentials, override_findings
from proxy.signing.profile import Profile
from proxy.signing.refusal import Refusals
from proxy.signing.signer import Signer
from proxy.source import Path
from proxy.storeforms import MEMORY
from proxy.storekeys import AccessReader, StoreAccess, own_secret

MIN_GAP: Final = 1.0
MIN_GAP_EXCLUSIVE: Final = 5.0
ALONE: Final = (
    "the provider lets this client have one live token, and with store: memory a second process that fetches ends the "
    "first one's: if there will ever be two, give them one store (file:///DIRECTORY on a host, redis://HOST elsewhere)"
)


@dataclass(frozen=True, slots=True)
class Lane:
    """All that a matched request needs on its way."""

    route: Route
    profile: Profile
    binding: Binding = field(repr=False)
    signer: Signer = field(repr=False)
    refusals: Refusals
    account: Account
    exchange: Exchange | None = field(repr=False)
    keys: PrivateKeys = field(repr=False)
    gate: Gate
    tls_ca: str | None


@dataclass(frozen=True, slots=True)
class Generation:
    table: RouteTable
    lanes: Mapping[str, Lane]
    """By route name, in the order of the file."""
    findings: tuple[Finding, ...]
    """Warnings."""
    store: StoreAccess
    own_secrets: Mapping[tuple[str, ...], Secret] = field(repr=False)
    """By identity of the account."""

    def fetcher(self, account: Account) -> Lane:
        """The lane that fetches an account's token: its first."""
        return next(lane for lane in self.lanes.values() if lane.account.identity == account.identity and lane.exchange)

    def store_secrets(self, account: Account) -> tuple[Secret, ...]:
        """What the account's records in a store are encrypted with, the newest first."""
        return (*self.store.keys, self.own_secrets[account.identity])

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Those that own a token."""
        return tuple({lane.account.identity: lane.account for lane in self.lanes.values() if lane.exchange}.values())


def build(settings: Settings, *, environ: Mapping[str, str], folder: FilePath) -> Generation:
    """Raises ConfigError. `folder`: that of the configuration file, to which paths are relative."""
    return _Builder(settings, environ, folder).build()


class _Builder:
    def __init__(self, settings: Settings, environ: Mapping[str, str], folder: FilePath) -> None:
        self._settings = settings
        self._catalogue = Catalogue(folder / name for name in settings.profiles)
        self._keyring = Keyring(strict_permissions=settings.strict_permissions)
        self._environ, self._folder = environ, folder
        self._findings: list[Finding] = []
        self._first: dict[tuple[str, ...], tuple[Account, Mapping[str, Secret]]] = {}
        self._own_secrets: dict[tuple[str, ...], Secret] = {}

    def build(self) -> Generation:
        profiles = {route.name: self._profile(route) for route in self._settings.routes}
        hosts = self._hosts(profiles)
        lanes = {}
        for route in self._settings.routes:
            profile = profiles[route.name]
            lane = self._lane(route, profile, hosts[route.name]) if profile else None
            if lane:
                lanes[route.name] = lane
        store = self._store()
        if any(finding.severity == "error" for finding in self._findings):
            raise ConfigError(sorted(self._findings))
        table = RouteTable((lane.route for lane in lanes.values()), self._settings.allowed_hosts)
        return Generation(table, lanes, tuple(sorted(self._findings)), store, self._own_secrets)

    def _store(self) -> StoreAccess:
        reader = AccessReader(self._settings, self._keyring, self._environ, self._folder)
        store = reader.read()
        self._findings += reader.findings
        return store

    def _find(self, route: RouteSettings, path: Path, message: str, *, key: bool = False) -> None:
        self._findings.append(self._settings.source.finding(("routes", route.name, *path), message, key=key))

    def _warn(self, route: RouteSettings, path: Path, message: str) -> None:
        found = self._settings.source.finding(("routes", route.name, *path), message, "warning", key=not path)
        self._findings.append(found)

    def _profile(self, route: RouteSettings) -> Profile | None:
        try:
            return self._catalogue.profile(route.provider)
        except KeyError:
            self._find(route, ("provider",), f"no such profile{did_you_mean(route.provider, self._catalogue.names)}")
        except ConfigError as error:
            self._findings += [finding for finding in error.findings if finding not in self._findings]
        return None

    def _lane(self, route: RouteSettings, profile: Profile, hosts: frozenset[str]) -> Lane | None:
        bases = self._bases(route, profile)
        switches = effective(profile, route.switches)
        faults = list(override_findings(profile, switches, route.switches))
        for path, message in faults:
            self._find(route, path, message)
        texts, keys = self._credentials(route, profile, switches) if not faults else ({}, None)
        if bases is None or keys is None:
            return None
        base, token_base = bases
        binding = bind(profile, switches, {name: secret.reveal().encode() for name, secret in texts.items()})
        exchange = Exchange(binding, profile.token, token_base) if profile.token and _wants_token(binding) else None
        account = self._account(route, profile, exchange, texts)
        self._own_secrets.setdefault(account.identity, own_secret(texts, keys))
        addressed = Route(route.name, route.prefix, hosts, base, route.allow, route.limits, route.timeouts)
        return Lane(
            route=addressed,
            profile=profile,
            binding=binding,
            signer=Signer(binding, base),
            refusals=Refusals(profile),
            account=account,
            exchange=exchange,
            keys=keys,
            gate=Gate(route.limits.concurrency, route.limits.queue, route.timeouts.total),
            tls_ca=self._tls_ca(route),
        )

    def _bases(self, route: RouteSettings, profile: Profile) -> tuple[BaseUrl, BaseUrl] | None:
        """The bases of API and token: what the route writes, else what the environment says."""
        environment = profile.environments.get(route.environment or "")
        known = ", ".join(profile.environments) or "none; write `upstream`"
        if route.environment and not environment:
            hint = did_you_mean(route.environment, profile.environments)
            self._find(route, ("environment",), f"{profile.name} has no such environment{hint}")
        elif not environment and not route.upstream:
            self._find(route, (), f"environment is missing (of {profile.name}: {known}), or upstream")
        elif environment and not environment.confirmed and not route.upstream:
            words = f"{profile.name}'s {route.environment} host is known from public code only: once the provider has "
            self._find(route, ("environment",), words + f"confirmed it, write `upstream: {environment.api.text}`")
        else:
            self._refuse_foreign_hosts(route, profile)
            api = route.upstream or (environment and environment.api)
            token = route.token_upstream or route.upstream or (environment and environment.token)
            return (api, token) if api and token else None
        return None

    def _refuse_foreign_hosts(self, route: RouteSettings, profile: Profile) -> None:
        own = profile.environments.get(route.environment or "")
        others = {
            host: name for name, each in profile.environments.items() for host in (each.api.host, each.token.host)
        }
        for key, base in (("upstream", route.upstream), ("token_upstream", route.token_upstream)):
            if own and base and base.host in others and base.host not in (own.api.host, own.token.host):
                name = others[base.host]
                self._find(route, (key,), f"is the host of {name}, but the route says environment: {route.environment}")

    def _hosts(self, profiles: Mapping[str, Profile | None]) -> dict[str, frozenset[str]]:
        """What each route writes; else its environment's own hosts, unless several would get the same one."""
        given = {route.name: self._default_hosts(route, profiles[route.name]) for route in self._settings.routes}
        written = {host for route in self._settings.routes for host in route.hosts or ()}
        claims = Counter(host for hosts in given.values() for host in hosts)
        return {
            route.name: frozenset(route.hosts)
            if route.hosts is not None
            else frozenset(host for host in given[route.name] if claims[host] == 1 and host not in written)
            for route in self._settings.routes
        }

    @staticmethod
    def _default_hosts(route: RouteSettings, profile: Profile | None) -> set[str]:
        environment = profile.environments.get(route.environment or "") if profile else None
        if route.hosts is not None or environment is None:
            return set()
        return {environment.api.host, environment.token.host}

    def _credentials(
        self, route: RouteSettings, profile: Profile, switches: Mapping[str, Any]
    ) -> tuple[dict[str, Secret], dict[str, RSAPrivateKey] | None]:
        """Texts and parsed keys; None for the keys when something is missing."""
        needed = needed_credentials(profile, switches)
        for name in sorted(set(route.credentials) - set(profile.credentials)):
            hint = did_you_mean(name, profile.credentials)
            self._find(route, ("credentials", name), f"{profile.name} has no such credential{hint}", key=True)
        for name in sorted(needed - set(route.credentials)):
            self._find(route, ("credentials",), f"{name} is missing: {profile.name} signs with it")
        texts: dict[str, Secret] = {}
        keys: dict[str, RSAPrivateKey] = {}
        for name in sorted(needed & set(route.credentials)):
            path = ("credentials", name)
            for remark in self._keyring.remarks(route.credentials[name], base=self._folder):
                self._warn(route, path, remark)
            with self._reported(route, path):
                if profile.credentials[name] == "pem":
                    keys[name] = self._private_key(route, name)
                else:
                    texts[name] = self._text(route, name)
        complete = needed == set(texts) | set(keys)
        return texts, keys if complete else None

    def _text(self, route: RouteSettings, name: str) -> Secret:
        return self._keyring.read(route.credentials[name], environ=self._environ, base=self._folder)

    def _private_key(self, route: RouteSettings, name: str) -> RSAPrivateKey:
        return self._keyring.private_key(
            route.credentials[name], environ=self._environ, base=self._folder, allow_small=route.allow_small_keys
        )

    @contextmanager
    def _reported(self, route: RouteSettings, path: Path) -> Iterator[None]:
        """A ValueError inside becomes a finding at that place."""
        try:
            yield
        except ValueError as error:
            self._find(route, path, str(error))

    def _tls_ca(self, route: RouteSettings) -> str | None:
        if route.tls_ca is None:
            return None
        authorities: list[str] = []
        with self._reported(route, ("tls", "ca")):
            authorities += [self._keyring.authorities(route.tls_ca, environ=self._environ, base=self._folder)]
        return "".join(authorities) or None

    def _account(
        self, route: RouteSettings, profile: Profile, exchange: Exchange | None, texts: Mapping[str, Secret]
    ) -> Account:
        """Routes that agree in provider, environment, token URL and client share one; their secrets must agree too."""
        token, client_id = profile.token, texts["client_id"].reveal()
        exclusive = token is not None and token.exclusive
        account = Account(
            name=route.name,
            provider=profile.name,
            environment=route.environment or "",
            token_url=exchange.url if exchange else "",
            client_id=client_id,
            exclusive=exclusive,
            refresh_ahead=token.refresh_ahead if token else 0.0,
            min_gap=(token and token.min_gap) or (MIN_GAP_EXCLUSIVE if exclusive else MIN_GAP),
            patience=route.timeouts.token,
        )
        if exchange is None:
            return account
        if account.identity not in self._first and exclusive and self._settings.store == MEMORY:
            self._warn(route, (), ALONE)
        first, secrets = self._first.setdefault(account.identity, (account, texts))
        if any(secrets.get(name, secret) != secret for name, secret in texts.items()):
            self._find(route, ("credentials",), f"other secrets than in route {first.name}, which has the same account")
        return first


def _wants_token(binding: Binding) -> bool:
    """Does any call of these switches carry a token?"""
    profile = binding.profile
    names = {binding.switches["signature"], *(rule.scheme for rule in profile.rules)}
    return any(profile.schemes[name].token for name in names)
