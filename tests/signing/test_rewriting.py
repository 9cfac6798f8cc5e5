"""Bodies as JSON libraries write them, against what these libraries wrote for the shared vectors."""

import pytest
from vectors_read import octets, vectors

from proxy.signing.rewriting import rewritings

LIBRARIES = {
    "python json.dumps compact": "python_compact",
    "python json.dumps compact, ensure_ascii=False": "python_compact_utf8",
    "javascript JSON.stringify": "javascript",
    "go json.Marshal of any": "go",
}


OUTSIDE = ("minify-17-lone-surrogate", "minify-40-bad-utf8")
"""No text in UTF-8, which each library mends in its own way."""


def written_by(tool):
    """Bodies, and what the tool made of each."""
    for vector in vectors("minify", "body"):
        if vector["id"] in OUTSIDE:
            continue
        told = vector.get("other_tools", {}).get(tool, {"result": "error"})
        if told["result"] == "same":
            yield vector["id"], octets(vector["body"]), octets(vector["expect"]["minify"])
        elif told["result"] == "different":
            yield vector["id"], octets(vector["body"]), octets(told["output"])


@pytest.mark.parametrize("tool", LIBRARIES)
def test_the_library_is_imitated(tool):
    cases = list(written_by(tool))
    made = {name: {each: text for each, _, text in rewritings(body)}.get(LIBRARIES[tool]) for name, body, _ in cases}
    assert len(cases) > 20
    assert [(name, made[name], output) for name, _, output in cases if made[name] != output] == []


@pytest.mark.parametrize(
    "body", [b"", b"a=1&b=2", b"\xff\xfe", b'{"a":', b"[" * 2000, b'{"a":' * 2000, b"1e999", b"9" * 5000]
)
def test_odd_bodies_are_no_fault(body):
    assert {name for name, _, _ in rewritings(body)} >= {"raw", "empty"}
