"""Every shared vector through the signing core: the profiles in config/providers decide, the vectors judge."""

import base64
import hashlib
import json
from datetime import datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from vectors_read import exchange, named, octets, private_key, signer, token, vector_file, vectors

from proxy.errors import TokenFault
from proxy.headers import names_of
from proxy.model import Headers
from proxy.signing.canonical import NotJson, minify, sort_keys
from proxy.signing.draft import Draft
from proxy.signing.timestamps import time_formatter

MODES = {"raw": bytes, "minify": minify, "sorted": sort_keys}
PROFILES = {
    ("klikoo", "klikoo.transaction"): "klikoo",
    ("netzme", "netzme.transaction"): "netzme",
    ("doku", "snap.symmetric"): "doku",
    ("doku", "snap.asymmetric"): "doku",
    ("doku", "doku.nonsnap"): "doku-nonsnap",
    ("snap", "snap.symmetric"): "snap",
    ("snap", "snap.asymmetric"): "snap",
    ("ifortepay", "snap.symmetric"): "ifortepay-disbursement",
    ("ifortepay", "snap.asymmetric"): "ifortepay-payment",
}
TOKEN_PROFILES = {"klikoo": "klikoo", "doku": "doku", "snap": "snap", "ifortepay": "ifortepay-payment"}


def epoch_ms(text):
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def time_switch(text):
    zone, precision = ("z" if text.endswith("Z") else "offset"), ("ms" if "." in text else "s")
    return f"iso_{zone}_{precision}"


def secret_of(file, vector):
    return vector_file(file)["keys"][vector["secret"]]["value"] if "secret" in vector else ""


def client_of(file, vector):
    inputs = vector["inputs"]
    known = vector_file(file)["keys"].get(vector.get("secret"), {}).get("client_id", "client")
    return inputs.get("client_id") or inputs.get("partner_id") or known


def sealed(draft: Draft, keys):
    return draft.seal([demand.answer(keys) for demand in draft.demands])


def is_set(headers: Headers, expected: dict[str, str]) -> None:
    for name, value in expected.items():
        assert [found for key, found in headers if key.lower() == name.lower()] == [value], name


def calls():
    for (file, scheme), profile in PROFILES.items():
        for vector in vectors(file, scheme):
            if vector.get("direction", "outbound").startswith("outbound"):
                yield pytest.param(file, profile, vector, id=vector["id"])


def prepared(file, profile, vector, **switches):
    inputs = vector["inputs"]
    if "request_time_ms" in inputs:
        now_ms = int(inputs["request_time_ms"])
    else:
        now_ms = epoch_ms(inputs["timestamp"])
        switches.setdefault("timestamp", time_switch(inputs["timestamp"]))
    url = vector["request"].get("url") or "https://api.provider.example" + vector["request"]["target"]
    base = url.removesuffix(vector["request"]["target"])
    if vector["scheme"] == "snap.asymmetric":
        switches["signature"] = "asymmetric"
    made = signer(profile, base, client_id=client_of(file, vector), secret=secret_of(file, vector), **switches)
    headers = [("CHANNEL-ID", inputs["channel_id"])] if "channel_id" in inputs else []
    headers += [("X-EXTERNAL-ID", inputs["external_id"])] if "external_id" in inputs else []
    headers += [("Request-Id", inputs["request_id"])] if "request_id" in inputs else []
    request = vector["request"]
    call = made.admit(request["method"], request["target"], names_of(headers), tuple(headers), octets(request["body"]))
    kept = token(inputs["token"]) if "token" in inputs else None
    return call, made.draft(call, kept, now_ms, call.external_id)


@pytest.mark.parametrize(("file", "profile", "vector"), list(calls()))
def test_calls(file, profile, vector):
    """With the profile's own switches, but for those that a vector states in `options`."""
    options = vector.get("options", {})
    call, draft = prepared(file, profile, vector, **({"sign_path": options["path"]} if "path" in options else {}))
    keys = {"private_key": private_key(file, vector["key"])} if "key" in vector else {}
    signed, expect = sealed(draft, keys), vector["expect"]
    assert draft.demands[0].message == base64.b64decode(expect["string_to_sign_b64"])
    is_set(signed.headers, expect["headers"])
    if "body_canonical" in expect:
        assert call.canonical_body == signed.body == octets(expect["body_canonical"])
        assert hashlib.sha256(call.canonical_body).hexdigest() == expect.get(
            "body_sha256", hashlib.sha256(call.canonical_body).hexdigest()
        )
    if "hmac_key" in expect:
        assert draft.demands[0].key == expect["hmac_key"].encode()
    assert signed.url.endswith(vector["request"]["target"])


