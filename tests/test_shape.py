"""The language of shapes: what each takes, and what it says to the rest."""

from typing import Any

import pytest

from proxy.quantities import duration, size
from proxy.shape import (
    BAD,
    Anything,
    Choice,
    Either,
    Flag,
    Key,
    Listing,
    Only,
    OrOff,
    Parsed,
    Record,
    Shape,
    Table,
    Text,
    Whole,
    did_you_mean,
)
from proxy.source import Report, parse


def read(shape: Shape, text: str) -> tuple[Any, list[str]]:
    """The value of `v` in a file, and what was found: `line:column path: message`."""
    report = Report("x.yaml")
    value = shape.read(parse(f"v: {text}\n", "x.yaml").root.get("v"), ("v",), report)  # type: ignore[union-attr,arg-type]
    found = sorted(report.findings)
    return value, [f"{finding.line}:{finding.column} {finding.path}: {finding.message}" for finding in found]


def refused(shape: Shape, text: str) -> list[str]:
    value, found = read(shape, text)
    assert value is BAD
    return found


TAKEN: list[tuple[Shape, str, Any]] = [
    (Text(), "00012345", "00012345"),
    (Text(), "NO", "NO"),
    (Text(), "12:30", "12:30"),
    (Text(), "'~'", "~"),
    (Text(r"[ -~]*"), "''", ""),
    (Choice(("raw", "minify")), "raw", "raw"),
    (Choice(("raw", "minify")), "'raw'", "raw"),
    (Parsed(int, "digits"), "7", 7),
    (Whole(0, 10), "0", 0),
    (Whole(-5, 10), "-5", -5),
    (Flag(), "true", True),
    (Flag(), "False", False),
    (duration(), "500ms", 0.5),
    (duration(), "1.5 s", 1.5),
    (duration(), "2m", 120.0),
    (duration(0), "0s", 0.0),
    (size(), "64KiB", 65_536.0),
    (size(), "512B", 512.0),
    (Listing(Whole(0, 9)), "[1, 2]", (1, 2)),
    (Listing(Whole(0, 9)), "[]", ()),
    (Listing(Whole(0, 9), single=True), "1", (1,)),
    (Table(Text()), "{a: b, 'C-D': NO}", {"a": "b", "C-D": "NO"}),
    (Only("memory"), "memory", "memory"),
    (Only(1), "1", 1),
    (Either(Text(), Record({"a": Key(Text(), "a")})), "x", "x"),
    (Either(Text(), Record({"a": Key(Text(), "a")})), "{a: x}", {"a": "x"}),
    (OrOff(Whole(0, 9), -1), "5", 5),
    (OrOff(Whole(0, 9), -1), "off", -1),
    (OrOff(Whole(0, 9), None), "'off'", None),
    (OrOff(Record({"a": Key(Text(), "a")}), None), "{a: off}", {"a": "off"}),
]


@pytest.mark.parametrize(("shape", "text", "value"), TAKEN)
def test_taken(shape: Shape, text: str, value: Any) -> None:
    assert read(shape, text) == (value, [])


REFUSED: list[tuple[Shape, str, str]] = [
    (Text(), "~", "1:4 v: is empty: must be some text"),
    (Text(), "", "1:3 v: is empty: must be some text"),
    (Text(), "null", "1:4 v: is empty: must be some text"),
    (Text(), "''", "1:4 v: must be some text"),
    (Text(), "[a]", "1:4 v: must be some text"),
    (Text("[a-z]+", "small letters"), "A", "1:4 v: must be small letters"),
    (Choice(("raw", "minify")), "minfy", "1:4 v: unknown value (did you mean minify?)"),
    (Choice(("raw", "minify")), "RAW", "1:4 v: unknown value (did you mean raw?)"),
    (Choice(("raw", "minify")), "json", "1:4 v: unknown value (known: minify, raw)"),
    (Choice(("raw", "minify")), "{}", "1:4 v: must be one of raw, minify"),
    (Whole(0, 10), "11", "1:4 v: must be a whole number from 0 to 10"),
    (Whole(0, 10), "007", "1:4 v: must be a whole number from 0 to 10"),
    (Whole(0, 10), "1.0", "1:4 v: must be a whole number from 0 to 10"),
    (Whole(0, 10), "٣", "1:4 v: must be a whole number from 0 to 10"),
    (Whole(0, 10), "'1'", "1:4 v: must be a whole number from 0 to 10, without quotes"),
    (Flag(), "yes", "1:4 v: must be true or false"),
    (Flag(), "on", "1:4 v: must be true or false"),
    (Flag(), "'true'", "1:4 v: must be true or false, without quotes"),
    (Flag(), "~", "1:4 v: is empty: must be true or false"),
    (duration(), "3", "1:4 v: must be a duration such as 500ms, 3s or 1m"),
    (duration(), "-3s", "1:4 v: must be a duration such as 500ms, 3s or 1m"),
    (duration(), "3d", "1:4 v: must be a duration such as 500ms, 3s or 1m"),
    (duration(), "0s", "1:4 v: must be from 1ms to 24h"),
    (duration(0), "25h", "1:4 v: must be from 0 to 24h"),
    (size(), "1MB", "1:4 v: must be a size such as 64KiB or 1MiB"),
    (size(), "2GiB", "1:4 v: must be from 1B to 1GiB"),
    (Listing(Text()), "a", "1:4 v: must be a list"),
    (Listing(Text(), least=1), "[]", "1:4 v: is empty: needs at least one entry"),
    (Table(Text(), least=1), "{}", "1:4 v: is empty: needs at least one entry"),
    (Table(Text(), "[a-z]+", "small letters"), "{A: x}", "1:5 v.A: the name must be small letters"),
    (Table(Text()), "[a]", "1:4 v: must be a mapping"),
    (Only("memory"), "disk", "1:4 v: unknown value; known: memory"),
    (OrOff(Whole(0, 9), -1), "OFF", "1:4 v: must be a whole number from 0 to 9, or off"),
    (OrOff(Whole(0, 9), -1), "~", "1:4 v: is empty: must be a whole number from 0 to 9, or off"),
    (OrOff(Record({"a": Key(Text(), "a")}), None), "x", "1:4 v: must be a mapping (known: a), or off"),
    (OrOff(Record({"a": Key(Flag(), "a")}), None), "{a: off}", "1:8 v.a: must be true or false"),
]


