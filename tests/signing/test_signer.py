"""From a caller's request to what leaves: what is signed is what is sent, and nothing of the caller's stands in."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import assume, given
from hypothesis import strategies as st
from own_profiles import BANK, NOW, bound, exchange, profile, send, signer

from proxy.addresses import BaseUrl
from proxy.catalogue import Catalogue
from proxy.errors import ProxyError
from proxy.model import Secret, Token
from proxy.signing.canonical import minify, sort_keys
from proxy.signing.signer import Signer
from proxy.signing.template import FILTERS

BASE = "https://api.bank.example"
SPACED = b'{ "b" : 1.00, "a" : "x  y" }'
CATALOGUE = Catalogue()
CREDENTIALS = {"client_id": "client", "client_secret": "s3cret"}
SNAP = ("snap", "doku", "netzme-vsnap", "ifortepay-payment", "ifortepay-disbursement")
RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
KEYS = {"private_key": RSA}


def bundled(name, base=BASE, **switches):
    return signer(CATALOGUE.profile(name), base, CREDENTIALS, **switches)


def digest(body):
    return hashlib.sha256(body).hexdigest()


def hmac_b64(name, key, message):
    return base64.b64encode(hmac.digest(key.encode(), message.encode(), name)).decode()


# What is signed is what is sent.

SIGNED_BODY = {
    # How the string-to-sign carries the body, by profile.
    "klikoo": digest,
    "netzme": lambda body: f"&body={body.decode()}",
    "netzme-main": lambda body: f"&body={body.decode()}",
    "doku-nonsnap": lambda body: "Digest:" + base64.b64encode(hashlib.sha256(body).digest()).decode(),
    **dict.fromkeys(SNAP, digest),
}
QUERY_TOO = ("netzme", "netzme-main", "snap", "ifortepay-payment", "ifortepay-disbursement")


@pytest.mark.parametrize("name", CATALOGUE.names)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        SPACED,
        b"[1, 2]",
        b"a=1&b= 2",
        b" \xc3\xa9 ",
        b'{"a": 1',
        b'"\\ud800" ',
        b'{"b":[{"d":1,"c":2}],"a":"\\"  "}',
    ],
)
@pytest.mark.parametrize("target", ["/v1/pay", "/v1/pay?b=2&a=%2f%C3%A9+x&a=", "/a//b/%41?", "/;x=y/*"])
def test_bytes_signed_are_bytes_sent(name, body, target):
    made = send(bundled(name), "POST", target, ("Content-Type", "application/json"), body=body, external_id="77")
    assert made.message.count(SIGNED_BODY[name](made.request.body)) >= 1
    assert made.request.url == BASE + target
    assert made.request.method == "POST"
    signed = target if name in QUERY_TOO else target.partition("?")[0]
    assert signed in made.message
    time = next(
        made.one(header)
        for header in ("X-TIMESTAMP", "Open-Api-Timestamp", "Request-Time", "Request-Timestamp")
        if made.all(header)
    )
    assert time in made.message


@pytest.mark.parametrize("name", CATALOGUE.names)
def test_the_signature_is_over_the_string(name):
    made = send(bundled(name), body=SPACED, external_id="77")
    demand, (header, prefix, encoding) = made.draft.demands[0], made.draft.headers_due[0]
    raw = hmac.digest(demand.key, demand.message, demand.algorithm.removeprefix("hmac-"))
    assert made.one(header) == prefix + (base64.b64encode(raw).decode() if encoding == "b64" else raw.hex())


def test_an_asymmetric_scheme_needs_no_token_and_carries_none():
    for name in ("snap", "doku", "netzme-vsnap", "ifortepay-payment"):
        by = bundled(name, signature="asymmetric")
        made = send(by, "POST", "/v1/pay", ("Authorization", "Bearer forged"), body=SPACED, external_id="1", keys=KEYS)
        assert made.all("Authorization") == []
        assert made.message == f"POST:/v1/pay:{digest(made.request.body)}:{made.one('X-TIMESTAMP')}"
        RSA.public_key().verify(
            base64.b64decode(made.one("X-SIGNATURE")), made.message.encode(), padding.PKCS1v15(), hashes.SHA256()
        )


@given(
    st.binary(max_size=40) | st.text('{}[]":, a1\\', max_size=25).map(str.encode),
    st.sampled_from(["raw", "minify", "sorted"]),
    st.booleans(),
)
def test_any_body(body, canonical, original):
    by = bundled("snap", canonical=canonical, forward="original" if original else "canonical")
    made = send(by, body=body, external_id="1")
    assert digest(made.call.canonical_body) in made.message
    assert made.request.body == (body if original else made.call.canonical_body)
    assert made.call.raw_body == body


# The caller's headers.


OURS = {
    "klikoo": ["Authorization", "Open-Api-Timestamp", "Open-Api-Signature"],
    "netzme": ["Authorization", "Request-Time", "Client-Id", "Signature"],
    "netzme-main": ["Authorization", "Request-Time", "Client-Id", "Signature"],
    "doku-nonsnap": ["Client-Id", "Request-Timestamp", "Signature"],
    **{name: ["Authorization", "X-TIMESTAMP", "X-PARTNER-ID", "X-SIGNATURE"] for name in SNAP},
}
SPELT = [
    str,
    str.lower,
    str.upper,
    str.title,
    lambda name: name.replace("-", "_"),
    lambda name: name.replace("-", "."),
    lambda name: name.lower().replace("-", "~"),
]


@pytest.mark.parametrize("name", CATALOGUE.names)
def test_nothing_of_the_callers_stands_in_for_what_we_set(name):
    plain = send(bundled(name), body=SPACED, external_id="77")
    forged = [(spelt(header), "forged") for header in OURS[name] for spelt in SPELT]
    forged += [
        ("Connection", ", ".join([*OURS[name], "X-EXTERNAL-ID", "CHANNEL-ID", "Request-Id"])),
        ("X-Signature", "forged"),
        ("Proxy-Authorization", "x"),
    ]
    made = send(bundled(name), "POST", "/v1/pay", *forged, body=SPACED, external_id="77")
    kept = [("X-Signature", "forged")] if "X-SIGNATURE" not in OURS[name] else []
    assert made.request.headers == (*kept, *plain.request.headers)
    for header in OURS[name]:
        assert "forged" not in made.one(header)


@pytest.mark.parametrize("name", CATALOGUE.names)
def test_every_header_is_set_once(name):
    made = send(bundled(name), body=SPACED, external_id="77")
    assert sorted(made.header_names) == sorted(set(made.header_names))


@pytest.mark.parametrize("name", ["doku", "ifortepay-disbursement", "ifortepay-payment"])
def test_channel_id(name):
    default = {"doku": ["H2H"], "ifortepay-disbursement": ["api"], "ifortepay-payment": []}[name]
    by = bundled(name)
    assert send(by).all("CHANNEL-ID") == default
    assert send(by, "POST", "/x", ("channel-id", "95051")).request.headers[0] == ("channel-id", "95051")
    assert send(by, "POST", "/x", ("CHANNEL-ID", "95051")).all("CHANNEL-ID") == ["95051"]
    assert send(by, "POST", "/x", ("CHANNEL-ID", "95051"), ("Connection", "channel-id")).all("CHANNEL-ID") == default
    if default:
        for odd in (("CHANNEL-ID", ""), ("CHANNEL_ID", "95051"), ("channel.id", "95051")):
            assert send(by, "POST", "/x", odd).all("CHANNEL-ID") == default
        with pytest.raises(ProxyError) as caught:
            send(by, "POST", "/x", ("CHANNEL-ID", "1"), ("Channel-Id", "1"))
        assert caught.value.code == "bad_request"


@pytest.mark.parametrize("spelt", ["CHANNEL-ID", "channel-id", "Channel_Id"])
def test_a_route_fixes_a_header(spelt):
    by = bundled("doku", headers={"set": {spelt: "{client_id}-POS"}, "default": {}})
    made = send(by, "POST", "/x", ("CHANNEL-ID", "95051"), ("channel_id", "1"), ("CHANNEL-ID", "2"))
    assert made.all("CHANNEL-ID") == ["client-POS"]


@pytest.mark.parametrize("spelt", ["CHANNEL-ID", "channel-id"])
def test_a_route_has_another_default(spelt):
    by = bundled("doku", headers={"set": {}, "default": {spelt: "POS", "X-Device-Id": "till"}})
    made = send(by)
    assert (made.all("CHANNEL-ID"), made.all("X-DEVICE-ID")) == (["POS"], ["till"])
    made = send(by, "POST", "/x", ("CHANNEL-ID", "95051"), ("X-DEVICE-ID", "phone"))
    assert (made.all("CHANNEL-ID"), made.all("X-DEVICE-ID")) == (["95051"], ["phone"])


def test_a_route_sets_in_place_of_the_profile():
    by = bundled("snap", headers={"set": {"x-partner-id": "P7"}, "default": {}})
    assert send(by, "POST", "/x", ("X-PARTNER-ID", "forged")).all("X-PARTNER-ID") == ["P7"]


def test_a_constant_of_the_route():
    by = bundled("snap", constants={"partner_id": "00012345"})
    assert send(by).one("X-PARTNER-ID") == "00012345"


def test_what_a_profile_drops(tmp_path):
    by = signer(
        profile(tmp_path, BANK.replace("    token: false", "    token: false\n    drop: [X-Debug]")), BASE, CREDENTIALS
    )
    assert send(by, "POST", "/x", ("x_debug", "1"), ("X-Debug", "1"), ("X-Debugger", "1")).header_names == [
        "x-debugger",
        "x-time",
        "x-sig",
    ]


def test_optional_headers_pass():
    passing = (
        ("Authorization-Customer", "Bearer c"),
        ("X-IP-ADDRESS", "10.0.0.1"),
        ("X-DEVICE-ID", "d"),
        ("Content-Type", "Application/JSON; charset=utf-8"),
        ("Cookie", "a"),
    )
    assert send(bundled("snap"), "POST", "/x", *passing).request.headers[: len(passing)] == passing


def test_digests_of_the_caller_end_with_its_bytes():
    said = (("Digest", "x"), ("Content-MD5", "x"))
    assert send(bundled("snap"), "POST", "/x", *said, body=SPACED).all("Digest") == []
    assert send(bundled("snap"), "POST", "/x", *said, body=minify(SPACED)).all("Digest") == ["x"]
    assert send(bundled("snap", forward="original"), "POST", "/x", *said, body=SPACED).all("Content-MD5") == ["x"]


# External ids.


@pytest.mark.parametrize("name", SNAP)
def test_the_callers_external_id_is_kept(name):
    made = send(bundled(name), "POST", "/x", ("x-external-id", "41807553358950093184162180797837"), external_id="77")
    assert made.call.external_id == made.one("X-EXTERNAL-ID") == "41807553358950093184162180797837"


@pytest.mark.parametrize(
    "odd", [("X_EXTERNAL_ID", "1"), ("X-EXTERNAL-ID", ""), ("X.External.Id", "1"), ("x-external_id", "1")]
)
def test_a_made_one_stands_for_none_and_for_look_alikes(odd):
    made = send(bundled("snap"), "POST", "/x", odd, external_id="77")
    assert made.call.external_id is None
    assert made.one("X-EXTERNAL-ID") == "77"


def test_two_external_ids_are_refused():
    with pytest.raises(ProxyError):
        send(bundled("snap"), "POST", "/x", ("X-EXTERNAL-ID", "1"), ("x-external-id", "2"))


def test_an_external_id_that_is_signed():
    by = bundled("doku-nonsnap")
    assert "\nRequest-Id:made\n" in send(by, external_id="made").message
    made = send(by, "POST", "/x", ("request-id", "theirs"), ("Request_Id", "forged"), external_id="made")
    assert "\nRequest-Id:theirs\n" in made.message
    assert made.one("Request-Id") == "theirs"


def test_a_route_with_an_external_id_of_its_own():
    by = bundled("netzme", external_id={"format": "uuid"})
    assert (by.external_id.header, by.external_id.format) == ("X-EXTERNAL-ID", "uuid")
    assert send(by, external_id="77").one("X-EXTERNAL-ID") == "77"
    by = bundled("snap", external_id={"header": "X-Trace", "prefix": "9"})
    assert (by.external_id.header, by.external_id.prefix, by.external_id.length) == ("X-Trace", "9", 20)
    assert send(by, "POST", "/x", ("X-EXTERNAL-ID", "1"), external_id="77").one("X-Trace") == "77"
    by = bundled("snap", external_id={"header": "device_id"})
    assert send(by, "POST", "/x", ("Device_Id", "1"), external_id="77").one("device_id") == "1"


# Switches.

ENDPOINTS = [
    # Base, sign_path, strip_base_path, target, what is signed of it.
    ("https://a.example", "path", False, "/x?b=2&a=1", "/x"),
    ("https://a.example", "path_and_query", False, "/x?b=2&a=1", "/x?b=2&a=1"),
    ("https://a.example:8443", "full_url", False, "/x?b=2&a=1", "https://a.example:8443/x?b=2&a=1"),
    ("https://a.example", "sorted_query", False, "/x?b=2&a=1&a=0&a", "/x?a&a=0&a=1&b=2"),
    ("https://a.example", "sorted_query", False, "/x", "/x"),
    ("https://a.example", "sorted_query", False, "/x?", "/x?"),
    ("https://a.example", "sorted_query", False, "/x?%62=1&a=?&", "/x?&%62=1&a=?"),
    ("https://a.example", "path", False, "/x?", "/x"),
    ("https://a.example", "path_and_query", False, "/x?", "/x?"),
    ("https://a.example", "path_and_query", False, "/x??y", "/x??y"),
    ("https://a.example/g/w", "path", False, "/g/w/x", "/g/w/x"),
    ("https://a.example/g/w", "path", True, "/g/w/x", "/x"),
    ("https://a.example/g/w", "path_and_query", True, "/g/w?x", "/?x"),
    ("https://a.example/g/w", "path", True, "/g/w/", "/"),
    ("https://a.example/g/w", "sorted_query", True, "/g/w/x?b&a", "/x?a&b"),
    ("https://a.example/g/w", "full_url", True, "/g/w/x", "https://a.example/g/w/x"),
    ("https://a.example/g/w", "path", True, "/g/w/g/w/x", "/g/w/x"),
    ("https://a.example/g/w", "path", True, "/g/wide/x", "/g/wide/x"),
]


@pytest.mark.parametrize(("base", "kind", "strip", "target", "signed"), ENDPOINTS)
def test_the_signed_part_of_the_url(base, kind, strip, target, signed):
    by = bundled("snap", base, sign_path=kind, strip_base_path=strip, string="{endpoint} {path} {query} {url}")
    made = send(by, "POST", target)
    path, _, query = target.partition("?")
    assert made.message == f"{signed} {path} {query} {BaseUrl.parse(base).origin}{target}"
    assert made.request.url == BaseUrl.parse(base).origin + target


@pytest.mark.parametrize(
    ("base", "strip", "prefixes", "target", "signed"),
    [
        ("https://a.example", False, "strip_prefix: /nicepay", "/nicepay/v1/pay", "/v1/pay"),
        ("https://a.example", False, "strip_prefix: /nicepay", "/nicepay", "/"),
        ("https://a.example", False, "strip_prefix: /nicepay", "/nicepayment/v1", "/nicepayment/v1"),
        ("https://a.example", False, "strip_prefix: /nicepay", "/v1/nicepay", "/v1/nicepay"),
        ("https://a.example/g", True, "strip_prefix: /nicepay", "/g/nicepay/v1", "/v1"),
        ("https://a.example/g", True, "strip_prefix: /nicepay", "/g/v1", "/v1"),
        ("https://a.example", False, "add_prefix: /api/v1", "/pay", "/api/v1/pay"),
        ("https://a.example/g", True, "add_prefix: /api", "/g", "/api/"),
        ("https://a.example", False, "strip_prefix: /a\nadd_prefix: /b", "/a/x", "/b/x"),
    ],
)
def test_prefixes(tmp_path, base, strip, prefixes, target, signed):
    by = signer(profile(tmp_path, f"{BANK}{prefixes}\nstrip_base_path: {str(strip).lower()}\n"), base, CREDENTIALS)
    made = send(by, "POST", target)
    assert made.message.split(":")[1] == signed
    assert made.request.url == "https://a.example" + target


@pytest.mark.parametrize(
    ("switch", "sent", "signed"),
    [("upper", "POST", "POST"), ("lower", "POST", "post"), ("upper", "post", "POST"), ("lower", "Patch", "patch")],
)
def test_method_case(switch, sent, signed):
    made = send(bundled("snap", method_case=switch), sent)
    assert made.message.startswith(signed + ":")
    assert made.request.method == sent


@pytest.mark.parametrize("method_case", ["upper", "lower"])
@pytest.mark.parametrize(
    ("table", "method", "body", "lined"),
    [
        ("by_method", "POST", b"{}", True),
        ("by_method", "POST", b"", True),
        ("by_method", "PUT", b"", True),
        ("by_method", "PATCH", b"", True),
        ("by_method", "GET", b"", False),
        ("by_method", "GET", b"{}", False),
        ("by_method", "DELETE", b"{}", False),
        ("by_method", "HEAD", b"", False),
        ("by_body", "POST", b"{}", True),
        ("by_body", "POST", b"", False),
        ("by_body", "GET", b"{}", True),
        ("by_body", "DELETE", b"", False),
    ],
)
def test_digest_for(table, method, body, lined, method_case):
    made = send(bundled("doku-nonsnap", digest_for=table, method_case=method_case), method, body=body, external_id="1")
    expected = f"\nDigest:{base64.b64encode(hashlib.sha256(body).digest()).decode()}" if lined else ""
    assert made.message.partition("/v1/pay")[2] == expected


@pytest.mark.parametrize("body", [b"a=1", b"{", b"NaN", b"\xff", b"\x1f\x8b\x08", b'{"a": 1}\x00'])
def test_a_body_that_is_no_json(body):
    for canonical in ("minify", "sorted"):
        assert send(bundled("snap", canonical=canonical), body=body).request.body == body
        with pytest.raises(ProxyError) as caught:
            send(bundled("snap", canonical=canonical, invalid_json="reject"), body=body)
        assert (caught.value.code, caught.value.sent) == ("bad_request", "no")
    assert send(bundled("snap", canonical="raw", invalid_json="reject"), body=body).request.body == body
    assert send(bundled("snap", invalid_json="reject"), "GET", body=b"").request.body == b""


@pytest.mark.parametrize(("canonical", "form"), [("raw", bytes), ("minify", minify), ("sorted", sort_keys)])
def test_forward(canonical, form):
    for forward, sent in (("canonical", form(SPACED)), ("original", SPACED)):
        made = send(bundled("snap", canonical=canonical, forward=forward), body=SPACED)
        assert digest(form(SPACED)) in made.message
        assert made.request.body == sent


@pytest.mark.parametrize(
    ("switch", "time"),
    [
        ("iso_offset_s", "2026-01-15T10:30:45+07:00"),
        ("iso_z_ms", "2026-01-15T03:30:45.678Z"),
        ("epoch_s", "1768447845"),
        ("strftime:%d.%m.%Y %H:%M", "15.01.2026 10:30"),
    ],
)
def test_one_reading_of_the_clock(switch, time):
    made = send(bundled("snap", timestamp=switch))
    assert made.one("X-TIMESTAMP") == time
    assert made.message.endswith(":" + time)


def test_a_zone(tmp_path):
    text = (
        BANK.replace('X-TIME: "{timestamp}"', 'X-TIME: "{timestamp}", X-DAY: "{now|strftime:%Y%m%d}"')
        + 'zone: "-11:00"\n'
    )
    made = send(signer(profile(tmp_path, text), BASE, CREDENTIALS))
    assert (made.one("X-TIME"), made.one("X-DAY")) == ("2026-01-14T16:30:45-11:00", "20260114")


def test_string_and_key_of_the_route():
    by = bundled(
        "snap",
        string="{method}|{header.X-Partner-Id}|{header.x-caller}|{header.X-None}|{client_secret|sha256|hex}",
        key="{client_secret}+{timestamp}",
    )
    made = send(by, "POST", "/x", ("X-Caller", "c"))
    assert made.message == f"POST|client|c||{digest(b's3cret')}"
    assert made.one("X-SIGNATURE") == hmac_b64("sha512", f"s3cret+{made.one('X-TIMESTAMP')}", made.message)


@pytest.mark.parametrize("name", ["X-Caller", "Content-Type", "x_caller"])
def test_a_header_that_is_read_into_the_string_is_sent_once(name):
    by = bundled("snap", string=f"{{header.{name}}}")
    made = send(by, "POST", "/x", (name.upper(), "a"), (name.replace("-", "~").replace("_", "~"), "forged"))
    assert (made.message, made.all(name)) == ("a", ["a"])
    with pytest.raises(ProxyError) as caught:
        send(by, "POST", "/x", (name, "a"), (name.lower(), "b"))
    assert caught.value.code == "bad_request"


RULED = (
    BANK.replace(
        "schemes:\n",
        "rules:\n  - {call: 'GET /free/**', scheme: bare}\n  - {call: '* /token/*', scheme: other}\nschemes:\n",
    )
    + """\
  bare: {token: false, unsigned: true, set: {X-BARE: "1"}}
  other:
    token: false
    set: {X-OTHER: "{timestamp}"}
    signatures:
      - {header: X-OTHER-SIG, string: "other {endpoint}", algorithm: hmac-sha512, key: "{client_id}", encoding: HEX}
