"""Ways in: which targets and hosts are understood, where they lead, and what is refused with which code."""

from dataclasses import dataclass, field, replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.addresses import AllowRule, BaseUrl
from proxy.errors import ProxyError
from proxy.headers import names_of
from proxy.inbound.ways import connect, match
from proxy.model import Headers, Tunnel
from proxy.routes import Route, RouteTable
from proxy.settings import Limits, Timeouts


@dataclass
class Request:
    target: str
    headers: Headers = (("Host", "127.0.0.1:8080"),)
    method: str = "POST"
    loopback: bool = True
    tunnel: Tunnel | None = None
    held: list[int] = field(default_factory=list)

    @property
    def names(self):
        return names_of(self.headers)

    async def hold(self, limit):
        raise AssertionError("a way in is found before the body is read")


def route(name, prefix, base, hosts=(), allow=()):
    rules = tuple(AllowRule.parse(rule) for rule in allow)
    return Route(name, prefix, frozenset(hosts), BaseUrl.parse(base), rules, Limits(), Timeouts())


PLAIN = route("plain", "/p", "https://api.plain.example", ["api.plain.example", "token.plain.example"])
BASED = route("based", "/b", "https://based.example:8443/base/v1", ["based.example"])
DEEP = route("deep", "/p/deep", "https://deep.example")
READER = route("reader", "/r", "https://reader.example", ["reader.example"], ["GET /orders/*", "POST /token"])
TABLE = RouteTable([PLAIN, BASED, DEEP, READER], ["allowed.example"])
EVERY = RouteTable([route("every", "", "https://every.example"), PLAIN])


def way(target, host="127.0.0.1:8080", table=TABLE, **more):
    """Route and target, or the code of the refusal."""
    headers = (("Host", host),) if isinstance(host, str) else tuple(("Host", each) for each in host)
    try:
        found, again = (match(table, Request(target, headers, **more)) for _ in range(2))
    except ProxyError as error:
        return error.code if error.sent == "no" else error
    assert again == found, "it is remembered otherwise than it was found"
    return found.route.name, found.target


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/p/x", ("plain", "/x")),
        ("/p", ("plain", "/")),
        ("/p/", ("plain", "/")),
        ("/p?a=b", ("plain", "/?a=b")),
        ("/p/?a=b", ("plain", "/?a=b")),
        ("/p/x?", ("plain", "/x?")),
        ("/p/x/", ("plain", "/x/")),
        ("/p/deep/x", ("deep", "/x")),
        ("/p/deeper", ("plain", "/deeper")),
        ("/p/deep%2Fx", ("plain", "/deep%2Fx")),
        ("/b/x?y", ("based", "/base/v1/x?y")),
        ("/b", ("based", "/base/v1/")),
        ("/b/base/v1/x", ("based", "/base/v1/base/v1/x")),
        # What passes is sent as it came.
        ("/p/a//b", ("plain", "/a//b")),
        ("/p/%41%7e%2F%2f", ("plain", "/%41%7e%2F%2f")),
        ("/p/x?q=%2F..%2f../&r=//a@b:80#".rstrip("#"), ("plain", "/x?q=%2F..%2f../&r=//a@b:80")),
        ("/p/%252e%252e/x", ("plain", "/%252e%252e/x")),
        ("/p/%25%32%65%25%32%65/x", ("plain", "/%25%32%65%25%32%65/x")),
        ("/p/.../x", ("plain", "/.../x")),
        ("/p/.x/x./..x/x..", ("plain", "/.x/x./..x/x..")),
        ("/p/a;b=c", ("plain", "/a;b=c")),
        ("/p/*", ("plain", "/*")),
        ("/p/http://evil.example/", ("plain", "/http://evil.example/")),
        ("/p/@evil.example", ("plain", "/@evil.example")),
        ("/p/x?http://evil.example", ("plain", "/x?http://evil.example")),
        # No prefix.
        ("/", "no_route"),
        ("/px", "no_route"),
        ("/P/x", "no_route"),
        ("//p/x", "no_route"),
        ("/%70/x", "no_route"),
        ("/p;x/y", "no_route"),
        ("/p%2Fx", "no_route"),
        ("/x/p", "no_route"),
    ],
)
def test_by_prefix(target, found):
    assert way(target) == found


