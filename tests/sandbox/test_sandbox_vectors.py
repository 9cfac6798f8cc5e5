"""Every shared vector through the sandbox's own verification, and each of them with one byte changed."""

import base64
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from proxy.model import Secret
from proxy.sandbox.accounts import SandboxAccount
from proxy.sandbox.bodies import canonical
from proxy.sandbox.desk import Desk
from proxy.sandbox.judge import Issued, Judge, Known, RawRequest
from proxy.sandbox.rules import RULES
from proxy.sandbox.schemes import SCHEMES, Keys, Parts, verify
from proxy.sandbox.stamps import instant_ms

FOLDER = Path(__file__).parents[1] / "vectors"
SETS = {
    name: json.loads((FOLDER / f"{name}.json").read_text())
    for name in ("klikoo", "netzme", "ifortepay", "doku", "snap")
}
BODY_METHODS = ("POST", "PUT", "PATCH")


@dataclass(frozen=True)
class Case:
    """One vector under one reading."""

    id: str
    set: str
    vector: dict[str, Any]
    mode: str
    path_mode: str
    canonical: bytes
    string: bytes
    signature: str

    @property
    def scheme(self) -> str:
        return self.vector["scheme"]

    @property
    def body(self) -> bytes:
        return base64.b64decode(self.vector["request"]["body"]["b64"])

    @property
    def time(self) -> str:
        inputs = self.vector["inputs"]
        return inputs.get("timestamp") or inputs["request_time_ms"]


def signed_cases() -> Iterator[Case]:
    for name, vectors in SETS.items():
        for vector in vectors["vectors"]:
            if not vector["scheme"].endswith((".token", ".basic")):
                yield from readings(name, vector)


def readings(name: str, vector: dict[str, Any]) -> Iterator[Case]:
    expect, id_ = vector["expect"], vector["id"]
    mode = expect.get("body_mode", "raw")
    path = vector.get("options", {}).get("path", "notify_url")
    body = base64.b64decode(expect.get("body_canonical", vector["request"]["body"])["b64"])
    yield Case(id_, name, vector, mode, path, body, base64.b64decode(expect["string_to_sign_b64"]), expect["signature"])
    for other, values in vector.get("other_body_modes", {}).items():
        bytes_ = base64.b64decode(values["body_canonical"]["b64"])
        string = base64.b64decode(values["string_to_sign_b64"])
        yield Case(f"{id_}-{other}", name, vector, other, path, bytes_, string, values["signature"])
    for other, values in vector.get("other_path_modes", {}).items():
        yield Case(
            f"{id_}-{other}", name, vector, mode, other, body, values["string_to_sign"].encode(), values["signature"]
        )


def keys_of(case_set: str, vector: dict[str, Any]) -> Keys:
    keys = SETS[case_set]["keys"]
    secret = Secret(keys[vector["secret"]]["value"]) if "secret" in vector else Secret("")
    pem = keys[vector["key"]]["public_pem"].encode() if "key" in vector else None
    return Keys(secret, load_pem_public_key(pem) if pem else None)


def path_of(case: Case) -> str:
    if case.path_mode == "notify_url":
        return case.vector["inputs"]["notify_url"]
    request = case.vector["request"]
    choices = {"path": request["target"].partition("?")[0], "path_and_query": request["target"]}
    return choices.get(case.path_mode) or request["url"]


def parts_of(case: Case) -> Parts:
    inputs, method = case.vector["inputs"], case.vector["request"]["method"]
    digested = case.scheme != "doku.nonsnap" or method in BODY_METHODS
    return Parts(
        method,
        path_of(case),
        case.canonical,
        SCHEMES[case.scheme].digest(case.canonical) if digested else "",
        case.time,
        inputs.get("token", ""),
        inputs.get("client_id", ""),
        inputs.get("request_id", ""),
        inputs.get("timestamp_name", ""),
        inputs.get("x_version", ""),
    )


CASES = list(signed_cases())
TOKENS = [(name, v) for name, s in SETS.items() for v in s["vectors"] if v["scheme"].endswith(".token")]
BASICS = [v for v in SETS["netzme"]["vectors"] if v["scheme"] == "netzme.basic"]


def test_nothing_is_left_out():
    assert len(TOKENS) == 14
    assert len(BASICS) == 4
    assert {len(s["vectors"]) for s in SETS.values()} == {19, 38, 49, 17}
    assert len({case.vector["id"] for case in CASES}) + len(TOKENS) + len(BASICS) == 19 + 19 + 38 + 49 + 17


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_accepted(case):
    scheme, parts = SCHEMES[case.scheme], parts_of(case)
    assert canonical(case.body, case.mode) == case.canonical
    assert scheme.string(parts) == case.string
    assert verify(scheme, parts, keys_of(case.set, case.vector), case.signature)


