"""Canonical bodies of the sandbox: the shared vectors, and what must hold for any JSON."""

import base64
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sandbox.bodies import canonical, json_tokens

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "minify.json").read_text())["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
@pytest.mark.parametrize("mode", ["minify", "sorted"])
def test_shared_vectors(vector, mode):
    body = base64.b64decode(vector["body"]["b64"])
    assert canonical(body, mode) == base64.b64decode(vector["expect"][mode]["b64"])
    assert (json_tokens(body) is not None) == vector["is_json"]
    assert canonical(body, "raw") == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON, st.booleans(), st.sampled_from([None, 0, 1, "\t"]))
def test_blanks_between_tokens_never_matter(value, ascii_only, indent):
    pretty, compact = (
        json.dumps(value, ensure_ascii=ascii_only, indent=width, separators=marks).encode("utf-8", "replace")
        for width, marks in ((indent, (" , ", " : ")), (None, (",", ":")))
    )
    assert canonical(pretty, "minify") == compact
    assert canonical(pretty, "sorted") == canonical(compact, "sorted")


@settings(deadline=None)
@given(JSON)
def test_sorting_is_json_dumps_sorting_for_values_without_duplicates(value):
    body = json.dumps(value).encode()
    assert canonical(body, "sorted") == json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (rb'{"\u0062":1,"a":2}', rb'{"a":2,"\u0062":1}'),
        (rb'{"\ud83d\ude00":1,"\uffee":2}', rb'{"\uffee":2,"\ud83d\ude00":1}'),
        (b'{"b":{"z":1,"y":[{"d":1,"c":2}]},"b":0,"a":[3,1]}', b'{"a":[3,1],"b":{"y":[{"c":2,"d":1}],"z":1},"b":0}'),
    ],
    ids=["by decoded name", "by code point, not by UTF-16 unit", "at every level, duplicates in place"],
)
def test_order_of_members(body, wanted):
    assert canonical(body, "sorted") == wanted


NEAR_JSON = rb"""] [1]] [1,] [,1] {,} {"a"} {"a":} {"a":1,} {1:2} {"a":[} [1}
    +1 1. .5 1e - tru nulll "a "\x" "\u12" 1,2 : {"a":1}} 01 0x1 'a' {"a":1;} NaN"""


@pytest.mark.parametrize("body", [*NEAR_JSON.split(), b"[1 2]", b'"\x01"', b"\x0c1", b"1 2"], ids=repr)
def test_near_json_is_kept_as_it_is(body):
    assert json_tokens(body) is None
    assert canonical(b" " + body, "minify") == b" " + body


@pytest.mark.parametrize("body", [b"[ " * 200_000 + b"] " * 200_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000])
def test_depth_costs_neither_stack_nor_time(body):
    start = time.monotonic()
    assert canonical(body, "sorted") == body.replace(b" ", b"")
    assert time.monotonic() - start < 5
