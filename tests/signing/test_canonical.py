"""Canonical bodies: what is dropped, what is ordered, what is JSON at all, and what hostile bytes cost."""

import gc
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.signing.canonical import MAX_DEPTH, NotJson, minify, sort_keys, strip_blanks

BLANKS = " \t\r\n"


class Members(list):
    """An object as its pairs, in order and with doubles."""


def read(body):
    """The value, numbers as written. ValueError for what is not strict JSON in UTF-8."""

    def refuse(name):
        raise ValueError(name)

    decoder = json.JSONDecoder(object_pairs_hook=Members, parse_int=str, parse_float=str, parse_constant=refuse)
    return decoder.decode(body.decode("utf-8"))


def ordered(value):
    """As `sorted` should have it: members of every object by name, doubles in their order."""
    if isinstance(value, Members):
        return Members(sorted(((name, ordered(below)) for name, below in value), key=lambda member: member[0]))
    return [ordered(item) for item in value] if isinstance(value, list) else value


def without_blanks(body):
    """Letter by letter, as anybody would write it first."""
    made, inside, escaped = bytearray(), False, False
    for letter in body:
        if inside:
            inside = escaped or letter != ord('"')
            escaped = letter == ord("\\") and not escaped
        elif letter in BLANKS.encode():
            continue
        else:
            inside = letter == ord('"')
        made.append(letter)
    return bytes(made)


def canonical(form, body):
    try:
        return form(body)
    except NotJson:
        return None


BLANK = st.text(BLANKS, max_size=3)
NUMBER = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
ESCAPE = st.sampled_from(
    [r"\"", r"\\", r"\/", r"\b", r"\n", r"\u0041", r"\u00e9", r"\uD83D\uDE00", r"\ud800", r"\u0000"]
)
LETTER = st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=0x20)
STRING = st.lists(ESCAPE | LETTER | st.sampled_from(BLANKS[0] + "{}[]:,"), max_size=8).map(
    lambda it: f'"{"".join(it)}"'
)
NAME = STRING | st.sampled_from(['"a"', '"b"', r'"\u0061"', '"é"', '"Z"', '""'])
SCALAR = NUMBER | STRING | st.sampled_from(["true", "false", "null"])


@st.composite
def spaced(draw, value):
    return draw(BLANK) + draw(value) + draw(BLANK)


def containers(below):
    member = st.tuples(NAME, BLANK, spaced(below)).map(lambda it: f"{it[0]}{it[1]}:{it[2]}")
    arrays = st.lists(spaced(below), max_size=4).map(lambda items: f"[{','.join(items)}]")
    objects = st.lists(spaced(member), max_size=4).map(lambda items: "{" + ",".join(items) + "}")
    return arrays | objects | BLANK.map(lambda blank: f"[{blank}]") | BLANK.map(lambda blank: "{" + blank + "}")


TEXT = spaced(st.recursive(SCALAR, containers, max_leaves=12)).map(str.encode)


@given(TEXT)
def test_minify_drops_blanks_outside_strings_and_nothing_else(body):
    made = minify(body)
    assert made == without_blanks(body)
    assert minify(made) == made
    assert read(made) == read(body)


@given(TEXT)
def test_sorted_orders_members_and_changes_nothing_else(body):
    made = sort_keys(body)
    assert read(made) == ordered(read(body))
    assert sorted(made) == sorted(minify(body))  # the same bytes, in another order
    assert sort_keys(made) == made == minify(made)
    assert sort_keys(minify(body)) == made


@st.composite
def nearly_json(draw):
    """A valid text with a few bytes cut out, put in or changed."""
    body = bytearray(draw(TEXT))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 2))] = draw(
            st.binary(max_size=2) | st.sampled_from([b",", b'"', b"\\", b"}", b"]", b" ", b"0", b"\xef\xbb\xbf"])
        )
    return bytes(body)


