"""What is right by itself and wrong beside something else, or alone.

Read from the nodes, not the values, so that it is found together with all the rest. What cannot be read has its own
finding and is passed over here.
"""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Final, TypeVar

from proxy.addresses import BaseUrl, Listen, TcpListen, is_loopback, parse_listen
from proxy.source import Mapping, Node, Path, Report, Scalar, Sequence

T = TypeVar("T")
Routes = list[tuple[Scalar, Mapping]]

PORTS: Final = {"http": 80, "https": 443}
DEFAULT_ADDRESSES: Final = {"listen": "127.0.0.1:8080", "admin": "127.0.0.1:9464"}


def cross_check(root: Node, report: Report) -> None:
    if not isinstance(root, Mapping):
        return
    _addresses(root, report)
    _control(root, report)
    written = root.get("routes")
    members = written.members if isinstance(written, Mapping) else ()
    routes = [(name, route) for name, route in members if isinstance(route, Mapping)]
    for check in (_hosts_to_call, _prefixes, _hosts, _plain_http):
        check(routes, report)
    _circles(root, routes, report)


def _parsed(parse: Callable[[str], T], node: Node | None) -> T | None:
    try:
        return parse(node.text) if isinstance(node, Scalar) else None
    except ValueError:
        return None


def _addresses(root: Mapping, report: Report) -> None:
    """Two listeners on one address: the second could not bind."""
    taken: list[Listen] = [parse_listen(text) for key, text in DEFAULT_ADDRESSES.items() if root.get(key) is None]
    for path, node in _written(root):
        listen = _parsed(parse_listen, node)
        clash = next((other for other in taken if listen and listen.clashes(other)), None)
        if clash:
            report.add(node, path, f"{clash} is taken: every listen, admin and control needs an address of its own")
        taken += [listen] if listen else []


def _written(root: Mapping) -> Iterator[tuple[Path, Node]]:
    for key in (*DEFAULT_ADDRESSES, "control"):
        node = root.get(key)
        if isinstance(node, Sequence):
            yield from (((key, str(index)), item) for index, item in enumerate(node.items))
        elif node:
            yield (key,), node


def _control(root: Mapping, report: Report) -> None:
    """Whoever reaches it can end Paraf: from other machines only with a secret."""
    node = root.get("control")
    listen = _parsed(parse_listen, node)
    if node and isinstance(listen, TcpListen) and not listen.loopback and root.get("control_token") is None:
        words = "other machines can reach this: set control_token, or use unix:/PATH or a loopback address"
        report.add(node, ("control",), words)


def _hosts_to_call(routes: Routes, report: Report) -> None:
    """A slip of the pen in either key has its own finding."""
    for name, route in routes:
        if not any(get_close_matches(key.text, ("environment", "upstream"), cutoff=0.8) for key, _ in route.members):
            message = "environment is missing: name one of the provider's (`paraf providers` lists them), or upstream"
            report.add(route, ("routes", name.text), message)


def _prefixes(routes: Routes, report: Report) -> None:
    seen: dict[str, Scalar] = {}
    for name, route in routes:
        node = route.get("prefix") or name
        text = f"/{name.text}" if node is name else getattr(node, "text", None)
        if first := seen.get(text or ""):
            path = ("routes", name.text, "prefix")
            report.add(node, path, f"is the prefix of the route in line {first.line} already: choose another")
        if text:
            seen.setdefault(text, name)


def _hosts(routes: Routes, report: Report) -> None:
    seen: dict[str, Node] = {}
    for name, route in routes:
        node = route.get("hosts")
        for index, item in enumerate(node.items if isinstance(node, Sequence) else ()):
            host = getattr(item, "text", "").lower()
            if first := seen.get(host):
                path = ("routes", name.text, "hosts", str(index))
                report.add(item, path, f"stands in line {first.line} already: a host selects one route")
            if host:
                seen.setdefault(host, item)


def _plain_http(routes: Routes, report: Report) -> None:
    for name, route in routes:
        for key in ("upstream", "token_upstream"):
            node = route.get(key)
            base = _parsed(BaseUrl.parse, node)
            if node and base and base.scheme == "http" and not is_loopback(base.host):
                message = "http:// to another machine: credentials and tokens travel in the clear"
                report.add(node, ("routes", name.text, key), message, "warning")


def _circles(root: Mapping, routes: Routes, report: Report) -> None:
    """An upstream that is a listener of ours. What hides behind a name is found when it is called."""
    written = [_parsed(parse_listen, node) for _, node in _written(root)]
    own = [parse_listen(text) for key, text in DEFAULT_ADDRESSES.items() if root.get(key) is None]
    own += [listen for listen in written if listen]
    for name, route in routes:
        for key in ("upstream", "token_upstream"):
            node = route.get(key)
            base = _parsed(BaseUrl.parse, node)
            there = TcpListen(base.host, base.port or PORTS[base.scheme]) if base else None
            if node and there and any(_is_at(there, listen) for listen in own):
                words = f"{there} is where Paraf itself listens: calls would go round in circles"
                report.add(node, ("routes", name.text, key), words)


def _is_at(there: TcpListen, listen: Listen) -> bool:
    same = isinstance(listen, TcpListen) and there.host == listen.host
    return (same or there.loopback) and there.clashes(listen)