@pytest.mark.parametrize("table", [TABLE, EVERY])
@pytest.mark.parametrize(
    "rest",
    [
        # Dot segments, plain and in every code.
        "/.",
        "/..",
        "/./x",
        "/../x",
        "/x/..",
        "/x/.",
        "/x/../y",
        "/x/..?y",
        "/x/./y",
        "/%2e%2e/x",
        "/%2E%2E/x",
        "/.%2e/x",
        "/%2e./x",
        "/%2e",
        "/x%2f..%2fy",
        "/x%2F%2e%2E%2Fy",
        "/..%2fx",
        "/%2f..",
        "/x/%2e%2e",
        "/..;x",
        "/..;x/y",
        "/.;x",
        "/x;..",
        "/x;../y",
        "/;./y",
        "/%2e%2e;x/y",
        "/x%3b..",
        "/..%3bx",
        "/..\\x",
        "/x\\..\\y",
        "/x\\..",
        "/%5c..",
        "/x%5c..%5cy",
        "/x%5C%2e%2e",
        "/..%5Cx",
        # What two servers read in two ways.
        "/x#y",
        "/x?y#z",
        "/#",
        "/%",
        "/%4",
        "/%4g",
        "/%zz",
        "/x?%",
        "/x?a=%1",
        "/%%30",
        "/%u0041",
        "/x y",
        "/x\ty",
        "/x\ny",
        "/x\r\ny",
        "/x\x00y",
        "/x\x7f",
        "/x\x1f",
        "/é",
        "/x?é",
        "/\u2215",
        "/x\u200b",
        "/\udc80",
        "/x?y z",
        "//",
        "//x",
        "//evil.example/x",
    ],
)
def test_refused_targets(table, rest):
    prefix = "/p"
    assert way(prefix + rest, table=table) == "bad_request"
    assert way(rest, "api.plain.example", table=table) == "bad_request"
    assert way("http://api.plain.example" + rest, table=table) == "bad_request"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "x",
        "p/x",
        "?x",
        "#",
        "api.plain.example:443",
        "\\p\\x",
        "ftp://api.plain.example/",
        "http:/p",
        "http:p",
        "://p",
        "%2Fp/x",
        " /p/x",
    ],
)
def test_what_is_no_target(target):
    assert way(target) == "bad_request"
    assert way(target, table=EVERY) == "bad_request"


# By host: the target is the provider's own.


@pytest.mark.parametrize(
    ("host", "target", "found"),
    [
        ("api.plain.example", "/x?y", ("plain", "/x?y")),
        ("api.plain.example", "/p/x", ("plain", "/p/x")),
        ("token.plain.example", "/x", ("plain", "/x")),
        ("API.Plain.EXAMPLE", "/x", ("plain", "/x")),
        ("api.plain.example.", "/x", ("plain", "/x")),
        ("api.plain.example:443", "/x", ("plain", "/x")),
        ("api.plain.example:1", "/x", ("plain", "/x")),
        ("api.plain.example.:8080", "/x", ("plain", "/x")),
        ("based.example", "/base/v1/x", ("based", "/base/v1/x")),
        ("based.example", "/base/v1", ("based", "/base/v1")),
        ("based.example", "/base/v1?x", ("based", "/base/v1?x")),
        ("based.example", "/base/v1/", ("based", "/base/v1/")),
        ("based.example", "/base/v1x", "not_allowed"),
        ("based.example", "/base/v1;x", "not_allowed"),
        ("based.example", "/base", "not_allowed"),
        ("based.example", "/x", "not_allowed"),
        ("based.example", "/Base/v1/x", "not_allowed"),
        ("based.example", "/base%2Fv1/x", "not_allowed"),
        ("based.example", "/b/x", "not_allowed"),
    ],
)
def test_by_host(host, target, found):
    assert way(target, host) == found
    assert way(f"http://{host}{target}", "127.0.0.1:8080") == found
    assert way(f"HTTPS://{host}{target}", "unknown.example") == found  # RFC 9112 3.2.2: the target counts, not Host


@pytest.mark.parametrize(
    "host",
    """127.0.0.1 127.0.0.1:8080 127.0.0.2 127.255.255.254:1 localhost LOCALHOST localhost:8080 localhost. app.localhost
    a.b.LOCALHOST:80 [::1] [::1]:8080
    [0:0:0:0:0:0:0:1] [0000::0001]:80 allowed.example Allowed.Example:8080""".split(),
)
def test_known_hosts_on_loopback(host):
    assert way("/p/x", host) == ("plain", "/x")