"""
)


@pytest.mark.parametrize("base", [BASE, BASE + "/g"])
def test_rules_choose_a_scheme(tmp_path, base):
    by = signer(profile(tmp_path, RULED), base, CREDENTIALS, string="mine {endpoint}")
    path = by.base_path
    free = send(by, "GET", f"{path}/free/x?y")
    assert free.request.headers == (("X-BARE", "1"),)
    assert free.draft.demands == ()
    other = send(by, "PUT", f"{path}/token/7")
    assert other.message == f"other {path}/token/7"  # the route's string is that of the scheme it names
    assert other.one("X-OTHER-SIG") == hmac.digest(b"client", other.message.encode(), "sha512").hex().upper()
    for method, target in (("POST", "/free/x"), ("GET", "/freedom"), ("PUT", "/token/7/8"), ("PUT", "/token%2F7")):
        assert send(by, method, path + target).message == f"mine {path}{target}"
    assert send(by, "GET", f"{path}/free/x").draft.demands == ()  # what was found for POST is not for GET


def test_a_rule_opens_no_gap(tmp_path):
    """What any scheme sets is ours in every one."""
    by = signer(profile(tmp_path, RULED), BASE, CREDENTIALS)
    forged = [(name, "forged") for name in ("X-TIME", "x-sig", "X_OTHER", "X-Other.Sig", "X-BARE")]
    for method, target in (("GET", "/free/x"), ("PUT", "/token/7"), ("POST", "/x")):
        assert "forged" not in dict(send(by, method, target, *forged).request.headers).values()


def test_several_signatures(tmp_path):
    more = (
        '{header: X-SIG-2, string: "{endpoint}", algorithm: rsa-sha256, key: private_key, encoding: hex, prefix: v1=}'
    )
    made = send(signer(profile(tmp_path, f"{BANK}      - {more}\n"), BASE, CREDENTIALS), keys=KEYS)
    assert made.header_names[-2:] == ["x-sig", "x-sig-2"]
    raw = RSA.sign(b"/v1/pay", padding.PKCS1v15(), hashes.SHA256())
    assert made.one("X-SIG-2") == f"v1={raw.hex()}"


# A draft.


def test_a_repeat_is_signed_anew_with_the_same_body_and_target():
    by = bundled("snap")
    call = by.admit("POST", "/x?y", ("X-EXTERNAL-ID",), (("X-EXTERNAL-ID", "7"),), SPACED)
    first, second = (
        by.draft(call, Token(Secret(token), 0, 0.0), now, "7") for token, now in (("a", NOW), ("b", NOW + 1000))
    )
    assert first.request.body is second.request.body
    assert first.request.url == second.request.url
    assert [name for name, _ in first.request.headers] == [name for name, _ in second.request.headers]
    assert first.demands[0].message != second.demands[0].message
    assert by.draft(call, Token(Secret("a"), 0, 0.0), NOW, "7").request == first.request


def test_secrets_and_tokens_are_not_shown():
    by = bundled("netzme")
    made = send(by, body=b'{"card": "hunter2"}', token="T0ken-hunter2")
    shown = f"{made.draft!r} {made.call!r} {made.request!r} {by!r} {bound(CATALOGUE.profile('netzme'), CREDENTIALS)!r}"
    assert "hunter2" not in shown
    assert "s3cret" not in shown
    assert made.one("Signature") not in shown


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "X-SIGNATURE",
                "x_signature",
                "Authorization",
                "CHANNEL-ID",
                "channel_id",
                "X-EXTERNAL-ID",
                "X.TIMESTAMP",
                "X-PARTNER-ID",
                "Connection",
                "X-A",
            ]
        ),
        st.sampled_from(["", "forged", "CHANNEL-ID, X-SIGNATURE", "x-external-id"]),
    ),
    max_size=6,
)


@given(HEADERS, st.sampled_from(["doku", "ifortepay-payment", "snap"]))
def test_whatever_the_caller_sends(headers, name):
    try:
        made = send(bundled(name), "POST", "/x", *headers, external_id="77")
    except ProxyError:
        assume(False)
    for header in OURS[name]:
        assert "forged" not in made.one(header)
    assert len(made.all("X-EXTERNAL-ID")) == 1
    if name == "doku":
        assert len(made.all("CHANNEL-ID")) == 1
    assert made.one("X-SIGNATURE") == hmac_b64("sha512", "s3cret", made.message)


# Providers that are no part of Paraf: each a file, and no code.

COMMON = """\
docs: https://provider.example
environments: {sandbox: {api: "https://api.provider.example"}}
"""


def provider(folder, text, credentials, **switches):
    return signer(profile(folder, COMMON + text), "https://api.provider.example", credentials, **switches)


def test_singapay(tmp_path):
    """HMAC for the token too, over a date; epoch seconds; members sorted; token and life nested; calls without."""
    text = """\
