"""Ways in: from target, Host and CONNECT to a route and the provider's target. Pure.

The caller selects a route, never a host. The raw target is checked on a decoded copy and goes on unchanged:
what is signed is byte for byte what was sent to us.
"""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from proxy.addresses import is_loopback
from proxy.errors import ProxyError
from proxy.headers import PLACES, names_of, value_of
from proxy.model import Headers, InboundRequest, Tunnel
from proxy.remembered import Remembered
from proxy.routes import Match, Route, RouteTable, under_base

_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HTTPS: Final = 443
_PRINTABLE: Final = re.compile(r"[!-~]+")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OWN_PAGES: Final = frozenset({"none", "same-origin"})
"""Of Sec-Fetch-Site (W3C Fetch Metadata), which every browser sends and no page can set."""
_CUTS: Final = re.compile(r"[/\\;]")


def _one_host(names: tuple[str, ...]) -> int | None:
    """Where the Host stands, if beside it only method, target and listener decide."""
    sent = PLACES[names]
    hosts = sent.get("host", ())
    return hosts[0] if len(hosts) == 1 and "sec-fetch-site" not in sent else None


_ONE_HOST: Final = Remembered(_one_host)


def match(table: RouteTable, request: InboundRequest) -> Match:
    """Raises ProxyError: bad_request, no_route, not_allowed, host_not_allowed."""
    host = _ONE_HOST[request.names]
    if host is None or request.tunnel is not None:
        return _match(table, request)
    seen = request.method, request.target, request.headers[host][1], "loopback" if request.loopback else ""
    found = table.matched.get(seen)
    if found is None:
        found = _match(table, request)
        table.matched.keep(seen, found)
    return found


def _match(table: RouteTable, request: InboundRequest) -> Match:
    absolute = _ABSOLUTE.fullmatch(request.target)
    host = _sent_host(request.headers)
    if request.loopback and (value_of(request.headers, "Sec-Fetch-Site") or "none") not in _OWN_PAGES:
        raise ProxyError("not_allowed", "a page of another site asked its browser to call this machine or the provider")
    if request.tunnel is not None:
        found = _in_tunnel(table, request, request.tunnel, (host, absolute[1]) if absolute else (host,))
    else:
        found = _by_name(table, absolute[1], absolute[2]) if absolute else _by_host_or_prefix(table, request, host)
    if not found.route.allows(request.method, found.target):
        raise ProxyError("not_allowed", "the route's `allow` names no rule for this method and path")
    return found


def _by_name(table: RouteTable, authority: str, target: str) -> Match:
    """Absolute-form, from a program behind `http_proxy`. A host of no route is refused: we are no open proxy."""
    if "@" in authority:
        raise ProxyError("bad_request", "the target holds user information")
    route = table.by_host(_host(authority))
    if route is None:
        raise ProxyError("not_allowed", "no route has this host; Paraf forwards to its routes' hosts only")
    return _on_the_providers_terms(route, _rooted(target))


def connect(table: RouteTable, request: InboundRequest) -> tuple[Route, Tunnel]:
    """Where a CONNECT leads. Raises ProxyError: bad_request, not_allowed."""
    _sent_host(request.headers)
    if "@" in request.target:
        raise ProxyError("bad_request", "the target holds user information")
    host, port = _host(request.target), _port(request.target)
    if port is None:
        raise ProxyError("bad_request", "CONNECT wants HOST:PORT")
    route = table.by_host(host)
    if route is None:
        raise ProxyError("not_allowed", "no route has this host; Paraf opens tunnels to its routes' hosts only")
    if port not in _tls_ports(route, host):
        raise ProxyError("not_allowed", "no route has this port of the host; https has 443")
    if not route.intercept:
        raise ProxyError("not_allowed", "the route of this host does not set `intercept: true`; use its prefix")
    return route, Tunnel(host, port, request.headers)


