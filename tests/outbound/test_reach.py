"""Addresses: which are this network's own, however they are written, and which lead back to ourselves."""

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.outbound.reach import is_written_out, kind_of, leads_back, listening


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "a loopback"),
        ("127.255.255.254", "a loopback"),
        ("::1", "a loopback"),
        ("0.0.0.0", "an unspecified"),
        ("0.1.2.3", "an unspecified"),
        ("::", "an unspecified"),
        ("10.0.0.1", "a private"),
        ("172.16.0.1", "a private"),
        ("172.31.255.255", "a private"),
        ("192.168.1.1", "a private"),
        ("fd00:ec2::254", "a private"),
        ("fc00::1", "a private"),
        ("fec0::1", "a private"),
        ("64:ff9b:1::a00:1", "a private"),
        ("169.254.169.254", "a link-local"),
        ("fe80::1", "a link-local"),
        ("fe80::1%eth0", "a link-local"),
        ("168.63.129.16", "a link-local"),
        ("100.64.0.1", "a shared"),
        ("100.100.100.200", "a shared"),
        ("224.0.0.1", "a multicast"),
        ("ff02::1", "a multicast"),
        ("192.0.0.192", "a reserved"),
        ("198.18.0.1", "a reserved"),
        ("203.0.113.7", "a reserved"),
        ("255.255.255.255", "a reserved"),
        ("2001:db8::1", "a reserved"),
        ("2001:0:a00:1::1", "a reserved"),
        # IPv4 inside of IPv6
        ("::ffff:127.0.0.1", "a loopback"),
        ("::ffff:169.254.169.254", "a link-local"),
        ("::ffff:a00:1", "a private"),
        ("64:ff9b::10.1.2.3", "a private"),
        ("64:ff9b::a9fe:a9fe", "a link-local"),
        ("2002:7f00:1::", "a loopback"),
        ("2002:c0a8:101::1", "a private"),
        ("::127.0.0.1", "a loopback"),
        ("::10.0.0.1", "a private"),
        # public
        ("8.8.8.8", None),
        ("172.32.0.1", None),
        ("100.128.0.1", None),
        ("11.0.0.1", None),
        ("168.63.129.17", None),
        ("2606:4700::1", None),
        ("::ffff:8.8.8.8", None),
        ("64:ff9b::8.8.8.8", None),
        ("2002:808:808::1", None),
    ],
)
def test_kinds_of_addresses(address, kind):
    assert kind_of(address) == kind


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_called_public(address):
    """The other way round is not so: Python knows neither shared addresses nor what IPv6 carries as private."""
    if kind_of(str(address)) is None:
        carried = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        assert carried.is_global


@pytest.mark.parametrize(
    ("host", "written"),
    [("10.0.0.1", True), ("::1", True), ("localhost", True), ("a.localhost", True), ("api.example.com", False)],
)
def test_what_is_written_out(host, written):
    assert is_written_out(host) is written


OWN = [("127.0.0.1", 8080), ("0.0.0.0", 8443), ("::1", 8081), ("::", 8444)]


def own_address():
    """One of this machine's that is not loopback, if it has one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
    return "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "back"),
    [
        (("127.0.0.1", 8080), True),
        (("::ffff:127.0.0.1", 8080), True),
        (("0.0.0.0", 8080), True),
        (("127.0.0.1", 8081), False),
        (("127.0.0.2", 8080), False),
        (("127.0.0.1", 8443), True),
        (("127.0.0.2", 8443), True),
        ((own_address(), 8443), True),
        ((own_address(), 8442), False),
        (("192.0.2.1", 8443), False),
        (("::1", 8443), False),
        (("::1", 8081), True),
        (("::", 8081), True),
        (("::1", 8444), True),
        (("127.0.0.1", 8444), False),
        (("2001:db8::1", 8444), False),
    ],
)
def test_what_leads_back(address, back):
    assert leads_back(address, OWN) is back


def test_where_sockets_listen(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        assert listening(plain) == [plain.getsockname()]
        assert listening(unix) == []
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        port = both.getsockname()[1]
        assert listening(both) == [("::", port), ("0.0.0.0", port)]
    with socket.create_server(("::", 0), family=socket.AF_INET6) as six:
        assert listening(six) == [("::", six.getsockname()[1])]