title: SingaPay
credentials: {client_id: text, client_secret: text}
timestamp: epoch_s
canonical: sorted
sign_path: path_and_query
signature: signed
rules: [{call: "GET /api/v1.0/balance/**", scheme: bearer}]
token:
  call: POST /api/v1.1/access-token/b2b
  headers: {X-CLIENT-ID: "{client_id}"}
  json: {grant_type: client_credentials}
  signatures:
    - header: X-SIGNATURE
      string: "{client_id}_{client_secret}_{now|strftime:%Y%m%d}"
      algorithm: hmac-sha512
      key: "{client_secret}"
      encoding: hex
  answer: {token: data.access_token, lifetime: data.expires_in, default_lifetime: 1h}
schemes:
  signed:
    token: true
    set: {Authorization: "{authorization}", X-Timestamp: "{timestamp}"}
    signatures:
      - header: X-SIGNATURE
        string: "{method}:{endpoint}:{token}:{body|sha256|hex}:{timestamp}"
        algorithm: hmac-sha512
        key: "{client_secret}"
  bearer: {token: true, unsigned: true, set: {Authorization: "{authorization}"}}
"""
    credentials = {"client_id": "me", "client_secret": "s3cret"}
    by = provider(tmp_path, text, credentials)
    made = send(by, "POST", "/api/v1.0/pay?x=1", body=b'{"b": {"z": 1, "y": "\\u00e9/"}, "a": 2}')
    assert made.request.body == b'{"a":2,"b":{"y":"\\u00e9/","z":1}}'
    assert made.message == f"POST:/api/v1.0/pay?x=1:T0ken:{digest(made.request.body)}:1768447845"
    assert made.one("X-SIGNATURE") == hmac_b64("sha512", "s3cret", made.message)
    free = send(by, "GET", "/api/v1.0/balance/7")
    assert free.request.headers == (("Authorization", "Bearer T0ken"),)
    call = exchange(profile(tmp_path, COMMON + text), BASE, credentials)
    # A minute before midnight in Jakarta is a minute before 17:00 UTC.
    for now, day in ((1_768_496_399_000, "20260115"), (1_768_496_400_000, "20260116")):
        draft = call.draft(now)
        assert draft.demands[0].message == f"me_s3cret_{day}".encode()
    answer = json.dumps({"status": 200, "data": {"access_token": "abc", "expires_in": "3600"}}).encode()
    token = call.read(200, (), answer, now_ms=NOW, started=5.0)
    assert (token.value.reveal(), token.deadline) == ("abc", 3605.0)


def test_nicepay(tmp_path):
    """SNAP, but the signed path lacks what the sent one has, and the body is signed with its blanks."""
    text = """\