@pytest.mark.parametrize(
    "host",
    """evil.example evil.example:8080 localhost.evil.example 127.0.0.1.evil.example xlocalhost local localhost-x
    128.0.0.1 10.0.0.1 0.0.0.0 127.0.0.1.. [::] [::2] [::ffff:10.0.0.1] [fe80::1] 2130706433 0x7f.0.0.1 127.1
    127.0.0.256 127.0.0.1.1 deep.example not.allowed.example allowed.example.evil.example""".split(),
)
def test_unknown_hosts(host):
    """A browser led here by DNS rebinding names a host of its own; another machine may call us what it likes."""
    assert way("/p/x", host) == "host_not_allowed"
    assert way("/p/x", host, loopback=False) == ("plain", "/x")


@pytest.mark.parametrize("loopback", [True, False])
@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        ":",
        ":80",
        "a b",
        "a/b",
        "a@b",
        "u:p@127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:80:80",
        "127.0.0.1:123456",
        "[::1",
        "::1",
        "[::1]x",
        "[]",
        "[::1]:",
        "a,b",
        "127.0.0.1, evil.example",
        "a\tb",
        "a\x00",
        "é.example",
        "localhost:\uff18\uff10",
        "http://127.0.0.1",
        "*",
        "a?b",
        "a#b",
        "%31",
    ],
)
def test_malformed_hosts(host, loopback):
    assert way("/p/x", host, loopback=loopback) == "bad_request"


@pytest.mark.parametrize("loopback", [True, False])
@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "evil.example"),
        ("api.plain.example", "127.0.0.1"),
        ("127.0.0.1", ""),
    ],
)
def test_one_host_and_no_more(hosts, loopback):
    """RFC 9112 section 3.2."""
    assert way("/p/x", hosts, loopback=loopback) == "bad_request"
    if hosts:
        assert way("http://api.plain.example/x", hosts, loopback=loopback) == "bad_request"


def test_the_name_of_host_has_any_case():
    assert match(TABLE, Request("/x", (("hOsT", "api.plain.example"),))).route is PLAIN


# Absolute-form: a route's host or nothing.


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("http://api.plain.example", ("plain", "/")),
        ("http://api.plain.example/", ("plain", "/")),
        ("http://api.plain.example?x", ("plain", "/?x")),
        ("http://api.plain.example:8080/x", ("plain", "/x")),
        ("HtTp://API.plain.example./x", ("plain", "/x")),
        ("http://based.example", "not_allowed"),
        ("http://evil.example/p/x", "not_allowed"),
        ("http://127.0.0.1:8080/p/x", "not_allowed"),
        ("http://localhost/p/x", "not_allowed"),
        ("http://allowed.example/p/x", "not_allowed"),
        ("http://deep.example/x", "not_allowed"),
        ("http://api.plain.example.evil.example/", "not_allowed"),
        ("http://169.254.169.254/latest/meta-data", "not_allowed"),
        ("http://[::1]/p/x", "not_allowed"),
        ("http://", "bad_request"),
        ("http:///x", "bad_request"),
        ("http://:80/x", "bad_request"),
        ("http://user@api.plain.example/x", "bad_request"),
        ("http://user:pw@api.plain.example/x", "bad_request"),
        ("http://@api.plain.example/x", "bad_request"),
        ("http://api.plain.example@evil.example/x", "bad_request"),
        ("http://evil.example\\@api.plain.example/x", "bad_request"),
        ("http://evil.example;@api.plain.example/x", "bad_request"),
        ("http://api.plain.example\\x", "bad_request"),
        ("http://api.plain.example:/x", "bad_request"),
        ("http://api.plain.example:x/x", "bad_request"),
        ("http://api.plain.example#x", "bad_request"),
        ("http://api.plain.example%2fx", "bad_request"),
        ("http://api.plain.example\t/x", "bad_request"),
        ("http:// api.plain.example/x", "bad_request"),
        ("http://api.pla\u0131n.example/x", "bad_request"),
        ("http://api.plain.example\uff0fx", "bad_request"),
        ("http://\u212apI.plain.example/x", "bad_request"),
        ("http://api.plain.example\nhttp://x/", "bad_request"),
    ],
)
def test_absolute_form(target, found):
    assert way(target) == found
    assert way(target, "api.plain.example", loopback=False) == found


