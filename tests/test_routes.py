"""Routes: which prefix wins, and what `allow` lets through."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.addresses import AllowRule, BaseUrl
from proxy.routes import Route, RouteTable, below_base, rule_matches, under_base
from proxy.settings import Limits, Timeouts


def route(name="r", prefix="/r", hosts=(), base="https://api.example", allow=()):
    rules = tuple(AllowRule.parse(rule) for rule in allow)
    return Route(name, prefix, frozenset(hosts), BaseUrl.parse(base), rules, Limits(), Timeouts())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a", "a"),
        ("/a/", "a"),
        ("/a/x", "a"),
        ("/a/b", "a-b"),
        ("/a/b/", "a-b"),
        ("/a/bx", "a"),
        ("/a/b.", "a"),
        ("/a/b;x", "a"),
        ("/a/b%2Fx", "a"),
        ("/ab", "every"),
        ("/A", "every"),
        ("/", "every"),
        ("//a", "every"),
        ("/%61", "every"),
    ],
)
def test_the_longest_prefix_on_a_segment_border_wins(path, name):
    routes = [route("every", ""), route("a", "/a"), route("a-b", "/a/b")]
    for order in (routes, routes[::-1]):
        assert RouteTable(order).by_prefix(path).name == name


@pytest.mark.parametrize("path", ["/", "/ab", "/b/a", "", "a", "/A/x"])
def test_no_prefix(path):
    assert RouteTable([route("a", "/a")]).by_prefix(path) is None


def test_hosts():
    table = RouteTable([route("a", "/a", ["a.example"]), route("b", "/b", ["b.example"])], ["allowed.example"])
    assert table.by_host("a.example").name == "a"
    assert table.by_host("allowed.example") is table.by_host("") is None
    assert {host for host in ("a.example", "b.example", "allowed.example", "c.example", "") if table.knows(host)} == {
        "a.example",
        "b.example",
        "allowed.example",
    }


ALLOW = {
    # Rule: what passes · what does not.
    "POST /orders": r"""POST /orders  POST /orders?x=/../y ·
        GET /orders  post /orders  POST /orders/  POST /ordersx  POST /Orders  POST /  POST //orders""",
    "* /orders": r"POST /orders  GET /orders  DELETE /orders  PROPFIND /orders · GET /order",
    "GET /": r"GET /  GET /?x · GET /x  POST /  GET //",
    "GET /orders/*": r"""GET /orders/1  GET /orders/a%20b  GET /orders/* ·
        GET /orders  GET /orders/  GET /orders/1/2  GET /orders/1/  GET /orders/1%2F2  GET /orders/1%2f2
        GET /orders/1%5C2  GET /orders/1\2  GET /orders/%2F  GET /orders/%2F1""",
    "GET /orders/**": r"""GET /orders  GET /orders/  GET /orders/1  GET /orders/1/2  GET /orders/1%2F2  GET /orders// ·
        GET /ordersx  GET /order  GET /x/orders/1  GET /orders%2F1""",
    "GET /**": r"GET /  GET /x  GET /x/y · POST /x",
    "GET /**/status": r"""GET /status  GET /a/status  GET /a/b/status  GET /a%2Fb/status ·
        GET /astatus  GET /a/status/b  GET /a%2Fstatus""",
    "GET /a/**/b": r"GET /a/b  GET /a/x/b  GET /a/x/y/b · GET /ab  GET /a/xb  GET /a  GET /a/x/b/c",
    "GET /a/*/b": r"GET /a/x/b · GET /a/b  GET /a//b  GET /a/x/y/b  GET /a/x%2Fy/b",
    "GET /v*/pay": r"GET /v1/pay  GET /v/pay  GET /v1.0/pay · GET /w1/pay  GET /v1/x/pay  GET /v1%2Fx/pay",
    "GET /a.b": r"GET /a.b  GET /a%2Eb  GET /%61.b · GET /axb  GET /a%252Eb",
    "GET /a+(b)[c]|d$": r"GET /a+(b)[c]|d$  GET /a%2B(b)[c]%7Cd$ · GET /aab  GET /a+",
    "GET /*": r"GET /x  GET /%E9  GET /a;b=c  GET /%0A · GET /  GET /x/  GET /%00  GET /x%00y",
}


