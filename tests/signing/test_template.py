"""Templates: holes, pipes and braces, and what is said of every mistake in them."""

import base64
import hashlib
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_profiles import NOW

from proxy.signing.template import FILTERS, Template, compile_template
from proxy.signing.timestamps import time_formatter, zone
from proxy.switches import TIME_FORMATS

ZONE = {"zone": b"+07:00"}


def filled(text, **values):
    return compile_template(text).render({name: value.encode() for name, value in values.items()} | ZONE)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("", b""),
        ("plain", b"plain"),
        ("{a}", b"x y"),
        ("{a}{a}", b"x yx y"),
        ("<{a}|{b}>", b"<x y|[ 1 ]>"),
        ("{{{a}}}", b"{x y}"),
        ("{{a}}", b"{a}"),
        ("}}{{", b"}{"),
        ("\n{a}\n", b"\nx y\n"),
        ("é{a}", "éx y".encode()),
        ("{b|minify}", b"[1]"),
        ("{c|sort_keys}", b'{"a":2,"b":"1 1"}'),
        ("{c|strip_blanks}", b'{"b":"11","a":2}'),
        ("{a|minify}", b"x y"),  # no JSON: as it stands
        ("{a|sort_keys}", b"x y"),
        ("{a|sha256}", hashlib.sha256(b"x y").digest()),
        ("{a|sha512|hex}", hashlib.sha512(b"x y").hexdigest().encode()),
        ("{a|hex|upper}", b"782079"),
        ("{a|sha256|hex|upper}", hashlib.sha256(b"x y").hexdigest().upper().encode()),
        ("{a|upper|lower}", b"x y"),
        ("{a|sha256|b64}", base64.b64encode(hashlib.sha256(b"x y").digest())),
        ("{b|minify|sha256|hex}", hashlib.sha256(b"[1]").hexdigest().encode()),
    ],
)
def test_filled(text, made):
    assert filled(text, a="x y", b="[ 1 ]", c='{"b": "1 1", "a": 2}') == made


@pytest.mark.parametrize(
    ("form", "made"),
    [
        ("iso_offset_s", "2026-01-15T10:30:45+07:00"),
        ("iso_offset_ms", "2026-01-15T10:30:45.678+07:00"),
        ("iso_z_s", "2026-01-15T03:30:45Z"),
        ("iso_z_ms", "2026-01-15T03:30:45.678Z"),
        ("epoch_s", "1768447845"),
        ("epoch_ms", "1768447845678"),
        ("strftime:%Y%m%d", "20260115"),
        ("strftime:%Y-%m-%d %H:%M:%S", "2026-01-15 10:30:45"),
        ("strftime:%d/%m/%y %I %p %j %f %z %%", "15/01/26 10 AM 015 678000 +0700 %"),
    ],
)
def test_now(form, made):
    assert filled(f"<{{now|{form}}}>", now=str(NOW)) == f"<{made}>".encode()
    assert filled(f"{{now|{form}|hex}}", now=str(NOW)) == made.encode().hex().encode()


def test_every_time_format_is_tested():
    assert set(TIME_FORMATS) == {"iso_offset_s", "iso_offset_ms", "iso_z_s", "iso_z_ms", "epoch_s", "epoch_ms"}


@pytest.mark.parametrize(
    ("offset", "made"), [("+00:00", "20260114 235959"), ("+07:00", "20260115 065959"), ("-03:30", "20260114 202959")]
)
def test_now_has_the_zone_of_the_profile(offset, made):
    values = {"now": b"1768435199999", "zone": offset.encode()}
    assert compile_template("{now|strftime:%Y%m%d %H%M%S}").render(values) == made.encode()