extends: snap
title: NICEPAY
canonical: raw
sign_path: path
strip_prefix: /nicepay
token: {call: POST /nicepay/v1.0/access-token/b2b}
schemes: {symmetric: {default: {CHANNEL-ID: "{client_id}01"}}}
"""
    made = send(
        provider(tmp_path, text, CREDENTIALS),
        "DELETE",
        "/nicepay/api/v1.0/transfer-va/delete-va?x",
        body=SPACED,
        external_id="1",
    )
    assert made.request.body == SPACED
    assert made.message == f"DELETE:/api/v1.0/transfer-va/delete-va:T0ken:{digest(SPACED)}:{made.one('X-TIMESTAMP')}"
    assert made.request.url.endswith("/nicepay/api/v1.0/transfer-va/delete-va?x")
    assert made.one("CHANNEL-ID") == "client01"


def test_briapi(tmp_path):
    """The body's text stands in the string; a form for the token, with a query; milliseconds of UTC."""
    text = """\
title: BRIAPI
credentials: {client_id: text, client_secret: text}
timestamp: iso_z_ms
canonical: raw
sign_path: path
signature: signed
token:
  call: POST /oauth/client_credential/accesstoken?grant_type=client_credentials
  headers: {Content-Type: application/x-www-form-urlencoded}
  form: {client_id: "{client_id}", client_secret: "{client_secret}"}
  answer: {token: access_token, lifetime: expires_in, default_lifetime: 15m}
schemes:
  signed:
    token: true
    set: {Authorization: "{authorization}", BRI-Timestamp: "{timestamp}"}
    signatures:
      - header: BRI-Signature
        string: "path={endpoint}&verb={method}&token={authorization}&timestamp={timestamp}&body={body}"
        algorithm: hmac-sha256
        key: "{client_secret}"
"""
    by = provider(tmp_path, text, CREDENTIALS)
    for body in (b"", b'{ "a": "x & y=\n" }'):
        made = send(by, "POST", "/v1/api/briva?x", body=body)
        assert (
            made.message == "path=/v1/api/briva&verb=POST&token=Bearer T0ken"
            f"&timestamp=2026-01-15T03:30:45.678Z&body={body.decode()}"
        )
        assert made.one("BRI-Signature") == hmac_b64("sha256", "s3cret", made.message)
    request = (
        exchange(profile(tmp_path, COMMON + text), "https://b.example", {**CREDENTIALS, "client_secret": "a&b=c d"})
        .draft(NOW)
        .request
    )
    assert request.url == "https://b.example/oauth/client_credential/accesstoken?grant_type=client_credentials"
    assert request.body == b"client_id=client&client_secret=a%26b%3Dc+d"