@pytest.mark.parametrize(("file", "profile", "vector"), list(calls()))
def test_other_readings(file, profile, vector):
    """The switches `canonical` and `sign_path` give the other readings that a vector lists."""
    keys = {"private_key": private_key(file, vector["key"])} if "key" in vector else {}
    options = vector.get("options", {})
    path = {"sign_path": options["path"]} if "path" in options else {}
    readings = [({**path, "canonical": mode}, want) for mode, want in vector.get("other_body_modes", {}).items()]
    readings += [({"sign_path": mode}, want) for mode, want in vector.get("other_path_modes", {}).items()]
    for switches, want in readings:
        _, draft = prepared(file, profile, vector, **switches)
        assert draft.demands[0].message == base64.b64decode(want["string_to_sign_b64"]), switches
        signed = sealed(draft, keys)
        assert want["signature"] in [value for _, value in signed.headers], switches


def callbacks():
    for file, scheme, profile in (
        ("ifortepay", "ifortepay.callback", "ifortepay-payment"),
        ("doku", "doku.nonsnap", "doku-nonsnap"),
    ):
        for vector in vectors(file, scheme):
            if not vector["direction"].startswith("outbound"):
                yield pytest.param(file, profile, vector, id=vector["id"])


@pytest.mark.parametrize(("file", "profile", "vector"), list(callbacks()))
def test_callbacks(file, profile, vector):
    """What a provider signs runs through the same core: its vectors are reproduced from the profile's `callbacks`."""
    expect, inputs, request = vector["expect"], vector["inputs"], vector["request"]
    name = {"response to be verified": "answer"}.get(vector["direction"], "notification")
    name = "payment_notify" if file == "ifortepay" else name
    url = inputs.get("notify_url") or "https://merchant.example" + request["target"]
    origin, slash, rest = url.partition("://")[2].partition("/")
    switches = {} if file == "ifortepay" else {"sign_path": "path"}
    made = signer(
        profile, "https://" + origin, client_id=client_of(file, vector), secret=secret_of(file, vector), **switches
    )
    headers = tuple((key, value) for key, value in expect["headers"].items())
    demand = made.callback(name, request["method"], slash + rest, headers, octets(request["body"]), None)
    assert demand.message == base64.b64decode(expect["string_to_sign_b64"])
    prefix = "HMACSHA256=" if file == "doku" else ""
    assert prefix + base64.b64encode(demand.answer({})).decode() == expect["signature"]


def token_calls():
    for file, profile in TOKEN_PROFILES.items():
        for vector in vectors(file, "snap.token", "klikoo.token"):
            yield pytest.param(file, profile, vector, id=vector["id"])


@pytest.mark.parametrize(("file", "profile", "vector"), list(token_calls()))
def test_token_calls(file, profile, vector):
    inputs, expect = vector["inputs"], vector["expect"]
    secret = vector_file(file)["keys"][f"{file}-client"]["value"]
    made = exchange(profile, client_id=inputs["client_id"], secret=secret, timestamp=time_switch(inputs["timestamp"]))
    draft = made.draft(epoch_ms(inputs["timestamp"]))
    signed = sealed(draft, {"private_key": private_key(file, vector["key"])})
    assert draft.demands[0].message == base64.b64decode(expect["string_to_sign_b64"])
    is_set(signed.headers, expect["request"]["headers"])
    assert json.loads(signed.body) == json.loads(octets(expect["request"]["body"]))
    if profile != "snap" and profile != "ifortepay-payment":
        assert signed.url.endswith(expect["request"]["path"])


@pytest.mark.parametrize("vector", vectors("netzme", "netzme.basic"), ids=named)
def test_basic(vector):
    inputs, expect = vector["inputs"], vector["expect"]["request"]
    signed = sealed(exchange("netzme", client_id=inputs["client_id"], secret=inputs["client_secret"]).draft(0), {})
    is_set(signed.headers, expect["headers"])
    assert (signed.method, signed.url.partition("example")[2]) == (expect["method"], expect["path"])
    assert json.loads(signed.body) == json.loads(octets(expect["body"]))


@pytest.mark.parametrize("vector", vectors("minify"), ids=named)
@pytest.mark.parametrize("mode", ["minify", "sorted"])
def test_canonical_bodies(vector, mode):
    body, want = octets(vector["body"]), octets(vector["expect"][mode])
    if vector["is_json"]:
        assert MODES[mode](body) == want
    else:
        with pytest.raises(NotJson):
            MODES[mode](body)
        assert body == want


@pytest.mark.parametrize("vector", vectors("timestamps"), ids=named)
def test_timestamps(vector):
    for name, want in vector["expect"].items():
        assert time_formatter(name)(vector["epoch_ms"]).decode() == want


