"""Listening addresses, base URLs, host names, rules and prefixes: what is taken, and what is said to the rest."""

import pytest

from proxy.addresses import (
    AllowRule,
    BaseUrl,
    Listen,
    TcpListen,
    UnixListen,
    host_name,
    is_loopback,
    parse_admin,
    parse_listen,
    parse_prefix,
)


@pytest.mark.parametrize(
    ("text", "listen", "loopback"),
    [
        ("127.0.0.1:8080", TcpListen("127.0.0.1", 8080), True),
        ("127.9.9.9:0", TcpListen("127.9.9.9", 0), True),
        ("[::1]:8080", TcpListen("::1", 8080), True),
        ("localhost:8080", TcpListen("localhost", 8080), True),
        ("LocalHost:8080", TcpListen("localhost", 8080), True),
        ("0.0.0.0:9464", TcpListen("0.0.0.0", 9464), False),
        ("[::]:80", TcpListen("::", 80), False),
        ("[2001:DB8:0::1]:80", TcpListen("2001:db8::1", 80), False),
        ("paraf.internal:80", TcpListen("paraf.internal", 80), False),
        ("unix:/run/paraf.sock", UnixListen("/run/paraf.sock"), False),
    ],
)
def test_listen(text: str, listen: Listen, *, loopback: bool) -> None:
    assert parse_listen(text) == listen
    assert listen.loopback is loopback
    assert parse_listen(str(listen)) == listen
    assert parse_admin(text) == listen


@pytest.mark.parametrize(("text", "mode"), [("0600", 0o600), ("660", 0o660), ("0666", 0o666)])
def test_the_mode_of_a_socket(text, mode):
    listen = parse_listen(f"unix:/run/paraf.sock?mode={text}")
    assert (listen.path, listen.mode, str(listen)) == ("/run/paraf.sock", mode, "unix:/run/paraf.sock")


def test_admin_can_be_off() -> None:
    assert parse_admin("off") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8080", "must be HOST:PORT"),
        (":8080", "must be HOST:PORT"),
        ("127.0.0.1", "must be HOST:PORT"),
        ("::1:8080", "in brackets"),
        ("[::1", "in brackets"),
        ("[fe80::1%eth0]:80", "IPv6"),
        ("[1.2.3.4]:80", "IPv6"),
        ("127.0.0.1:65536", "over 65535"),
        ("127.0.0.1:٨", "HOST:PORT"),
        ("127.1:80", "host name"),
        ("127.0.0.01:80", "host name"),
        ("http://127.0.0.1:80", "HOST:PORT"),
        ("unix:paraf.sock", "full path"),
        ("unix:/run/", "full path"),
        ("unix:/run/paraf.sock?mode=0999", "mode alone"),
        ("unix:/run/paraf.sock?mode=0060", "mode alone"),
        ("unix:/run/paraf.sock?mode=07770", "mode alone"),
        ("unix:/run/paraf.sock?owner=me", "mode alone"),
        ("unix:/" + "x" * 107, "107 bytes"),
    ],
)
def test_listen_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_listen(text)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("127.0.0.1:80", "localhost:80", True),
        ("[::1]:80", "localhost:80", True),
        ("127.0.0.1:80", "[::1]:80", False),
        ("127.0.0.1:80", "0.0.0.0:80", True),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/a?mode=0600", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", "127.0.0.1:80", False),
    ],
)
def test_clashes(one: str, other: str, *, clash: bool) -> None:
    assert parse_listen(one).clashes(parse_listen(other)) is clash
    assert parse_listen(other).clashes(parse_listen(one)) is clash


