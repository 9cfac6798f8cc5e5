"""YAML text to nodes: values stay what was written, and everything knows where it stands."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ConfigError
from proxy.source import MAX_DEPTH, Mapping, Node, Scalar, Sequence, overlay, parse

NO_KEY_HERE = "a key cannot stand here: check the indent, and put a text that holds ': ' in quotes"


def root(text: str) -> Mapping:
    node = parse(text, "x.yaml").root
    assert isinstance(node, Mapping)
    return node


def findings(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml")
    return [str(finding) for finding in caught.value.findings]


def text_of(node: Node | None) -> str:
    assert isinstance(node, Scalar)
    return node.text


@pytest.mark.parametrize(
    "word", ["00012345", "NO", "yes", "on", "12:30", "1_000", "0x1F", "1e3", "2001-12-14", "=", "3.10"]
)
def test_a_plain_text_stays_what_was_written(word: str) -> None:
    node = root(f"a: {word}\n").get("a")
    assert text_of(node) == word


def test_quotes_are_told_from_plain_text() -> None:
    nodes = root("a: 5\nb: '5'\nc: \"5\"\nd: !!str 5\ne: |-\n  5\n")
    assert [(name.text, node.text, node.plain) for name, node in nodes.members if isinstance(node, Scalar)] == [
        ("a", "5", True),
        ("b", "5", False),
        ("c", "5", False),
        ("d", "5", False),
        ("e", "5", False),
    ]


def test_every_node_knows_its_line_and_column() -> None:
    nodes = root("routes:\n  doku:\n    hosts: [a, bb]\n")
    doku = nodes.get("routes").get("doku")  # type: ignore[union-attr]
    hosts = doku.get("hosts")  # type: ignore[union-attr]
    assert isinstance(hosts, Sequence)
    places = [(node.line, node.column) for node in (doku, hosts, *hosts.items)]  # type: ignore[union-attr]
    assert places == [(3, 5), (3, 12), (3, 13), (3, 16)]
    key = doku.key("hosts")  # type: ignore[union-attr]
    assert key
    assert (key.line, key.column, key.file) == (3, 5, "x.yaml")


def test_columns_count_characters_and_a_byte_order_mark_is_none() -> None:
    assert findings("\ufeffé日: [x\n") == ["x.yaml:2:1: (file): not valid YAML: did not find expected ',' or ']'"]
    assert findings("\ufeffa: 1\na: 2\n") == ["x.yaml:2:1: a: stands twice; the first is in line 1"]


def test_keys_that_stand_twice_are_found_at_every_depth_at_once() -> None:
    assert findings("a: 1\nb:\n  - c: 1\n    'c': 2\na: 3\n") == [
        "x.yaml:4:5: b.0.c: stands twice; the first is in line 3",
        "x.yaml:5:1: a: stands twice; the first is in line 1",
    ]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("a:\n\tb: 1\n", "2:1: (file): not valid YAML: a tab stands here: indent with blanks"),
        ("a: @b\n", "1:4: (file): not valid YAML: a text that begins like this needs quotes"),
        ("a: b: c\n", f"1:5: (file): not valid YAML: {NO_KEY_HERE}"),
        ("a: *b\n", "1:4: a: an alias of nothing above: a text that begins with * needs quotes"),
        ("a: !vault b\n", "1:4: a: tags (!name) have no meaning here: leave it out"),
        ("a: !!python/name:os.system b\n", "1:4: a: tags (!name) have no meaning here: leave it out"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "3:3: c: YAML 1.2 has no merge key (<<): write the keys out"),
        ("? [a]\n: 1\n", "1:3: (file): a key must be plain text"),
        ("a: 1\n---\nb: 1\n", "2:1: (file): a second document begins here: only one is read"),
        ("a: 1\nb: \x07\n", "2:4: (file): holds a character that YAML does not allow"),
        ("a: \udcff\n", "1:4: (file): holds a character that YAML does not allow"),
        ("", "1:1: (file): the file is empty"),
        ("# only words\n", "1:1: (file): the file is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_where_and_why(text: str, finding: str) -> None:
    assert findings(text) == [f"x.yaml:{finding}"]


def test_an_alias_stands_for_what_it_names() -> None:
    nodes = root("a: &a {b: 1}\nc: *a\n")
    assert nodes.get("c") == nodes.get("a")


def test_an_alias_cannot_hold_itself() -> None:
    assert findings("a: &a [*a]\n") == [
        "x.yaml:1:8: a.0: an alias of nothing above: a text that begins with * needs quotes"
    ]


def bomb(levels: int) -> str:
    """Ten times as many nodes for each level."""
    lines = ["l0: &l0 [" + "x, " * 10 + "]"]
    lines += [f"l{level}: &l{level} [" + f"*l{level - 1}, " * 10 + "]" for level in range(1, levels)]
    return "\n".join(lines)


def test_an_alias_bomb_is_one_finding() -> None:
    found = findings(bomb(9))
    assert len(found) == 1
    assert "repeats itself through aliases" in found[0]
    assert root(bomb(3)).get("l2")


@pytest.mark.parametrize("text", ["[" * 300_000, "{a: " * 5_000, "- " * 5_000])
def test_deep_nesting_is_one_finding(text: str) -> None:
    found = findings(text)
    assert len(found) == 1
    assert "nests too deep" in found[0]


def test_depth_through_aliases_counts_too() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, MAX_DEPTH + 1))
    assert "nests too deep" in findings(chain)[0]


@pytest.mark.parametrize(
    "text",
    [
        "a: *HUNTER2\n",
        "a: !HUNTER2!x b\n",
        "a: !HUNTER2 b\n",
        "a: HUNTER2: b\n",
        "a: 'x' HUNTER2\n",
        "a: x\nHUNTER2\nb: 1\n",
        "%HUNTER2 x\n---\n",
        "{secret:HUNTER2: 1, secret:HUNTER2: 1}\n",
        'a: "\\qHUNTER2"\n',
    ],
)
def test_no_finding_repeats_what_may_be_a_secret(text: str) -> None:
    assert not any("HUNTER2" in finding for finding in findings(text))


def test_a_source_points_at_the_deepest_node_that_is_written() -> None:
    source = parse("routes:\n  doku:\n    prefix: /x\n    allow: [a, b]\n", "x.yaml")

    def place(*path: str, key: bool = False) -> tuple[int, int, str]:
        finding = source.finding(path, "words", key=key)
        return finding.line, finding.column, finding.path

    assert place("routes", "doku", "prefix") == (3, 13, "routes.doku.prefix")
    assert place("routes", "doku", "prefix", key=True) == (3, 5, "routes.doku.prefix")
    assert place("routes", "doku", "allow", "1") == (4, 16, "routes.doku.allow.1")
    assert place("routes", "doku", "upstream") == (2, 3, "routes.doku.upstream")
    assert place("listen") == (1, 1, "listen")
    assert place() == (1, 1, "(file)")
    assert source.finding((), "words", "warning").severity == "warning"


def test_a_source_does_not_show_its_texts() -> None:
    assert "hunter2" not in repr(parse("a: hunter2\n", "x.yaml"))


def test_overlay_merges_mappings_replaces_the_rest_and_takes_away() -> None:
    base, over = (
        root("a: {b: 1, c: 2}\nd: [1, 2]\ne: 1\nf: 1\n"),
        parse("a: {b: 3}\nd: [4]\ne: ~\nf: '~'\n", "y.yaml").root,
    )
    assert isinstance(over, Mapping)
    merged = overlay(base, over)
    below, items = merged.get("a"), merged.get("d")
    assert isinstance(below, Mapping)
    assert isinstance(items, Sequence)
    assert (text_of(below.get("b")), text_of(below.get("c"))) == ("3", "2")
    assert [text_of(item) for item in items.items] == ["4"]
    assert merged.get("e") is None
    assert text_of(merged.get("f")) == "~"
    assert below.get("b").file == "y.yaml"  # type: ignore[union-attr]
    assert below.get("c").file == "x.yaml"  # type: ignore[union-attr]


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from(list("ab:-,?*&!|>'\"%@#{}[]~ \n\t\\\x00\u2028é")), max_size=40))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        parse(text, "x.yaml")
        places = None
    except ConfigError as error:
        places = [(finding.line, finding.column) for finding in error.findings]
    assert places is None or (places and min(min(place) for place in places) >= 1)