def another_letter(dice: random.Random, text: str) -> str:
    at = dice.randrange(len(text) or 1)
    return text[:at] + dice.choice([c for c in "0aZ/" if c != text[at : at + 1]]) + text[at + 1 :]


def another_byte(dice: random.Random, body: bytes) -> bytes:
    at = dice.randrange(len(body) or 1)
    return body[:at] + bytes([(body[at : at + 1] or b"\0")[0] ^ dice.randrange(1, 256)]) + body[at + 1 :]


def with_body(case: Case, parts: Parts, body: bytes) -> Parts:
    return replace(parts, body=body, digest=parts.digest and SCHEMES[case.scheme].digest(body))


def changed_parts(case: Case, dice: random.Random) -> Iterator[Parts]:
    parts, string = parts_of(case), SCHEMES[case.scheme].string
    for _ in range(3):
        yield replace(parts, path=another_letter(dice, parts.path))
        yield replace(parts, time=another_letter(dice, parts.time))
        if parts.token:
            yield replace(parts, token=another_letter(dice, parts.token))
        changed = with_body(case, parts, another_byte(dice, parts.body))
        if string(changed) != string(parts):  # a GET of DOKU's non-SNAP scheme does not cover its body
            yield changed


def changed_keys(keys: Keys, dice: random.Random) -> Iterator[Keys]:
    if keys.public_key is None:
        secret = keys.secret.reveal()
        yield from (Keys(Secret(another_letter(dice, secret))) for _ in range(3))
        return
    numbers = keys.public_key.public_numbers()
    for _ in range(3):
        flipped = numbers.n ^ (1 << dice.randrange(1, 2000))
        yield Keys(keys.secret, RSAPublicNumbers(numbers.e, flipped).public_key())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refused_with_one_byte_changed(case):
    dice, scheme, keys = random.Random(case.id), SCHEMES[case.scheme], keys_of(case.set, case.vector)
    changed = list(changed_parts(case, dice))
    assert len(changed) >= 6
    assert not any(verify(scheme, parts, keys, case.signature) for parts in changed)
    assert not any(verify(scheme, parts_of(case), other, case.signature) for other in changed_keys(keys, dice))
    assert not verify(scheme, parts_of(case), keys, another_letter(dice, case.signature))


PROFILES = {"klikoo": "klikoo", "netzme": "netzme", "ifortepay": "ifortepay-payment", "doku": "doku", "snap": "snap"}
CALLS = [
    case for case in CASES if case.path_mode != "notify_url" and "verified" not in case.vector.get("direction", "")
]


def account_of(case: Case) -> SandboxAccount:
    inputs, keys = case.vector["inputs"], keys_of(case.set, case.vector)
    profile = "doku-nonsnap" if case.scheme == "doku.nonsnap" else PROFILES[case.set]
    choices = {"canonical": case.mode, "sign_path": case.path_mode, "timestamp": "free"}
    client_id = inputs.get("client_id") or inputs.get("partner_id", "klikoo-client")
    return SandboxAccount("a", profile, client_id, keys.secret, keys.public_key, choices)


def request_of(case: Case) -> RawRequest:
    request, url = case.vector["request"], case.vector["request"].get("url", "http://localhost/")
    origin = "/".join(url.split("/")[:3])
    return RawRequest(
        request["method"], request["target"], tuple(case.vector["expect"]["headers"].items()), case.body, origin=origin
    )


def judged(case: Case, request: RawRequest):
    """With the token of the request live, whatever it is: the signature alone must tell."""
    token = dict(request.headers).get("Authorization", "").removeprefix("Bearer ")
    now_ms = instant_ms(case.time, "free")
    return Judge.of(account_of(case)).call(request, Known({token: Issued(now_ms + 1)}), now_ms)