@given(st.integers(0, 4_102_444_800_000), st.integers(-14 * 60, 14 * 60))
def test_times_are_cut_never_rounded(now_ms, minutes):
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    offset = f"{sign}{hours:02}:{rest:02}"
    local = datetime.fromtimestamp(now_ms // 1000, timezone(timedelta(minutes=minutes)))
    assert time_formatter("iso_offset_s", offset)(now_ms).decode() == local.strftime("%Y-%m-%dT%H:%M:%S") + offset
    with_ms = time_formatter("iso_offset_ms", offset)(now_ms).decode()
    assert with_ms == local.strftime("%Y-%m-%dT%H:%M:%S") + f".{now_ms % 1000:03}{offset}"
    assert time_formatter("epoch_s")(now_ms) == str(now_ms // 1000).encode()


@pytest.mark.parametrize("text", ["7:00", "07:00", "+7:00", "+07:60", "+24:00", "+07", "Asia/Jakarta", "Z", ""])
def test_a_zone_is_an_offset(text):
    with pytest.raises(ValueError, match=r"\+07:00"):
        zone(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "lone {"),
        ("a}b", "lone }"),
        ("{a", "lone {"),
        ("{{a}", "lone }"),
        ("{}", "{name}"),
        ("{a b}", "{name}"),
        ("{ a}", "{name}"),
        ("{A}", "{name}"),
        ("{1a}", "{name}"),
        ("{a.b}", "{name}"),
        ("{a[0]}", "{name}"),
        ("{a!r}", "{name}"),
        ("{a:>10}", "{name}"),
        ("{a.__class__}", "{name}"),
        ("{__import__}", "{name}"),
        ("{header.}", "{name}"),
        ("{header.a b}", "{name}"),
        ("{a|}", "unknown filter"),
        ("{a|b64|}", "unknown filter"),
        ("{a||b64}", "unknown filter"),
        ("{a|sha265}", "did you mean sha256?"),
        ("{a|B64}", "did you mean b64?"),
        ("{a|base64}", "did you mean b64?"),
        ("{a|sort}", "did you mean sort_keys?"),
        ("{a| b64}", "did you mean b64?"),
        ("{a|iso_z_s}", "unknown filter"),
        ("{a|nonsense}", "known: b64, hex, lower"),
        ("{now}", "{now|iso_offset_s}"),
        ("{now|b64}", "known: iso_offset_s"),
        ("{now|iso_z}", "known: iso_offset_s"),
        ("{now|iso_z_s|sha265}", "did you mean sha256?"),
        ("{now|strftime:}", "known: iso_offset_s"),
        ("{now|strftime:%Y\n}", "known: iso_offset_s"),
        ("{now|strftime:%s}", "%Y"),  # of the machine's zone
        ("{now|strftime:%H%n}", "%Y"),  # a line break in a header
        ("{now|strftime:%t}", "%Y"),
        ("{now|strftime:%Q}", "%Y"),
        ("{now|strftime:%-d}", "%Y"),  # not on every platform
        ("{now|strftime:%Z}", "%Y"),
        ("{now|strftime:%c}", "%Y"),  # as the locale has it
        ("{now|strftime:%Y%}", "%Y"),
        ("{now|strftime:Y}", "%Y"),  # no time in it
    ],
)
def test_mistakes(text, words):
    with pytest.raises(ValueError) as caught:
        compile_template(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{hunter2 hunter2}", "{Hunter2}", "{a|hunter2}", "{now|hunter2}", "hunter2{", "{a|hunter2|b64}"]
)
def test_a_mistake_is_not_repeated(text):
    """In a route's `key` it can be a secret with braces in it."""
    with pytest.raises(ValueError) as caught:
        compile_template(text)
    assert "unter2" not in str(caught.value)


def test_names():
    template = compile_template("{a}{b|hex}{{c}}{now|epoch_s}{header.X-Time}{header.x-time}")
    assert template.names == {"a", "b", "now", "header.x-time"}


def test_values_are_no_templates():
    """What fills a hole is never read again."""
    assert filled("{a}{b}", a="{b}", b="{{}}|{a|hex}%s") == b"{b}{{}}|{a|hex}%s"


def test_bind_folds_what_is_known():
    asked = []

    class Values(dict):
        def __getitem__(self, name):
            asked.append(name)
            return super().__getitem__(name)

    template = compile_template("<{id}|{secret|sha256|hex}|{body}>").bind({"id": b"7", "secret": b"s"})
    assert template.names == {"body"}
    assert len(template.parts) == 3
    digest = hashlib.sha256(b"s").hexdigest()
    assert template.render(Values(body=b"B")) == f"<7|{digest}|B>".encode()
    assert asked == ["body"]
    whole = template.bind({"body": b"B"})
    assert whole.parts == (f"<7|{digest}|B>".encode(),)
    assert template.bind({}) == template


def test_secrets_are_not_shown():
    template = compile_template("key {secret} {body}").bind({"secret": b"hunter2"})
    assert "hunter2" not in f"{template!r} {template}"


@given(st.text(max_size=30))
def test_any_text_compiles_or_is_refused_with_words(text):
    with suppress(ValueError):
        assert isinstance(compile_template(text), Template)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_doubled_braces_give_any_text_back(text):
    assert compile_template(text.replace("{", "{{").replace("}", "}}")).render({}) == text.encode()


@given(st.binary(max_size=40), st.lists(st.sampled_from(sorted(FILTERS)), max_size=5))
def test_filters_take_any_bytes(value, pipes):
    made = compile_template("|".join(["{a", *pipes]) + "}").render({"a": value})
    for pipe in pipes:
        value = FILTERS[pipe](value)
    assert made == value