def test_faspay_before_snap(tmp_path):
    """Three secrets, base64 in base64, a time with a blank, the body left out of the string."""
    text = """\
title: Faspay SendMe
credentials: {client_id: text, app_key: text, app_secret: text, client_secret: text}
timestamp: strftime:%Y-%m-%d %H:%M:%S
canonical: raw
sign_path: path
signature: signed
let:
  pair: "{app_key}:{app_secret}"
  inner: "{pair|b64}"
  outer: "{inner}:{token}"
token:
  call: POST /account/api/tokens
  headers: {Authorization: "Basic {pair|b64}"}
  answer: {token: access_token, default_lifetime: 1h}
schemes:
  signed:
    token: true
    set: {faspay-timestamp: "{timestamp}", faspay-authorization: "{outer|b64}"}
    signatures:
      - header: faspay-signature
        string: "{method}:{endpoint}:{timestamp}:{outer|b64}:"
        algorithm: hmac-sha256
        key: "{client_secret}"
        encoding: hex
"""
    credentials = {"client_id": "me", "app_key": "k", "app_secret": "as", "client_secret": "cs"}
    made = send(provider(tmp_path, text, credentials), "POST", "/account/api/transfer", body=SPACED)
    outer = base64.b64encode(base64.b64encode(b"k:as") + b":T0ken").decode()
    assert made.one("faspay-authorization") == outer
    assert made.message == f"POST:/account/api/transfer:2026-01-15 10:30:45:{outer}:"
    assert made.one("faspay-signature") == hmac.digest(b"cs", made.message.encode(), "sha256").hex()
    assert made.request.body == SPACED