def resigned(case: Case, **changes: Any) -> RawRequest:
    """The vector's request carrying this reading's signature, with changes."""
    request = request_of(case)
    name = RULES[account_of(case).profile].duty.signature
    headers = {**dict(request.headers), name: case.signature, **changes.pop("headers", {})}
    return replace(request, headers=tuple(headers.items()), **changes)


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.id)
def test_the_judge_accepts_the_whole_request(case):
    verdict = judged(case, resigned(case))
    assert (verdict.answer.status, verdict.words) == (200, "")
    content = verdict.answer.content
    assert content.get("data", content)["stringToSign"] == case.string.decode()


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.id)
def test_the_judge_refuses_the_request_with_one_byte_changed(case):
    dice, request = random.Random(case.id), request_of(case)
    rule = RULES[account_of(case).profile]
    changes = [{"target": another_letter(dice, path_of(case)) if case.path_mode != "full_url" else "/other"}]
    changes += [{"headers": {rule.duty.time: another_letter(dice, case.time)}}]
    if "token" in case.vector["inputs"]:
        changes += [{"headers": {"Authorization": "Bearer " + another_letter(dice, case.vector["inputs"]["token"])}}]
    if case.scheme != "doku.nonsnap" or request.method in BODY_METHODS:
        changes += [{"body": next(filter(lambda b: canonical(b, case.mode) != case.canonical, bodies(dice, case)))}]
    for change in changes:
        verdict = judged(case, resigned(case, **change))
        assert not verdict.accepted, change
        assert verdict.answer.status in (400, 401)


def bodies(dice: random.Random, case: Case) -> Iterator[bytes]:
    while True:
        yield another_byte(dice, case.body)


def token_desk(name: str, vector: dict[str, Any]) -> tuple[Desk, RawRequest, int]:
    request, inputs, keys = vector["expect"]["request"], vector["inputs"], SETS[name]["keys"]
    secret = next((Secret(key["value"]) for key in keys.values() if key["type"] == "secret"), Secret(""))
    public_key = keys_of(name, vector).public_key
    choices = {"timestamp": "free"}
    account = SandboxAccount("a", PROFILES[name], inputs["client_id"], secret, public_key, choices)
    raw = RawRequest(
        "POST", request["path"], tuple(request["headers"].items()), base64.b64decode(request["body"]["b64"])
    )
    return Desk(account), raw, instant_ms(inputs["timestamp"], "free")


@pytest.mark.parametrize(("name", "vector"), TOKENS, ids=[vector["id"] for _, vector in TOKENS])
def test_token_calls(name, vector):
    desk, request, now_ms = token_desk(name, vector)
    rule = desk.judge.rule.token
    assert desk.token(rule, request, now_ms).answer.status == 200

    dice, headers = random.Random(vector["id"]), dict(request.headers)
    for header in {rule.duty.time, rule.duty.signature, *(["X-CLIENT-KEY"] if "X-CLIENT-KEY" in headers else [])}:
        changed = {**headers, header: another_letter(dice, headers[header])}
        verdict = desk.token(rule, replace(request, headers=tuple(changed.items())), now_ms)
        assert verdict.answer.status in (400, 401), header
    for keys in changed_keys(Keys(Secret(""), desk.judge.account.public_key), dice):
        other = Desk(replace(desk.judge.account, public_key=keys.public_key))
        assert other.token(rule, request, now_ms).answer.status in (400, 401)


@pytest.mark.parametrize("vector", BASICS, ids=lambda vector: vector["id"])
def test_basic_token_calls(vector):
    inputs, request, dice = vector["inputs"], vector["expect"]["request"], random.Random(vector["id"])
    account = SandboxAccount("a", "netzme", inputs["client_id"], Secret(inputs["client_secret"]))
    raw = RawRequest(
        "POST", request["path"], tuple(request["headers"].items()), base64.b64decode(request["body"]["b64"])
    )
    rule = RULES["netzme"].token
    assert Desk(account).token(rule, raw, 0).answer.status == 200

    others = [
        replace(account, client_secret=Secret(another_letter(dice, inputs["client_secret"]))),
        replace(account, client_id=another_letter(dice, inputs["client_id"])),
    ]
    for other in others:
        verdict = Desk(other).token(rule, raw, 0)
        assert (verdict.answer.status, verdict.part) == (401, "credentials")


def test_the_published_sample_that_no_key_made_is_refused():
    published = json.loads((FOLDER / "published.json").read_text())["vectors"]
    sample = next(v for v in published if v["id"] == "published-ifp-token-sample")
    computed = next(v for v in published if v["id"] == "published-ifp-token-computed")
    key = load_pem_public_key(sample["public_pem"].encode())
    inputs = computed["inputs"]
    parts = Parts("POST", "", b"", "", inputs["timestamp"], client_id=inputs["client_id"])
    assert verify(SCHEMES["snap.token"], parts, Keys(Secret(""), key), computed["expect"]["signature"])
    assert not verify(SCHEMES["snap.token"], parts, Keys(Secret(""), key), sample["published_signature"])