def test_an_absolute_form_needs_no_host_header():
    assert way("http://api.plain.example/x", ()) == ("plain", "/x")


# `allow` counts below the base, however the way was found.


@pytest.mark.parametrize(
    ("method", "below", "allowed"),
    [
        ("GET", "/orders/1", True),
        ("GET", "/orders/1?x=/token", True),
        ("POST", "/token", True),
        ("POST", "/orders/1", False),
        ("HEAD", "/orders/1", False),
        ("GET", "/orders", False),
        ("GET", "/orders/1/2", False),
        ("GET", "/orders/1%2F2", False),
        ("GET", "/orders/1%5c2", False),
        ("GET", "/orders/%31", True),
        ("GET", "/%6Frders/1", True),
        ("GET", "/ORDERS/1", False),
        ("GET", "/orders//1", False),
        ("GET", "/payouts", False),
    ],
)
def test_allow(method, below, allowed):
    for target, host in (
        (f"/r{below}", "localhost"),
        (below, "reader.example"),
        (f"http://reader.example{below}", "localhost"),
    ):
        assert way(target, host, method=method) == (("reader", below) if allowed else "not_allowed")


def test_allow_below_a_base():
    table = RouteTable([route("based", "/b", "https://a.example/base", ["a.example"], ["GET /", "GET /x"])])
    for target, host in (
        ("/b", "localhost"),
        ("/b?q", "localhost"),
        ("/base", "a.example"),
        ("/base?q", "a.example"),
        ("/base/?q", "a.example"),
    ):
        assert way(target, host, table, method="GET")[0] == "based", target
    assert way("/b/base/x", "localhost", table, method="GET") == "not_allowed"


# Whatever comes, only a route's base is called, and with the very bytes that came.

PIECES = st.sampled_from(
    [
        "/p",
        "/b",
        "/base/v1",
        "/",
        "//",
        "..",
        ".",
        "%2e",
        "%2F",
        "%5c",
        ";",
        "\\",
        "@",
        "?",
        "#",
        "x",
        "%",
        "%00",
        ":",
        "http://",
        "api.plain.example",
        "é",
        " ",
        "\t",
    ]
)
START = st.sampled_from(
    ["", "/p", "/p/x", "/b/x", "/base/v1/x", "http://api.plain.example", "https://based.example/base/v1"]
)
HOSTS = st.sampled_from(["127.0.0.1", "api.plain.example", "based.example", "evil.example", "", "[::1]", "a@b"])


@given(START, st.lists(PIECES, max_size=4).map("".join), HOSTS, st.booleans())
def test_any_target_leads_to_a_base_or_nowhere(start, rest, host, loopback):
    target = start + rest
    found = way(target, host, loopback=loopback)
    if isinstance(found, str):
        return
    name, sent = found
    base = {each.name: each.base for each in TABLE.routes}[name]
    assert sent.startswith("/")
    assert not sent.startswith("//")
    assert sent.startswith(base.path)
    assert sent.isascii()
    assert sent.isprintable()
    assert " " not in sent
    assert target.endswith(sent.removeprefix(base.path).removeprefix("/"))


def test_no_refusal_repeats_what_was_sent():
    for target, host in (
        ("/hunter2", "localhost"),
        ("/p/hunter2/..", "localhost"),
        ("http://hunter2.example/", "x"),
        ("/p/x", "hunter2.example"),
        ("/p/x", "hunter2 x"),
    ):
        with pytest.raises(ProxyError) as caught:
            match(TABLE, Request(target, (("Host", host),)))
        assert "hunter2" not in f"{caught.value} {caught.value.detail}"