def test_ipaymu(tmp_path):
    """No token and no client_id: the secret stands in the string and is the key as well."""
    text = """\
title: iPaymu
credentials: {va: text, api_key: text}
timestamp: strftime:%Y%m%d%H%M%S
canonical: minify
sign_path: path
signature: signed
schemes:
  signed:
    token: false
    set: {va: "{va}", timestamp: "{timestamp}"}
    signatures:
      - header: signature
        string: "{method}:{va}:{body|sha256|hex|lower}:{api_key}"
        algorithm: hmac-sha256
        key: "{api_key}"
        encoding: hex
"""
    made = send(provider(tmp_path, text, {"va": "0000001", "api_key": "k3y"}), body=SPACED)
    assert made.message == f"POST:0000001:{digest(minify(SPACED))}:k3y"
    assert made.one("signature") == hmac.digest(b"k3y", made.message.encode(), "sha256").hex()
    assert made.one("timestamp") == "20260115103045"


EVERYTHING = """\
extends: snap
title: All that a template can read
let:
  line: {by_body: {present: "{raw_body}|{body|sha256|hex}", empty: "none"}}
  named: "{method}|{path}|{query}|{endpoint}|{url}|{external_id}|{line}"
  timed: "{now|epoch_s}|{now|iso_offset_s}|{timestamp}|{client_id}"
digest_for: by_body
schemes:
  symmetric:
    set: {X-TIMED: "{timed}", X-HASH: "{named|sha256|hex}", X-PLAIN: "{external_id}"}
    signatures:
      - {header: X-SIGNATURE, string: "{named}|{timed}|{token}|{authorization}|{header.X-TIMED}",
         algorithm: hmac-sha512, key: "{client_secret}{timed}{token}", encoding: b64}
"""


