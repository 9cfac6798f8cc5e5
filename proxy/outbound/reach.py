"""Which addresses a provider's name may lead to: none of this network's own, and not back to ourselves.

Who can change what a name resolves to would else have us send a merchant's token to a machine of the inside.
"""

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from proxy.addresses import is_loopback

Address = tuple[str, int]
"""Numeric host and port."""

_RANGES: Final = {
    "an unspecified": "0.0.0.0/8 ::/128",
    "a loopback": "127.0.0.0/8 ::1/128",
    # Azure's 168.63.129.16 lies in no such range and answers from inside every machine there.
    "a link-local": "169.254.0.0/16 fe80::/10 168.63.129.16/32",
    "a private": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10 64:ff9b:1::/48",
    "a shared": "100.64.0.0/10",
    "a multicast": "224.0.0.0/4 ff00::/8",
    "a reserved": """192.0.0.0/24 192.0.2.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4
        100::/64 2001::/23 2001:db8::/32 3fff::/20 5f00::/16""",
}
"""The special-purpose registries of IANA (RFC 6890), where metadata services of clouds lie too."""
_KINDS: Final = tuple((ip_network(text), kind) for kind, texts in _RANGES.items() for text in texts.split())
_CARRIERS: Final = {
    IPv6Network("::ffff:0:0/96"): 0,
    IPv6Network("64:ff9b::/96"): 0,
    IPv6Network("2002::/16"): 80,
    IPv6Network("::/96"): 0,
}
"""IPv6 that leads to the IPv4 address in it, so many bits from its right end: mapped, NAT64, 6to4, compatible."""


def kind_of(host: str) -> str | None:
    """Of a numeric address that is not of the public Internet: `a private`, `a loopback` and so on."""
    address = _unwrapped(host)
    return next((kind for network, kind in _KINDS if address in network), None)


def _unwrapped(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and int(address) > 1:
        for network, bits in _CARRIERS.items():
            if address in network:
                return IPv4Address(int(address) >> bits & 0xFFFFFFFF)
    return address


def is_written_out(host: str) -> bool:
    """Is it an address, or this machine by name? Then whoever wrote the configuration means it, and no DNS decides."""
    try:
        ip_address(host)
    except ValueError:
        return is_loopback(host)
    return True


def leads_back(address: Address, listening: Collection[Address]) -> bool:
    """Would a connection arrive at one of these sockets of ours? They may listen on every address of the machine."""
    same_port = [_unwrapped(host) for host, port in listening if port == address[1]]
    if not same_port:
        return False
    there = _unwrapped(address[0])
    if there.is_unspecified:  # connecting to it is connecting to this machine
        return any(own.is_loopback or own.is_unspecified for own in same_port if own.version == there.version)
    everywhere = any(own.is_unspecified and own.version == there.version for own in same_port)
    return there in same_port or (everywhere and (there.is_loopback or _is_here(str(there))))


def _is_here(host: str) -> bool:
    """Is it an address of this machine? To such a one the system would speak from itself; nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == host)


def listening(sock: socket.socket) -> list[Address]:
    """Where a socket of ours listens; none for a unix socket."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return []
    name: tuple[Any, ...] = sock.getsockname()
    both = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return [(host, int(name[1])) for host in (name[0], *(["0.0.0.0"] if both and name[0] == "::" else []))]  # noqa: S104
