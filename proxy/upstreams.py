"""Where each route leads: the bases of its API and token calls, and the hosts that select it when it names none."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from proxy.addresses import BaseUrl
from proxy.settings import RouteSettings
from proxy.shape import did_you_mean
from proxy.signing.profile import Environment, Profile
from proxy.signing.soundness import Fault


class Bases(NamedTuple):
    api: BaseUrl
    token: BaseUrl


def bases(route: RouteSettings, profile: Profile) -> tuple[Bases | None, list[Fault]]:
    """What the route writes, else what its environment says; paths of faults are below the route."""
    environment = profile.environments.get(route.environment or "")
    if fault := _nowhere(route, profile, environment):
        return None, [fault]
    api = route.upstream or (environment and environment.api)
    token = route.token_upstream or route.upstream or (environment and environment.token)
    return Bases(api, token) if api and token else None, list(_foreign(route, profile))


def _nowhere(route: RouteSettings, profile: Profile, environment: Environment | None) -> Fault | None:
    if route.environment and not environment:
        hint = did_you_mean(route.environment, profile.environments)
        return Fault(("environment",), f"{profile.name} has no such environment{hint}")
    if not environment and not route.upstream:
        known = ", ".join(profile.environments) or "none; write `upstream`"
        return Fault((), f"environment is missing (of {profile.name}: {known}), or upstream")
    if environment and not environment.confirmed and not route.upstream:
        words = f"{profile.name}'s {route.environment} host is known from public code only: once the provider has "
        return Fault(("environment",), words + f"confirmed it, write `upstream: {environment.api.text}`")
    return None


def _foreign(route: RouteSettings, profile: Profile) -> Iterator[Fault]:
    """Overrides that lead the credentials of one environment to another's host."""
    own = profile.environments.get(route.environment or "")
    others = {host: name for name, each in profile.environments.items() for host in _hosts_of(each)}
    for key, base in (("upstream", route.upstream), ("token_upstream", route.token_upstream)):
        if own and base and base.host in others and base.host not in _hosts_of(own):
            name = others[base.host]
            yield Fault((key,), f"is the host of {name}, but the route says environment: {route.environment}")


def strays(route: RouteSettings, profiles: Mapping[str, Profile | None]) -> Iterator[Fault]:
    """Overrides that lead one provider's credentials to a host of another that is configured too."""
    mine = profiles[route.name]
    if mine is None or route.environment not in mine.environments:
        return
    own = {host for each in mine.environments.values() for host in _hosts_of(each)}
    theirs = {
        host: profile.name
        for profile in profiles.values()
        if profile and profile is not mine
        for each in profile.environments.values()
        for host in _hosts_of(each)
    }
    for key, base in (("upstream", route.upstream), ("token_upstream", route.token_upstream)):
        if base and base.host in theirs and base.host not in own:
            yield Fault((key,), f"is the host of {theirs[base.host]}, but the route's provider is {route.provider}")


def hosts(routes: Iterable[RouteSettings], profiles: Mapping[str, Profile | None]) -> dict[str, frozenset[str]]:
    """By route: what each writes; else its environment's own hosts, unless several would get the same one."""
    routes = tuple(routes)
    given = {route.name: _default_hosts(route, profiles[route.name]) for route in routes}
    written = {host for route in routes for host in route.hosts or ()}
    claims = Counter(host for each in given.values() for host in each)
    free = {host for host, count in claims.items() if count == 1} - written
    return {route.name: given[route.name] & free if route.hosts is None else frozenset(route.hosts) for route in routes}


def _default_hosts(route: RouteSettings, profile: Profile | None) -> frozenset[str]:
    environment = profile.environments.get(route.environment or "") if profile else None
    return frozenset() if route.hosts is not None or environment is None else _hosts_of(environment)


def _hosts_of(environment: Environment) -> frozenset[str]:
    return frozenset((environment.api.host, environment.token.host))