def calls(text):
    return [tuple(call.split(" ", 1)) for call in re.split(r" {2,}|\n\s*", text.strip())]


@pytest.mark.parametrize("rule", ALLOW)
def test_allow(rule):
    made = route(allow=[rule])
    passes, refused = map(calls, ALLOW[rule].split("·"))
    judged = {call: made.allows(*call) for call in (*passes, *refused)}
    assert judged == dict.fromkeys(passes, True) | dict.fromkeys(refused, False)


def test_no_rule_is_every_call_and_one_of_several_is_enough():
    assert route().allows("DELETE", "/x")
    made = route(allow=["GET /a", "POST /b/*"])
    assert [made.allows(*call) for call in (("GET", "/a"), ("POST", "/b/1"), ("GET", "/b/1"))] == [True, True, False]


@pytest.mark.parametrize(
    ("base", "target", "below"),
    [
        ("https://a.example", "/x?y", "/x?y"),
        ("https://a.example", "/", "/"),
        ("https://a.example/b", "/b/x", "/x"),
        ("https://a.example/b", "/b", "/"),
        ("https://a.example/b", "/b/", "/"),
        ("https://a.example/b", "/b?y=/z", "/?y=/z"),
        ("https://a.example/b/c", "/b/c//x", "//x"),
    ],
)
def test_rules_are_read_below_the_base(base, target, below):
    assert below_base(target, BaseUrl.parse(base)) == below
    path = below.partition("?")[0]
    assert route(base=base, allow=["GET /", "GET /x", "GET /**/x"]).allows("GET", target) == (
        path in ("/", "/x", "//x")
    )


@pytest.mark.parametrize(
    ("target", "under"),
    [
        ("/b", True),
        ("/b/", True),
        ("/b?x", True),
        ("/b/x", True),
        ("/bx", False),
        ("/", False),
        ("/B", False),
        ("/x/b", False),
    ],
)
def test_under_the_base(target, under):
    assert under_base(target, BaseUrl.parse("https://a.example/b")) is under
    assert under_base(target, BaseUrl.parse("https://a.example"))


SEGMENT = st.text("ab.*%2F5Cce;\\ é", max_size=4)


@given(
    st.lists(SEGMENT, min_size=1, max_size=4),
    st.sampled_from(["GET /a/*", "GET /a/**", "GET /**/b", "GET /*/*", "GET /a*b"]),
)
def test_a_star_never_goes_over_a_slash_however_it_is_written(segments, text):
    target = "/" + "/".join(segments)
    if rule_matches(AllowRule.parse(text), "GET", target) and "**" not in text:
        plain = (
            target.replace("\\", "/").replace("%5C", "/").replace("%5c", "/").replace("%2F", "/").replace("%2f", "/")
        )
        assert plain.count("/") == text.count("/")


def test_a_long_target_costs_linear_time():
    rule = AllowRule.parse("GET /a/**/b")

    def cost(size):
        start = time.process_time()
        for _ in range(5):
            rule_matches(rule, "GET", "/a" + "/b" * size + "/c")
        return max(0.002, time.process_time() - start)

    cost(10)
    assert cost(8_000) < 11 * cost(2_000)


@pytest.mark.parametrize("pattern", ["/**/a/**/b/**/c", "/*a*a*a*a*b", "/**/**/**/x"])
def test_no_pattern_and_no_path_hold_the_loop(pattern):
    """Nested stars once took seconds for a path of 2 KiB: every step here is taken once."""
    path = "/" + "a/b/" * 2_000 if "**" in pattern else "/" + "a" * 8_000
    began = time.process_time()
    assert not rule_matches(AllowRule.parse(f"GET {pattern}"), "GET", path)
    assert time.process_time() - began < 1
