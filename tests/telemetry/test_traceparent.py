"""W3C Trace Context: the examples and the rules of its section 3.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.traceparent import Trace, traced

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("written", "sampled"),
    [
        (f"00-{ID}-{SPAN}-01", True),
        (f"00-{ID}-{SPAN}-00", False),
        (f"00-{ID}-{SPAN}-ff", True),
        (f"00-{ID}-{SPAN}-02", False),
        (f" 00-{ID}-{SPAN}-01\t", True),
        (f"cc-{ID}-{SPAN}-01", True),
        (f"cc-{ID}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"01-{ID}-{SPAN}-01-", True),
    ],
)
def test_valid(written, sampled):
    assert traced([written]) == Trace(ID, SPAN, sampled)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "00",
        f"ff-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01-more",
        f"00-{ID}-{SPAN}-01.",
        f"cc-{ID}-{SPAN}-01.what",
        f"00-{ID}-{SPAN}-1",
        f"00-{ID}-{SPAN}",
        f"0-{ID}-{SPAN}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID}-{SPAN.upper()}-01",
        f"00-{ID}-{SPAN}-0A",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID}0-{SPAN}-01",
        f"00-{ID[:-1]}-{SPAN}-01",
        f"00-{ID}-{SPAN}x-01",
        f"00-{ID}-{SPAN}-0\u0661",
        f"00-{ID}-{SPAN}-01\n",
        f"00-{ID}-{SPAN}-01, 00-{ID}-{SPAN}-01",
        f"zz-{ID}-{SPAN}-01",
    ],
)
def test_invalid(written):
    assert traced([written]) is None


def test_twice_is_not_valid():
    assert traced([f"00-{ID}-{SPAN}-01"] * 2) is None


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ([], ""),
        (["a=1,b=2"], "a=1,b=2"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["x" * 513], ""),
        (["a=\x01"], ""),
        (["a=é"], ""),
        ([""], ""),
    ],
)
def test_the_state_beside_it(states, kept):
    assert traced([f"00-{ID}-{SPAN}-01"], states) == Trace(ID, SPAN, sampled=True, state=kept)


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True))
def test_what_is_taken_over_is_sent_on_as_valid(written):
    trace = traced([written])
    if trace is not None:
        (parent,) = trace.headers()
        assert traced([parent[1]]) == trace