@settings(max_examples=300)
@given(nearly_json() | st.binary(max_size=12) | st.text('[]{},:"\\ 01-.eEtu', max_size=12).map(str.encode))
def test_both_forms_agree_with_strict_json_on_what_is_json(body):
    try:
        read(body)
    except ValueError:
        assert canonical(minify, body) is canonical(sort_keys, body) is None
    else:
        assert minify(body) == without_blanks(body)
        assert read(sort_keys(body)) == ordered(read(body))


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("with_it", [True, False])
def test_levels_that_never_end_are_no_json(monkeypatch, opening, with_it):
    if not with_it:
        monkeypatch.setattr("proxy.signing.canonical._format", None)
    for depth in (100, 511, 512, 513, 900, 1000, 1023, 1025, 3000):
        assert canonical(minify, (opening * depth).encode()) is None


@settings(max_examples=300)
@given(TEXT | nearly_json())
def test_msgspec_makes_it_quicker_and_nothing_else(body):
    with_it = canonical(minify, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy.signing.canonical._format", None)
        assert canonical(minify, body) == with_it


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"[-]",
        b"[01]",
        b"[1.]",
        b"[.5]",
        b"[+1]",
        b"[1e]",
        b"[0x10]",
        b"[1 2]",
        b"[1,]",
        b"[,1]",
        b'{"a":1,}',
        b'{"a"}',
        b"{a:1}",
        b'{1:"a"}',
        b'{"a":1 "b":2}',
        b"[1}",
        b'{"a":1]',
        b"[1]]",
        b"[[1]",
        b"{} {}",
        b"'a'",
        b'"a\nb"',
        b'"a\x00b"',
        b'"a\x1fb"',
        b'"\\x41"',
        b'"\\u12g4"',
        b'"\\u123"',
        b'"a',
        b'"a\\"',
        b"// a\n1",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'"\xff"',
        b'"\xed\xa0\x80"',  # a lone surrogate in UTF-8
        b'"\xc0\xaf"',  # an overlong slash
        b"\xc2\xa01",  # a no-break space is no blank of JSON
        b"\x0b1",
        b"\x0c1",
        "[１]".encode(),  # noqa: RUF001  digits of another script
        b"True",
        b"tru",
        b"nullnull",
        b"a=1&b=2",
    ],
)
def test_no_json(body):
    assert canonical(minify, body) is canonical(sort_keys, body) is None


@pytest.mark.parametrize(
    ("body", "minified", "sorted_body"),
    [
        (b' "\xc3\xa9 \\u00e9 \\/" ', b'"\xc3\xa9 \\u00e9 \\/"', b'"\xc3\xa9 \\u00e9 \\/"'),
        (b"[ 1.00 , 1e5,-0 ]", b"[1.00,1e5,-0]", b"[1.00,1e5,-0]"),
        (b'{"b":1,"a":2,"b":0}', b'{"b":1,"a":2,"b":0}', b'{"a":2,"b":1,"b":0}'),
        (b'{"b":{"d":1,"c":2},"a":[{"z":1,"y":2}]}', None, b'{"a":[{"y":2,"z":1}],"b":{"c":2,"d":1}}'),
        # By code points of what the name means: \u0041 is A; an emoji comes after U+FF5E, in UTF-16 before.
        (b'{"B":1,"\\u0041":2}', None, b'{"\\u0041":2,"B":1}'),
        ('{"😀":1,"～":2}'.encode(), None, '{"～":2,"😀":1}'.encode()),  # noqa: RUF001
        (b'{"\\ud83d\\ude00":1,"\\uff5e":2}', None, b'{"\\uff5e":2,"\\ud83d\\ude00":1}'),
        (b'{"\\ud800":1,"\xee\x80\x80":2}', None, b'{"\\ud800":1,"\xee\x80\x80":2}'),
        (b'"\\\\"', None, b'"\\\\"'),
        (b'[ "\\\\\\"" , " \\\\\\\\" ]', b'["\\\\\\"","  \\\\\\\\"]'.replace(b"  ", b" "), b'["\\\\\\""," \\\\\\\\"]'),
        (b'"\x7f"', b'"\x7f"', b'"\x7f"'),
    ],
)
def test_by_hand(body, minified, sorted_body):
    assert minify(body) == (body if minified is None else minified)
    assert sort_keys(body) == sorted_body