@pytest.mark.parametrize("vector", vectors("paths"), ids=named)
def test_paths(vector):
    """From the inbound target to the upstream URL and the signed path; the way in is tested with its own module."""
    base, target = vector["upstream_base"], vector["inbound_target"].removeprefix(vector["route_prefix"])
    target = target if target.startswith("/") else "/" + target
    for kind in ("path", "path_and_query"):
        made = signer(
            "snap", base, sign_path=kind, strip_base_path=vector["strip_base_path_when_signing"], string="{endpoint}"
        )
        path = made.base_path + target
        draft = made.draft(made.admit("GET", path, (), (), b""), token("t"), 0, None)
        assert draft.request.url == vector["expect"]["upstream_url"]
        assert draft.demands[0].message.decode() == vector["expect"][f"signed_{kind}"]


@pytest.mark.parametrize("vector", vectors("token-responses"), ids=named)
def test_token_answers(vector):
    profile = {"ifortepay": "ifortepay-payment"}.get(vector["provider"], vector["provider"])
    made, answer, expect = exchange(profile, client_id="c"), vector["response"], vector["expect"]

    def read():
        return made.read(answer["status"], (), answer["body"].encode(), now_ms=vector["received_at_ms"], started=7.0)

    if expect["outcome"] == "token":
        got = read()
        assert got.value.reveal() == expect["token"]
        assert got.expires_at_ms == expect["expires_at_ms"]
        assert got.deadline == 7.0 + expect["lifetime_s"]
    else:
        with pytest.raises(TokenFault) as fault:
            read()
        assert fault.value.kind == expect["kind"]


def published(name):
    return next(v for v in vectors("published") if v["id"] == name)


@pytest.mark.parametrize(
    "name", ["published-ifp-token-computed", "published-ifp-token-computed-colon", "published-netzme-vsnap-key-512"]
)
def test_published_tokens(name):
    vector = published(name)
    separator = vector.get("options", {}).get("separator", "|")
    made = exchange("snap", client_id=vector["inputs"]["client_id"], token_separator=separator)
    draft = made.draft(epoch_ms(vector["inputs"]["timestamp"]))
    key = load_pem_private_key(vector["private_pem"].encode(), None, unsafe_skip_rsa_key_validation=True)
    assert draft.demands[0].message.decode() == vector["expect"]["string_to_sign"]
    assert base64.b64encode(draft.demands[0].answer({"private_key": key})).decode() == vector["expect"]["signature"]


def test_the_published_sample_signature_is_rejected():
    """`published_signature` of the Ifortepay page was made with another key: nothing may take it for right."""
    vector = published("published-ifp-token-sample")
    key = load_pem_public_key(vector["public_pem"].encode())
    for separator in "|:":
        message = f"MCP00000001{separator}2020-12-18T10:55:00+07:00".encode()
        with pytest.raises(InvalidSignature):
            key.verify(base64.b64decode(vector["published_signature"]), message, padding.PKCS1v15(), hashes.SHA256())


def test_published_netzme():
    vector = published("published-netzme-computed")
    made = signer("netzme", "https://tokoapi-stg.netzme.com", secret=vector["inputs"]["client_secret"])
    call = made.admit("GET", vector["request"]["target"], (), (), b"")
    draft = made.draft(call, token(vector["inputs"]["token"]), int(vector["inputs"]["request_time_ms"]), None)
    assert draft.demands[0].message.decode() == vector["expect"]["string_to_sign"]
    assert draft.demands[0].key == vector["expect"]["hmac_key"].encode()
    assert draft.demands[0].answer({}).hex() == vector["expect"]["signature"]


@pytest.mark.parametrize(
    "vector", [v for v in vectors("published", "body") if "body" in v and "expect" in v], ids=named
)
def test_published_body_hashes(vector):
    for mode, want in vector["expect"].items():
        assert hashlib.sha256(MODES[mode](octets(vector["body"]))).hexdigest() == want["sha256"]


@pytest.mark.parametrize("name", ["published-doku-nonsnap-layout", "published-doku-nonsnap-get-layout"])
def test_published_layouts(name):
    """Component strings as DOKU prints them; the digest of its unpublished body is put in by hand."""
    vector = published(name)
    inputs, made = (
        vector["inputs"],
        signer("doku-nonsnap", "https://api.doku.com", client_id=vector["inputs"]["client_id"]),
    )
    method = "POST" if "digest" in inputs else "GET"
    call = made.admit(method, inputs["path"], (), (), b"")
    message = made.draft(call, None, epoch_ms(inputs["timestamp"]), inputs["request_id"]).demands[0].message.decode()
    if "digest" in inputs:
        empty = base64.b64encode(hashlib.sha256(b"").digest()).decode()
        message = message.replace(empty, inputs["digest"])
    assert message == vector["expect"]["string_to_sign"]


def test_all_vectors_are_used():
    """271 of them; what is not run here says why in its own verdict, or runs in tests/test_keyforms.py."""
    sets = (
        "published",
        "klikoo",
        "netzme",
        "ifortepay",
        "doku",
        "snap",
        "minify",
        "key-formats",
        "timestamps",
        "token-responses",
        "paths",
    )
    assert sum(len(vectors(name)) for name in sets) == 271