@pytest.mark.parametrize(
    ("text", "base", "origin"),
    [
        ("https://api.doku.com", BaseUrl("https", "api.doku.com"), "https://api.doku.com"),
        ("HTTPS://API.Doku.COM/", BaseUrl("https", "api.doku.com"), "https://api.doku.com"),
        ("https://api.doku.com:443/", BaseUrl("https", "api.doku.com"), "https://api.doku.com"),
        ("https://h:8443/a/b/", BaseUrl("https", "h", 8443, "/a/b"), "https://h:8443"),
        ("http://127.0.0.1:9000", BaseUrl("http", "127.0.0.1", 9000), "http://127.0.0.1:9000"),
        ("http://h:80/A%2Fb;v=1", BaseUrl("http", "h", None, "/A%2Fb;v=1"), "http://h"),
        ("http://[::1]:9000/x", BaseUrl("http", "::1", 9000, "/x"), "http://[::1]:9000"),
        ("http://my_service:9000", BaseUrl("http", "my_service", 9000), "http://my_service:9000"),
    ],
)
def test_base_url(text: str, base: BaseUrl, origin: str) -> None:
    assert BaseUrl.parse(text) == base
    assert base.origin == origin
    assert base.text == origin + base.path
    assert BaseUrl.parse(base.text) == base


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("api.doku.com", "must be a URL"),
        ("ftp://api.doku.com", "must be a URL"),
        ("//api.doku.com", "must be a URL"),
        (" https://api.doku.com", "must be a URL"),
        ("https://", "host name"),
        ("https:///x", "host name"),
        ("https://u@h", "user"),
        ("https://u:p@h/", "user"),
        ("https://h?x=1", "query"),
        ("https://h/a?", "query"),
        ("https://h/a#b", "fragment"),
        ("https://h/a//b", "no //"),
        ("https://h//", "no //"),
        ("https://h/a b", "%XX"),
        ("https://h/é", "%XX"),
        ("https://h/%zz", "%XX"),
        ("https://h/a\\b", "%XX"),
        ("https://h/../b", r"\.\."),
        ("https://h/a/%2e%2E/b", r"\.\."),
        ("https://h/a/..;x/b", r"\.\."),
        ("https://h/a%2f..%2fb", r"\.\."),
        ("https://h:0", "port 0"),
        ("https://h:99999", "65535"),
        ("https://h:", "HOST:PORT"),
        ("https://bücher.de", "host name"),
        ("https://h\u212a.de", "host name"),
        ("https://a..b", "host name"),
        ("https://*.doku.com", "host name"),
        ("https://1.2.3", "host name"),
    ],
)
def test_base_url_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BaseUrl.parse(text)


def test_host_names_are_lower_case_and_alone() -> None:
    assert host_name("API-Sandbox.Doku.com") == "api-sandbox.doku.com"
    assert host_name("10.0.0.1") == "10.0.0.1"
    for text in ("https://a.b", "a.b:80", "a.b/", "*.b", "-a.b", "a.b.", "", "a" * 64, ".".join(["a" * 60] * 5)):
        with pytest.raises(ValueError, match="host name alone"):
            host_name(text)


def test_loopback_by_name() -> None:
    assert [is_loopback(host) for host in ("localhost", "x.localhost", "127.0.0.5", "::1")] == [True] * 4
    assert [is_loopback(host) for host in ("localhost.evil.com", "10.0.0.1", "::", "0.0.0.0")] == [False] * 4


@pytest.mark.parametrize(
    ("text", "method", "pattern"),
    [
        ("POST /orders/**", "POST", "/orders/**"),
        ("* /v1/*/status", "*", "/v1/*/status"),
        ("GET  /v1/order-*", "GET", "/v1/order-*"),
        ("GET /", "GET", "/"),
        ("GET /**", "GET", "/**"),
    ],
)
def test_allow_rule(text: str, method: str, pattern: str) -> None:
    assert AllowRule.parse(text) == AllowRule(method, pattern)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("post /x", "must begin with a method"),
        ("TRACE /x", "must begin with a method"),
        ("/x", "must begin with a method"),
        ("POST", "begins with /"),
        ("POST x", "begins with /"),
        ("POST /a b", "blanks"),
        ("POST /a%20b", "%"),
        ("POST /a?b", "query"),
        ("POST /a**", "whole segments"),
        ("POST /a/***", "whole segments"),
        ("POST /a//b", "//"),
        ("POST /a/../b", r"\.\."),
    ],
)
def test_allow_rule_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AllowRule.parse(text)


def test_prefix() -> None:
    assert [parse_prefix(text) for text in ("/doku", "/a/b-c_d.e~f", "/")] == ["/doku", "/a/b-c_d.e~f", ""]
    for text in ("doku", "/doku/", "//doku", "/a//b", "/a%20", "/a b", "/a:b", "/é", "/a/..", "/./a", ""):
        with pytest.raises(ValueError, match="must"):
            parse_prefix(text)