@pytest.mark.parametrize("digits", ["9" * 5_001, "1." + "0" * 5_001, "1e" + "9" * 5_001, "-" + "1" * 50_000])
def test_numbers_are_judged_not_converted(digits):
    assert minify(f"[ {digits} ]".encode()) == sort_keys(f"[ {digits} ]".encode()) == f"[{digits}]".encode()


@pytest.mark.parametrize("form", [minify, sort_keys])
@pytest.mark.parametrize(("opening", "closing"), [("[ ", "]"), ('{"b" :', "}")])
def test_depth_has_one_limit_for_both_forms(form, opening, closing):
    """However an interpreter counts its recursion; what nests deeper counts as no JSON."""
    body = (opening * MAX_DEPTH + "1" + closing * MAX_DEPTH).encode()
    assert form(body) == body.replace(b" ", b"")
    for broken in (body[:-1], body + closing.encode(), body[:-1] + b")", body[: -MAX_DEPTH - 1]):
        assert canonical(form, broken) is None
    for deeper in (1, 600, 100_000):
        depth = MAX_DEPTH + deeper
        assert canonical(form, (opening * depth + "1" + closing * depth).encode()) is None


@pytest.mark.parametrize("form", [minify, sort_keys])
def test_brackets_inside_strings_are_no_depth(form):
    text = "[{" * MAX_DEPTH
    assert form(f'{{ "a": "{text}" }}'.encode()) == f'{{"a":"{text}"}}'.encode()


def test_strip_blanks_takes_those_inside_strings_too():
    assert strip_blanks(b'{ "a": " b\tc\r\n" }') == b'{"a":"bc"}'


HOSTILE = {
    "quotes": b'"',
    "backslashes": b"\\",
    "escaped quotes": b'\\"',
    "open arrays": b"[",
    "open objects": b'{"":',
    "open arrays behind strings": b'["a",',
    "blanks": b" ",
    "blanks between": b"[ ",
    "digits": b"1",
    "points": b"1.",
    "exponents": b"1e1",
    "signs": b"-",
    "commas": b",",
    "not UTF-8": b"\xc3",
    "letters": b"a",
    "escapes": b"\\u00",
}


def cost(form, body):
    """The least of three runs, in seconds of this process; below a millisecond all is the same."""
    spent = []
    gc.disable()
    for _ in range(3):
        start = time.process_time()
        canonical(form, body)
        spent.append(time.process_time() - start)
    gc.enable()
    return max(0.001, min(spent))


@pytest.mark.parametrize("form", [minify, sort_keys])
@pytest.mark.parametrize("start", [b"", b'"', b"[", b'{"a":"', b"1"])
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bodies_cost_linear_time(form, start, piece):
    """Four times the size may cost four times the time; sixteen times would be the square."""
    short, long = (start + piece * (size // len(piece)) for size in (1 << 16, 1 << 18))
    assert cost(form, long) < 11 * cost(form, short)


@pytest.mark.parametrize("form", [minify, sort_keys])
@pytest.mark.parametrize(
    "large",
    [
        lambda n: b"[" + b",".join([b"1"] * n) + b"]",
        lambda n: b"{" + b",".join(b'"k%d" : %d' % (n - i, i) for i in range(n)) + b"}",
        lambda n: b"{" + b",".join([b'"same":{}'] * n) + b"}",
        lambda n: b'["' + b'\\\\\\" ' * n + b'"]',
        lambda n: b"[" + b",".join([b"[" * 500 + b"]" * 500] * (n // 300)) + b"]",
    ],
)
def test_large_bodies_cost_linear_time(form, large):
    assert cost(form, large(6_000)) < 11 * cost(form, large(1_500))
