"""Headers on both ways: what of the caller's goes on, what comes back, and that nothing stands in for ours."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.errors import ProxyError
from proxy.headers import FRAMING, HOP_BY_HOP, Strip, answer_lines, fold, names_of, value_of, without_length

STRIP = Strip.of(owned=["X-SIGNATURE", "X-TIMESTAMP"], single=["CHANNEL-ID", "X-EXTERNAL-ID", "X-SIGNATURE"])


def kept(*headers, body_changes=False, strip=STRIP):
    _, keep = strip.keeping(names_of(headers))
    return list(keep(headers, body_changes))


def names(*headers, **more):
    return [name for name, _ in kept(*headers, **more)]


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("X-SIGNATURE", "x-signature"),
        ("X_SIGNATURE", "x-signature"),
        ("X.Signature", "x-signature"),
        ("x!signature", "x-signature"),
        ("X\u2010SIGNATURE", "x-signature"),
        ("X-S\u0130GNATURE", "x-si-gnature"),  # a dotted I becomes i and a dot above it
        ("X-TO\u212aEN", "x-token"),  # the sign for kelvin becomes k
        ("", ""),
    ],
)
def test_fold(name, folded):
    assert fold(name) == folded


LOOK_ALIKES = [
    "X-SIGNATURE",
    "x-signature",
    "X-Signature",
    "X_SIGNATURE",
    "X.SIGNATURE",
    "x-signature".title(),
    "X~Signature",
    "X-Signatur\u00e9",
]


@pytest.mark.parametrize("name", LOOK_ALIKES[:-1])
def test_nothing_stands_in_for_what_is_signed(name):
    assert kept((name, "forged")) == []
    assert kept((name, "forged"), ("Connection", name)) == []


def test_another_name_is_another_header():
    assert names((LOOK_ALIKES[-1], "x"), ("X-SIGNATURES", "x"), ("XSIGNATURE", "x"), ("X--SIGNATURE", "x")) == [
        LOOK_ALIKES[-1],
        "X-SIGNATURES",
        "XSIGNATURE",
        "X--SIGNATURE",
    ]


@pytest.mark.parametrize("name", sorted(FRAMING))
@pytest.mark.parametrize("spelt", [str, str.upper, lambda name: name.replace("-", "_")])
def test_what_is_of_the_connection_ends_here(name, spelt):
    assert kept((spelt(name), "x")) == []


@pytest.mark.parametrize(
    "name",
    """Authorization authorization Proxy-Authorization Forwarded Via X-Forwarded-For X-Forwarded-Host X_FORWARDED_FOR
    X-Forwarded-Proto X-Real-IP X-Client-IP True-Client-IP CF-Connecting-IP X-Envoy-Original-Path X-B3-TraceId b3
    traceparent tracestate baggage X-Request-Id
    X-Datadog-Trace-Id X-Istio-Attributes l5d-dst-override X-HTTP-Method-Override
    X-Original-URL X-Rewrite-URL X-Paraf-Token x_paraf_anything Expect Host Content-Length Content_Length""".split(),
)
def test_what_ends_here(name):
    assert kept((name, "x")) == []


@pytest.mark.parametrize(
    "name",
    """Authorization-Customer Content-Type Content-Encoding Content-Language Accept Accept-Language User-Agent Cookie
    Origin ORIGIN X-IP-ADDRESS X-DEVICE-ID
    X-LATITUDE X-LONGITUDE X-PARTNER-REF Idempotency-Key If-Match Range Digest Content-MD5
    Content-Digest Repr-Digest x_custom X-Version""".split(),
)
def test_what_passes_as_it_is(name):
    assert kept((name, " a,b ")) == [(name, " a,b ")]
    assert kept((name, "")) == [(name, "")]
    assert kept((name, "a"), (name, "b")) == [(name, "a"), (name, "b")]


@pytest.mark.parametrize("name", ["Digest", "Content-Digest", "content-md5", "Repr-Digest", "Content_MD5"])
def test_a_digest_does_not_outlive_its_bytes(name):
    assert kept((name, "x"), body_changes=True) == []
    assert kept((name, "x"), body_changes=False) == [(name, "x")]


# What `Connection` names ends here, but it cannot take away what we need.


@pytest.mark.parametrize(
    "spelt", ["X-Hop", "x-hop", "X_HOP", " X-Hop ", "close, X-Hop", "X-Hop,", ",,X-Hop,,", "keep-alive,X-Hop, Y"]
)
def test_nominated_headers_end_here(spelt):
    assert names(("X-Hop", "1"), ("X_Hop", "1"), ("X-Stays", "1"), ("Connection", spelt)) == ["X-Stays"]
    assert names(("connection", spelt), ("X-Hop", "1"), ("X-Stays", "1")) == ["X-Stays"]
    assert names(("Connection", "close"), ("Connection", spelt), ("X-Hop", "1")) == []


def test_what_says_what_the_body_is_cannot_be_nominated():
    said = [("Content-Type", "application/json"), ("Content-Encoding", "gzip"), ("Content-Language", "id")]
    assert kept(*said, ("Connection", "content-type, Content-Encoding, content_language")) == said


def test_a_nominated_single_is_as_if_it_were_not_sent():
    assert kept(("CHANNEL-ID", "evil"), ("Connection", "CHANNEL-ID")) == []


# Headers that the caller may send instead of Paraf.


@pytest.mark.parametrize("name", ["CHANNEL-ID", "channel-id", "Channel-Id"])
def test_a_single_passes_once(name):
    assert kept((name, "95051")) == [(name, "95051")]


@pytest.mark.parametrize("names", [("CHANNEL-ID", "CHANNEL-ID"), ("channel-id", "CHANNEL-ID")])
@pytest.mark.parametrize("values", [("1", "2"), ("1", "1")])
def test_a_single_twice_is_refused(names, values):
    with pytest.raises(ProxyError) as caught:
        kept(*zip(names, values, strict=True))
    assert (caught.value.code, caught.value.sent) == ("bad_request", "no")
    assert "1" not in caught.value.detail


@pytest.mark.parametrize("name", ["CHANNEL_ID", "CHANNEL.ID", "channel~id"])
def test_a_look_alike_of_a_single_is_dropped(name):
    assert kept((name, "forged")) == []
    assert kept((name, "forged"), ("CHANNEL-ID", "1"), (name, "forged")) == [("CHANNEL-ID", "1")]


@pytest.mark.parametrize("empty", ["", " ", "\t "])
def test_an_empty_single_counts_as_absent(empty):
    assert kept(("CHANNEL-ID", empty)) == []
    assert kept(("CHANNEL-ID", empty), ("CHANNEL-ID", "1"), ("CHANNEL-ID", empty)) == [("CHANNEL-ID", "1")]


@pytest.mark.parametrize("spelt", ["device_id", "Device.Id", "device-id"])
def test_a_single_is_spelt_as_the_profile_spells_it(spelt):
    strip = Strip.of(owned=[], single=[spelt])
    others = {"device_id", "device.id", "device-id"} - {spelt.lower()}
    assert kept((spelt.upper(), "1"), *((name, "forged") for name in others), strip=strip) == [(spelt.upper(), "1")]


def test_what_is_owned_is_never_single():
    assert kept(("X-SIGNATURE", "forged")) == []


# Accept-Encoding is cut to what can be looked into.


@pytest.mark.parametrize(
    ("offered", "cut"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("br;q=1.0, GZIP;q=0.5", "gzip"),
        ("*", "gzip"),
        ("x-gzip", "gzip"),
        (" gzip ; q=0.001", "gzip"),
        ("br", "identity"),
        ("deflate, br", "identity"),
        ("identity", "identity"),
        ("", "identity"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000, br", "identity"),
        ("gzip; Q=0", "identity"),
        ("*;q=0", "identity"),
        ("gzipped", "identity"),
    ],
)
def test_accept_encoding(offered, cut):
    assert kept(("Accept-Encoding", offered)) == [("Accept-Encoding", cut)]
    assert kept(("accept_encoding", offered)) == [("accept_encoding", cut)]
    assert kept(("Accept-Encoding", offered), ("Connection", "accept-encoding")) == [("Accept-Encoding", cut)]


TOKEN = st.text("abcXYZ019-_.!#$%&'*+^`|~", min_size=1, max_size=14)
NAMES = st.sampled_from(
    [
        *LOOK_ALIKES,
        "CHANNEL-ID",
        "CHANNEL_ID",
        "X-EXTERNAL-ID",
        "Connection",
        "connection",
        "Authorization",
        "Host",
        "Digest",
        "Via",
        "X-A",
        "x_a",
        "Accept-Encoding",
    ]
)
HEADERS = st.lists(
    st.tuples(NAMES | TOKEN, st.sampled_from(["", "a", "close", "X-A, X-SIGNATURE", "content-type", "CHANNEL-ID"])),
    max_size=8,
)


@given(HEADERS, st.booleans())
def test_whatever_is_sent(headers, changes):
    try:
        passed = kept(*headers, body_changes=changes)
    except ProxyError:
        assume(False)
    folded = [fold(name) for name, _ in passed]
    assert not STRIP.owned & set(folded)
    assert not (FRAMING | {"authorization"}) & set(folded)
    assert all(folded.count(name) <= 1 for name in STRIP.single)
    assert [name for name, _ in passed if fold(name) in STRIP.single and name.lower() != fold(name)] == []
    order = iter(name for name, _ in headers)
    assert all(name in order for name, _ in passed)  # nothing added, nothing moved
    assert kept(*passed, body_changes=changes) == passed


# Answers.


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_answers_lose_what_is_of_their_connection(name):
    assert answer_lines(((name.encode(), name.upper().encode()), (b"x", b"x")))[0] == b""


@pytest.mark.parametrize("name", ["X-Paraf-Error", "x-paraf-request-id", "X_PARAF_ERROR", "X-Paraf-Anything"])
def test_answers_cannot_look_like_ours(name):
    assert answer_lines(((name.encode(),), (b"forged",))) == (b"", None)


def test_answers_keep_the_rest_as_it_is():
    rest = (
        (b"Content-Type", b"application/json"),
        (b"content-length", b"7"),
        (b"Date", b"x"),
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
        (b"X-100%s", b"\xff %b"),
        (b"X-SIGNATURE", b"theirs"),
        (b"Content-Encoding", b"gzip"),
        (b"Server", b""),
        (b"X-Request-Id", b"theirs"),
    )
    names, values = zip(*rest, strict=True)
    assert answer_lines((names, values)) == (lines(rest), b"7")
    nominating = (
        (b"connection", *names, b"Connection"),
        (b"x-signature", *values, b"close, Server, date, content-length"),
    )
    kept = [row for row in rest if row[0] not in (b"Server", b"X-SIGNATURE")]
    assert answer_lines(nominating) == (lines(kept), b"7")
    names, values = zip(*rest, (b"content_length", b"like it"), strict=True)
    kept = [row for row in zip(names, values, strict=True) if row[0] != b"content-length"]
    assert without_length(((*names, b"Content-Length"), (*values, b"7"))) == tuple(zip(*kept, strict=True))


def lines(rows):
    return b"".join(name + b": " + value + b"\r\n" for name, value in rows)


@pytest.mark.parametrize(("name", "value"), [("x-a", "1"), ("X-A", "1"), ("X_A", None), ("y", ""), ("Z", None)])
def test_value_of(name, value):
    assert value_of((("X-a", "1"), ("x-A", "2"), ("Y", "")), name) == value