def _tls_ports(route: Route, host: str) -> tuple[int, ...]:
    own = route.base.port if host == route.base.host and route.base.scheme == "https" else None
    return (_HTTPS,) if own is None else (_HTTPS, own)


def _in_tunnel(table: RouteTable, request: InboundRequest, tunnel: Tunnel, named: tuple[str, ...]) -> Match:
    """`named`: every authority that the request names."""
    if tunnel.misnamed or any((_host(each), _port(each) or _HTTPS) != (tunnel.host, tunnel.port) for each in named):
        raise ProxyError("host_not_allowed", "the request inside names another host than its CONNECT did")
    route = table.by_host(tunnel.host)
    if route is None or not route.intercept:
        raise ProxyError("not_allowed", "no route intercepts this host any more")
    absolute = _ABSOLUTE.fullmatch(request.target)
    return _on_the_providers_terms(route, _rooted(absolute[2]) if absolute else request.target)


def _rooted(target: str) -> str:
    return target if target.startswith("/") else f"/{target}"


def _by_host_or_prefix(table: RouteTable, request: InboundRequest, authority: str) -> Match:
    _check_target(request.target)
    host = _host(authority)
    route = table.by_host(host)
    if route:
        return _on_the_providers_terms(route, request.target)
    if request.loopback and not (_is_loopback(host) or table.knows(host)):
        raise ProxyError("host_not_allowed", "unknown Host; name it in `hosts` of a route or in `allowed_hosts`")
    route = table.by_prefix(request.target.partition("?")[0])
    if route is None:
        raise ProxyError("no_route", "no route has this prefix; `paraf check --show-effective` lists them")
    return Match(route, route.base.path + _remainder(request.target, route.prefix))


def _remainder(target: str, prefix: str) -> str:
    rest = target[len(prefix) :]
    if rest.startswith("//"):
        raise ProxyError("bad_request", "the path behind the prefix begins with two slashes")
    return _rooted(rest)


def _on_the_providers_terms(route: Route, target: str) -> Match:
    """By host the target is the provider's own; the path of the base is not added again."""
    _check_target(target)
    if target.startswith("//"):
        raise ProxyError("bad_request", "the path begins with two slashes")
    if not under_base(target, route.base):
        raise ProxyError("not_allowed", "the path lies outside the path of the route's upstream")
    return Match(route, target)


def _sent_host(headers: Headers) -> str:
    """RFC 9112 section 3.2: two of them are two readings of one request."""
    sent = PLACES[names_of(headers)].get("host", ())
    if len(sent) > 1:
        raise ProxyError("bad_request", "the request has more than one Host")
    return headers[sent[0]][1] if sent else ""


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    return is_loopback(host.strip("[]"))


@lru_cache(maxsize=256)
def _host(authority: str) -> str:
    found = _AUTHORITY.fullmatch(authority)
    if not found:
        raise ProxyError("bad_request", "the Host is missing or malformed")
    return found[1].lower().removesuffix(".")


def _port(authority: str) -> int | None:
    found = _AUTHORITY.fullmatch(authority)
    return int(found[2]) if found and found[2] else None


@lru_cache(maxsize=512)  # only of what was found good: what raises is not kept
def _check_target(target: str) -> None:
    """Everything that servers are known to read in two ways. Any other `%2F` passes as it is."""
    if not _PRINTABLE.fullmatch(target):
        raise ProxyError("bad_request", "the target holds blanks, control characters or non-ASCII; percent-encode them")
    if not target.startswith("/"):
        raise ProxyError("bad_request", "the target must begin with a slash")
    if "#" in target:
        raise ProxyError("bad_request", "the target holds a fragment")
    if _BAD_ESCAPE.search(target):
        raise ProxyError("bad_request", "the target holds a % that is no escape")
    path = unquote(target.partition("?")[0], "latin-1")
    if any(part in (".", "..") for part in _CUTS.split(path)):
        raise ProxyError("bad_request", "the path holds a dot segment, plain or encoded")