TUNNELLED = RouteTable(
    [
        replace(PLAIN, intercept=True),
        replace(BASED, intercept=True),
        replace(route("open", "/o", "http://open.example:8080", ["open.example"]), intercept=True),
        READER,
    ]
)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("api.plain.example:443", ("plain", "api.plain.example", 443)),
        ("TOKEN.plain.example.:443", ("plain", "token.plain.example", 443)),
        ("based.example:443", ("based", "based.example", 443)),
        ("based.example:8443", ("based", "based.example", 8443)),
        ("open.example:443", ("open", "open.example", 443)),
        ("open.example:8080", "not_allowed"),
        ("api.plain.example:8443", "not_allowed"),
        ("api.plain.example:80", "not_allowed"),
        ("reader.example:443", "not_allowed"),
        ("x.plain.example:443", "not_allowed"),
        ("127.0.0.1:443", "not_allowed"),
        ("[::1]:443", "not_allowed"),
        ("api.plain.example", "bad_request"),
        ("api.plain.example:", "bad_request"),
        (":443", "bad_request"),
        ("u:p@api.plain.example:443", "bad_request"),
        ("https://api.plain.example:443", "bad_request"),
        ("api.plain.example:443/", "bad_request"),
        ("api.plain.example:044300", "bad_request"),
        ("api.plain.example:443\x00", "bad_request"),
    ],
)
def test_where_a_connect_leads(target, found):
    try:
        chosen, tunnel = connect(TUNNELLED, Request(target, method="CONNECT"))
        led = chosen.name, tunnel.host, tunnel.port
    except ProxyError as error:
        led = error.code
    assert led == found


INSIDE = Tunnel("based.example", 8443, ())


@pytest.mark.parametrize(
    ("target", "host", "tunnel", "found"),
    [
        ("/base/v1/x?y=%2f", "based.example:8443", INSIDE, ("based", "/base/v1/x?y=%2f")),
        ("/base/v1/x", "Based.Example.:8443", INSIDE, ("based", "/base/v1/x")),
        ("https://based.example:8443/base/v1/x", "based.example:8443", INSIDE, ("based", "/base/v1/x")),
        ("/base/v1/x", "based.example", replace(INSIDE, port=443), ("based", "/base/v1/x")),
        ("/base/v1/x", "based.example:443", replace(INSIDE, port=443), ("based", "/base/v1/x")),
        ("/other", "based.example:8443", INSIDE, "not_allowed"),
        ("/b/x", "based.example:8443", INSIDE, "not_allowed"),
        ("/base/v1/../x", "based.example:8443", INSIDE, "bad_request"),
        ("/base/v1/x", "based.example", INSIDE, "host_not_allowed"),
        ("/base/v1/x", "based.example:443", INSIDE, "host_not_allowed"),
        ("/x", "api.plain.example:8443", INSIDE, "host_not_allowed"),
        ("/x", "127.0.0.1:8080", INSIDE, "host_not_allowed"),
        ("/x", ("based.example:8443", "based.example:8443"), INSIDE, "bad_request"),
        ("/x", (), INSIDE, "bad_request"),
        ("https://api.plain.example:8443/x", "based.example:8443", INSIDE, "host_not_allowed"),
        ("https://based.example:8443/base/v1/x", "api.plain.example", INSIDE, "host_not_allowed"),
        ("https://u@based.example:8443/base/v1/x", "based.example:8443", INSIDE, "bad_request"),
        ("/base/v1/x", "based.example:8443", replace(INSIDE, misnamed=True), "host_not_allowed"),
        ("/x", "gone.example", Tunnel("gone.example", 443, ()), "not_allowed"),
        ("/x", "reader.example", Tunnel("reader.example", 443, ()), "not_allowed"),
    ],
)
def test_requests_inside_a_tunnel_are_for_its_host_alone(target, host, tunnel, found):
    assert way(target, host, TUNNELLED, tunnel=tunnel) == found


def test_what_is_remembered_of_one_request_is_not_taken_for_another():
    """Whatever decides has been seen before with each other value."""
    sites = [None, "cross-site", "same-origin"]
    hosts = ["127.0.0.1", "strange.example", "reader.example", "based.example"]
    for table in (TABLE, RouteTable(TABLE.routes, ["allowed.example"])):
        for method, target, host in product(("GET", "POST"), ("/r/orders/1", "/orders/1", "/b/x"), hosts):
            for site, loopback in product(sites, (False, True)):
                headers = (("Host", host), *((("Sec-Fetch-Site", site),) if site else ()))
                fresh = RouteTable(TABLE.routes, ["allowed.example"])
                assert outcome(table, Request(target, headers, method, loopback)) == outcome(
                    fresh, Request(target, headers, method, loopback)
                )


def outcome(table, request):
    try:
        found = match(table, request)
    except ProxyError as error:
        return error.code
    return found.route.name, found.target