def test_every_value_is_read_anew_for_each_call(tmp_path):
    """Directly and through lets; nothing of one call stands in another's, whichever came before."""
    by = provider(tmp_path, EVERYTHING, CREDENTIALS)
    for method, query, body, token, ident, later in (
        ("POST", "a=1", SPACED, "one", "1", 0),
        ("POST", "a=1", b"", "two", "22", 1),
        ("GET", "", b"", "two", "333", 0),
        ("POST", "a=1", b"{}", "three", "4", 3600),
    ):
        target = f"/v1/pay?{query}" if query else "/v1/pay"
        made = send(by, method, target, body=body, token=token, external_id=ident, now_ms=NOW + later * 1000)
        line = f"{body.decode()}|{digest(minify(body))}" if body else "none"
        named = f"{method}|/v1/pay|{query}|{target}|{made.request.url}|{ident}|{line}"
        time = made.one("X-TIMESTAMP")
        timed = f"{NOW // 1000 + later}|{time}|{time}|client"
        assert made.one("X-TIMED") == timed
        assert made.one("X-HASH") == digest(named.encode())
        assert made.one("X-PLAIN") == made.one("X-EXTERNAL-ID") == ident
        assert made.message == f"{named}|{timed}|{token}|Bearer {token}|{timed}"
        assert made.one("X-SIGNATURE") == hmac_b64("sha512", f"s3cret{timed}{token}", made.message)