@pytest.mark.parametrize(("shape", "text", "finding"), REFUSED)
def test_refused(shape: Shape, text: str, finding: str) -> None:
    assert refused(shape, text) == [finding]


def test_a_parsed_text_gives_the_words_of_its_value_error() -> None:
    def parse_even(text: str) -> int:
        if int(text) % 2:
            raise ValueError("must be even")
        return int(text)

    assert refused(Parsed(parse_even, "a number"), "3") == ["1:4 v: must be even"]


POINT = Record({"x": Key(Whole(0, 9), "across", required=True), "y": Key(Whole(0, 9), "up", default=5)})


def test_a_record_fills_in_defaults() -> None:
    assert read(POINT, "{x: 1}") == ({"x": 1, "y": 5}, [])


def test_a_record_finds_everything_at_once() -> None:
    assert refused(POINT, "{y: a, z: 1, colour: 2}") == [
        "1:4 v: x is missing: across",
        "1:8 v.y: must be a whole number from 0 to 9",
        "1:11 v.z: unknown key (known: x, y)",
        "1:17 v.colour: unknown key (known: x, y)",
    ]
    assert refused(POINT, "5") == ["1:4 v: must be a mapping (known: x, y)"]


def test_a_misspelt_required_key_is_one_mistake_not_two() -> None:
    shape = Record({"provider": Key(Text(), "the profile", required=True)})
    assert refused(shape, "{provder: doku}") == ["1:5 v.provder: unknown key (did you mean provider?)"]


def test_what_was_refused_below_never_reaches_a_build() -> None:
    def build(**parts: Any) -> Any:
        pytest.fail(f"built of {parts}")

    for item in (Listing(Whole(0, 9)), Table(Whole(0, 9)), Table(Whole(0, 9), "[a-z]", "a letter")):
        shape = Record({"k": Key(item, "items")}, build)
        text = "{k: [1, x]}" if isinstance(item, Listing) else "{k: {a: 1, B: x}}"
        value, found = read(shape, text)
        assert value is BAD
        assert found


def test_a_build_may_refuse_the_whole() -> None:
    def build(a: str | None, b: str | None) -> str:
        if a and b:
            raise ValueError("a and b exclude each other")
        return a or b or ""

    shape = Record({"a": Key(Text(), "a"), "b": Key(Text(), "b")}, build)
    assert read(shape, "{a: x}") == ("x", [])
    assert refused(shape, "{a: x, b: y}") == ["1:4 v: a and b exclude each other"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("00012345", "00012345"),
        ("1.50", 1.5),
        ("12:30", "12:30"),
        ("NO", "NO"),
        ("true", True),
        ("'true'", "true"),
        ("~", None),
        ("''", ""),
        ("[1, {a: '1'}]", [1, {"a": "1"}]),
    ],
)
def test_anything_reads_plain_scalars_as_yaml_1_2(text: str, value: Any) -> None:
    assert read(Anything(), text) == (value, [])


def test_suggestions_never_repeat_the_word() -> None:
    assert did_you_mean("hunter2", ["hunter", "gatherer"]) == " (did you mean hunter?)"
    assert did_you_mean("hunter2", ["x"]) == " (known: x)"
    assert did_you_mean("hunter2", map(str, range(20))) == ""


def test_schemas_say_the_same() -> None:
    shape = Record(
        {"n": Key(Whole(1, 2), "a number", required=True), "t": Key(Text("[a-z]+", "small letters"), "a text")}
    )
    assert shape.schema() == {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 2, "description": "a number"},
            "t": {"type": ["string", "number", "boolean"], "description": "a text: small letters"},
        },
        "additionalProperties": False,
        "required": ["n"],
    }
    assert OrOff(Flag(), None).schema() == {"anyOf": [{"const": "off"}, {"type": "boolean"}]}
    assert Listing(Flag(), least=1).schema() == {"type": "array", "items": {"type": "boolean"}, "minItems": 1}
