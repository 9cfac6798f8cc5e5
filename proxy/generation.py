"""One generation of everything that configuration decides: profiles, keys, accounts and lanes, built as a whole.

A reload builds the next one beside it and swaps; nothing in it changes after it was built. Every finding of every
route is reported at once.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.addresses import BaseUrl
from proxy.breaker import Breaker
from proxy.callers import Callers, caller_token
from proxy.catalogue import Catalogue
from proxy.deadline import Deadline
from proxy.errors import ConfigError, Finding
from proxy.files import Files
from proxy.gate import Gate
from proxy.ids import external_ids
from proxy.keyring import Keyring, spki_fingerprint
from proxy.model import Account, Secret
from proxy.outbound.outlet import Outlet
from proxy.outbound.transport import Patience
from proxy.outlets import OutletReader
from proxy.references import client_id
from proxy.routes import Route, RouteTable
from proxy.sealing import PrivateKeys
from proxy.settings import RouteSettings, Settings
from proxy.shape import did_you_mean
from proxy.shares import unshared
from proxy.signing.binding import Binding, bind, credential_bytes, effective
from proxy.signing.bystander import Bystander
from proxy.signing.exchange import Exchange
from proxy.signing.names import needed_credentials
from proxy.signing.overrides import override_faults
from proxy.signing.profile import CredentialKind, Profile
from proxy.signing.refusal import Refusals
from proxy.signing.signer import Signer
from proxy.signing.soundness import Fault
from proxy.source import Path
from proxy.storeforms import MEMORY
from proxy.storekeys import AccessReader, StoreAccess, own_secret
from proxy.upstreams import bases, hosts, strays

if TYPE_CHECKING:
    from proxy.authority import Authority

MIN_GAP: Final = 1.0
MIN_GAP_EXCLUSIVE: Final = 5.0
ALONE: Final = (
    "the provider lets this client have one live token, and with store: memory a second process that fetches ends the "
    "first one's: if there will ever be two, give them one store (file:///DIRECTORY on a host, redis://HOST elsewhere)"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Lane:
    """All that a matched request needs on its way."""

    route: Route
    profile: Profile
    binding: Binding = field(repr=False)
    signer: Signer = field(repr=False)
    new_id: Callable[[int], str] | None
    """Makes the external id of a call at a time (epoch milliseconds), where the provider wants one."""
    refusals: Refusals
    account: Account
    exchange: Exchange | None = field(repr=False)
    keys: PrivateKeys = field(repr=False)
    gate: Gate
    breaker: Breaker
    deadline: Deadline
    """Of the whole way to the head of the answer."""
    patience: Patience
    outlet: Outlet
    callers: Callers | None
    """Who may call, where the route asks."""
    standin: BaseUrl | None
    """The base of the token call, if a stand-in answers there."""
    remembers: int
    """How many refused requests are kept for operators."""
    bystander: Bystander | None = field(repr=False)
    """In shadow mode, what stands where the signer would."""


@dataclass(frozen=True, slots=True)
class Generation:
    table: RouteTable
    lanes: Mapping[str, Lane]
    """By route name, in the order of the file."""
    findings: tuple[Finding, ...]
    """Warnings."""
    store: StoreAccess
    control_token: Secret | None
    own_secrets: Mapping[tuple[str, ...], Secret] = field(repr=False)
    """By identity of the account."""
    former_secrets: Mapping[tuple[str, ...], tuple[Secret, ...]] = field(default_factory=dict, repr=False)
    """Those that opened its records before a reload, the newest first."""
    authority: "Authority | None" = None
    """What certificates for interception are signed with."""
    number: int = 1
    """Counts the configurations of one process; it stands in every request's log line."""

    def fetcher(self, account: Account) -> Lane:
        """The lane that fetches an account's token: its first."""
        return next(lane for lane in self.lanes.values() if lane.account.identity == account.identity and lane.exchange)

    def store_secrets(self, account: Account) -> tuple[Secret, ...]:
        """What the account's records in a store are encrypted with, the newest first."""
        identity = account.identity
        return (*self.store.keys, self.own_secrets[identity], *self.former_secrets.get(identity, ()))

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Those that own a token."""
        return tuple({lane.account.identity: lane.account for lane in self.lanes.values() if lane.exchange}.values())


def build(
    settings: Settings, *, environ: Mapping[str, str], folder: FilePath, files: Files | None = None
) -> Generation:
    """Raises ConfigError. `folder`: that of the configuration file, to which paths are relative."""
    return _Builder(settings, environ, folder, files or Files()).build()


def hosts_of(settings: Settings, folder: FilePath) -> dict[str, frozenset[str]]:
    """By route, those that select it. Needs no credentials. Raises ConfigError."""
    return _Builder(settings, {}, folder, Files()).hosts()


class _Builder:
    def __init__(self, settings: Settings, environ: Mapping[str, str], folder: FilePath, files: Files) -> None:
        self._settings = settings
        self._files = files
        self._keyring = Keyring(strict_permissions=settings.strict_permissions, files=files)
        self._environ, self._folder = environ, folder
        self._findings: list[Finding] = []
        self._catalogue = Catalogue(self._profile_folders(), files)
        self._first: dict[tuple[str, ...], tuple[Account, _Credentials]] = {}
        self._own_secrets: dict[tuple[str, ...], Secret] = {}

    def hosts(self) -> dict[str, frozenset[str]]:
        profiles = {route.name: self._profile(route) for route in self._settings.routes}
        if self._findings:
            raise ConfigError(sorted(self._findings))
        return hosts(self._settings.routes, profiles)

    def build(self) -> Generation:
        profiles = {route.name: self._profile(route) for route in self._settings.routes}
        chosen_by = hosts(self._settings.routes, profiles)
        self._findings += unshared(self._settings)
        lanes = {}
        for route in self._settings.routes:
            profile = profiles[route.name]
            for fault in strays(route, profiles):
                self._find(route, fault.path, fault.words)
            lane = self._lane(route, profile, chosen_by[route.name]) if profile else None
            if lane:
                lanes[route.name] = lane
        store, control_token = self._access()
        authority = self._authority(lane.route for lane in lanes.values())
        if any(finding.severity == "error" for finding in self._findings):
            raise ConfigError(sorted(self._findings))
        table = RouteTable((lane.route for lane in lanes.values()), self._settings.allowed_hosts)
        findings = tuple(sorted(self._findings))
        return Generation(table, lanes, findings, store, control_token, self._own_secrets, authority=authority)

    def _authority(self, routes: Iterable[Route]) -> "Authority | None":
        if self._settings.ca is None and not any(route.intercept for route in self._settings.routes):
            return None
        from proxy.interception import AuthorityReader  # noqa: PLC0415 -- it loads all of X.509

        reader = AuthorityReader(self._settings, self._environ, self._folder, files=self._files)
        authority = reader.read(routes)
        self._findings += reader.findings
        return authority

    def _access(self) -> tuple[StoreAccess, Secret | None]:
        reader = AccessReader(self._settings, self._keyring, self._environ, self._folder)
        access = reader.read(), reader.control_token()
        self._findings += reader.findings
        return access

    def _find(self, route: RouteSettings, path: Path, message: str, *, key: bool = False) -> None:
        self._findings.append(self._settings.source.finding(("routes", route.name, *path), message, key=key))

    def _warn(self, route: RouteSettings, path: Path, message: str) -> None:
        found = self._settings.source.finding(("routes", route.name, *path), message, "warning", key=not path)
        self._findings.append(found)

    def _profile_folders(self) -> Iterator[FilePath]:
        for i, name in enumerate(self._settings.profiles):
            if not self._files.folder(self._folder / name).error:
                yield self._folder / name
            else:
                self._findings.append(
                    self._settings.source.finding(("profiles", str(i)), "is no folder that can be read")
                )

    def _profile(self, route: RouteSettings) -> Profile | None:
        try:
            return self._catalogue.profile(route.provider)
        except KeyError:
            self._find(route, ("provider",), f"no such profile{did_you_mean(route.provider, self._catalogue.names)}")
        except ConfigError as error:
            self._findings += [finding for finding in error.findings if finding not in self._findings]
        return None

    def _lane(self, route: RouteSettings, profile: Profile, chosen_by: frozenset[str]) -> Lane | None:
        places, misplaced = bases(route, profile)
        switches = effective(profile, route.switches)
        faults = list(override_faults(profile, switches, route.switches))
        for fault in misplaced + faults:
            self._find(route, fault.path, fault.words, key=fault.at_key)
        if route.token_standin and (words := _no_standin(route, profile)):
            self._find(route, ("token_standin",), words)
        credentials = self._credentials(route, profile, _needed(route, profile, switches, faults))
        callers, outlet = self._callers(route), self._outlet(route, places.api.host if places else None)
        if places is None or credentials is None or faults:
            return None
        binding, wanted = bind(profile, switches, credentials.filled(profile)), switches["external_id"]
        exchange = Exchange(binding, profile.token, places.token) if profile.token and _wants_token(binding) else None
        account = self._account(route, profile, exchange, credentials)
        self._own_secrets.setdefault(account.identity, own_secret(credentials.texts, credentials.keys))
        addressed = Route(
            name=route.name,
            prefix=route.prefix,
            hosts=chosen_by,
            base=places.api,
            allow=route.allow,
            limits=route.limits,
            timeouts=route.timeouts,
            intercept=route.intercept,
        )
        return Lane(
            route=addressed,
            profile=profile,
            binding=binding,
            signer=Signer(binding, places.api),
            new_id=wanted and external_ids(wanted.format, length=wanted.length, prefix=wanted.prefix),
            refusals=Refusals(profile),
            account=account,
            exchange=exchange,
            keys=credentials.keys,
            gate=Gate(route.limits.concurrency, route.limits.queue, route.timeouts.total),
            breaker=Breaker(route.circuit),
            deadline=Deadline(route.timeouts.total),
            patience=Patience(route.timeouts.connect, route.timeouts.first_byte, route.timeouts.idle),
            outlet=outlet,
            callers=callers,
            standin=places.token if route.token_standin else None,
            remembers=route.refusals,
            bystander=Bystander(binding, *places) if route.mode == "shadow" else None,
        )

    def _credentials(self, route: RouteSettings, profile: Profile, needed: frozenset[str]) -> "_Credentials | None":
        """None when something is missing or cannot be read."""
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
                    texts[name] = self._text(route, name, profile.credentials[name])
        return _Credentials(texts, keys) if needed == set(texts) | set(keys) else None

    def _text(self, route: RouteSettings, name: str, kind: CredentialKind) -> Secret:
        secret = self._keyring.read(route.credentials[name], environ=self._environ, base=self._folder)
        credential_bytes(kind, secret.reveal())
        if name == "client_id":
            client_id(secret.reveal())
        if kind == "text" and _CONTROL.search(secret.reveal()):
            raise ValueError("holds a line break or another control character: is it part of the secret?")
        return secret

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

    def _outlet(self, route: RouteSettings, host: str | None) -> Outlet:
        reader = OutletReader(self._settings.source, route, self._keyring, self._environ, self._folder)
        outlet = reader.read(host)
        self._findings += reader.findings
        return outlet

    def _callers(self, route: RouteSettings) -> Callers | None:
        tokens: dict[str, Secret] = {}
        for name, reference in route.caller_token.items():
            path = ("caller_token", name)
            for remark in self._keyring.remarks(reference, base=self._folder):
                self._warn(route, path, remark)
            with self._reported(route, path):
                tokens[name] = caller_token(
                    self._keyring.read(reference, environ=self._environ, base=self._folder), tokens.values()
                )
        return Callers(tokens) if route.caller_token else None

    def _account(
        self, route: RouteSettings, profile: Profile, exchange: Exchange | None, credentials: "_Credentials"
    ) -> Account:
        """Routes that agree in provider, environment, token URL and client share one; their secrets must agree too."""
        token = profile.token
        exclusive = token is not None and token.exclusive
        account = Account(
            name=route.name,
            provider=profile.name,
            environment=route.environment or "",
            token_url=exchange.url if exchange else "",
            client_id=credentials.client_id,
            exclusive=exclusive,
            refresh_ahead=token.refresh_ahead if token else 0.0,
            min_gap=(token and token.min_gap) or (MIN_GAP_EXCLUSIVE if exclusive else MIN_GAP),
            patience=route.timeouts.token,
        )
        if exchange is None:
            return account
        if account.identity not in self._first and exclusive and self._settings.store == MEMORY:
            self._warn(route, (), ALONE)
        first, theirs = self._first.setdefault(account.identity, (account, credentials))
        if not credentials.agree(theirs):
            self._find(route, ("credentials",), f"other secrets than in route {first.name}, which has the same account")
        return first


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What a route's references lead to."""

    texts: Mapping[str, Secret] = field(repr=False)
    keys: Mapping[str, RSAPrivateKey] = field(repr=False)

    @property
    def client_id(self) -> str:
        """Empty where a provider knows its merchants by something else."""
        return self.texts["client_id"].reveal() if "client_id" in self.texts else ""

    def filled(self, profile: Profile) -> dict[str, bytes]:
        return {name: credential_bytes(profile.credentials[name], text.reveal()) for name, text in self.texts.items()}

    def agree(self, other: "_Credentials") -> bool:
        """In all that both have."""
        texts = all(other.texts.get(name, text) == text for name, text in self.texts.items())
        return texts and all(
            spki_fingerprint(other.keys.get(name, key)) == spki_fingerprint(key) for name, key in self.keys.items()
        )


def _needed(route: RouteSettings, profile: Profile, switches: Mapping[str, Any], faults: list[Fault]) -> frozenset[str]:
    """Credentials to ask for. While a route's switches have faults, what can be told without them."""
    if not faults:
        return needed_credentials(profile, switches)
    if switches["signature"] not in profile.schemes:
        return frozenset(route.credentials) & frozenset(profile.credentials)
    return needed_credentials(profile, {**switches, "string": None, "key": None, "headers": None})


def _no_standin(route: RouteSettings, profile: Profile) -> str:
    """Why a stand-in makes no sense here."""
    if profile.token is None:
        return f"{profile.name} has no token: nothing to stand in for; take it out"
    if route.mode == "shadow":
        return "the provider does not know a stand-in's token: with mode: shadow it would refuse every call"
    return ""


def _wants_token(binding: Binding) -> bool:
    """Does any call of these switches carry a token?"""
    profile = binding.profile
    names = {binding.switches["signature"], *(rule.scheme for rule in profile.rules)}
    return any(profile.schemes[name].token for name in names)