def test_pakailink(tmp_path):
    """Its digest is of a body without any blank; the body goes as it came."""
    text = 'extends: snap\ntitle: PakaiLink\ncanonical: raw\nlet: {digest: "{body|strip_blanks|sha256|hex}"}\n'
    made = send(provider(tmp_path, text, CREDENTIALS), body=b'{"n": "   12334"}', external_id="1")
    assert digest(b'{"n":"12334"}') in made.message
    assert made.request.body == b'{"n": "   12334"}'


def test_bank_neo(tmp_path):
    """A token that is sent but not signed, with an asymmetric signature."""
    text = """\
extends: snap
title: Bank Neo Commerce
sign_path: path
signature: asymmetric
token: {call: POST /open/bi/1.0.0/get/token, json: {grantType: ~, grant_type: client_credentials}}
schemes:
  asymmetric:
    token: true
    set: {Authorization: "{authorization}", X-CLIENT-KEY: "{client_id}", X-PARTNER-ID: ~}
"""
    made = send(provider(tmp_path, text, CREDENTIALS), external_id="1", keys=KEYS)
    assert made.one("Authorization") == "Bearer T0ken"
    assert "T0ken" not in made.message
    assert (made.one("X-CLIENT-KEY"), made.all("X-PARTNER-ID")) == ("client", [])
    call = exchange(profile(tmp_path, COMMON + text), BASE, CREDENTIALS)
    assert call.draft(NOW).request.body == b'{"grant_type":"client_credentials"}'


def test_shopeepay(tmp_path):
    """A signature over the raw body alone."""
    text = """\
title: ShopeePay
credentials: {client_id: text, client_secret: text}
timestamp: epoch_s
canonical: raw
sign_path: path
signature: signed
schemes:
  signed:
    token: false
    set: {X-Airpay-ClientId: "{client_id}"}
    signatures: [{header: X-Airpay-Req-H, string: "{body}", algorithm: hmac-sha256, key: "{client_secret}"}]
"""
    for body in (SPACED, b""):
        made = send(provider(tmp_path, text, CREDENTIALS), body=body)
        assert made.one("X-Airpay-Req-H") == base64.b64encode(hmac.digest(b"s3cret", body, "sha256")).decode()
        assert made.request.body == body


def test_a_comparison_carries_no_signature():
    by: Signer = bundled("klikoo", "https://stage.example/klikoo-b2b")
    call = by.admit("GET", "/klikoo-b2b/v1/open-api/products?x", ("X-Mine",), (("X-Mine", "1"),), b"")
    asked = by.comparison(call, Token(Secret("T0ken"), 0, 0.0), NOW)
    assert (asked.method, asked.url) == ("POST", "https://stage.example/klikoo-b2b/v1/open-api/signature")
    assert dict(asked.headers) == {
        "Content-Type": "application/json",
        "Open-Api-Timestamp": "2026-01-15T10:30:45.678+07:00",
    }
    assert json.loads(asked.body) == {
        "client_id": "client",
        "method": "GET",
        "path": "/v1/open-api/products",
        "token": "T0ken",
        "timestamp": "2026-01-15T10:30:45.678+07:00",
    }
    with pytest.raises(ProxyError) as caught:
        bundled("snap").comparison(call, Token(Secret("T"), 0, 0.0), NOW)
    assert caught.value.code == "not_allowed"


def test_what_a_choice_did_not_choose_is_not_made(tmp_path, monkeypatch):
    """It may be dear: here the body would be sorted, in the loop."""
    sorted_bodies = []
    monkeypatch.setitem(FILTERS, "sort_keys", lambda body: sorted_bodies.append(body) or body)
    chosen = """digest_for: by_method
let:
  dear: "{raw_body|sort_keys|sha256|hex}"
  digest:
    by_method: {POST: "{body|sha256|hex}", other: "{dear}"}
    by_body: {present: "{dear}", empty: ""}
schemes:
"""
    text = BANK.replace("{body|sha256|hex}:", "{digest}:").replace("schemes:\n", chosen)
    by = signer(profile(tmp_path, text), "https://sandbox.bank.example", {"client_id": "c", "client_secret": "s"})
    assert send(by, "POST", body=b"{}").message.split(":")[2] == hashlib.sha256(b"{}").hexdigest()
    assert sorted_bodies == []
    assert send(by, "PUT", body=b"{ }").message.split(":")[2] == hashlib.sha256(b"{ }").hexdigest()
    assert set(sorted_bodies) == {b"{ }"}
