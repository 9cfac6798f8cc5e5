"""Mistakes that public clients make, each told apart: no sockets, the judge alone."""

import hashlib
import json
from base64 import b64decode, b64encode, urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from sandbox_merchant import NOW_MS, HandClock, Merchant, loaded

from proxy.model import Secret
from proxy.sandbox.accounts import FreshAccount, SandboxAccount, fresh_accounts
from proxy.sandbox.judge import Issued, Judge, Known, RawRequest

BODY = '{ "name": "Toko \u00e9  Jaya", "amount": 1.10, "url": "https:\\/\\/a.id" }'.encode()
MINIFIED = '{"name":"Toko \u00e9  Jaya","amount":1.10,"url":"https:\\/\\/a.id"}'.encode()
TARGET = "/v1.0/transfer-va/create-va?b=2&a=%2F"
KNOWN = Known({"new": Issued(NOW_MS + 1), "old": Issued(NOW_MS + 1, replaced=True)})


def merchant(profile):
    account = SandboxAccount(profile, profile, "client-1", Secret("c2VjcmV0LXNlY3JldA=="))
    return Merchant(FreshAccount(account, None), ("h", 1), HandClock(), token="new")


def judged(one, over, change=lambda signature: signature):
    """Signed over MINIFIED (or what `over` says), sent as BODY."""
    judge = Judge.of(one.fresh.account)
    raw = judge.rule.canonical == "raw"
    headers = one.headers("POST", TARGET, BODY, **({"body": BODY if raw else MINIFIED} | over))
    headers[judge.rule.duty.signature] = change(headers[judge.rule.duty.signature])
    mount = f"/{one.fresh.account.name}"
    request = RawRequest("POST", TARGET, tuple(headers.items()), BODY, mount, "https://api.example")
    return judge.call(request, KNOWN, NOW_MS)


@pytest.mark.parametrize("profile", ["snap", "doku", "ifortepay-disbursement", "netzme"])
def test_the_right_thing_needs_no_explanation(profile):
    assert judged(merchant(profile), {}).words == ""


PLAIN, PATH = "/v1.0/transfer-va/create-va", "path"
MISTAKES = [
    ("doku", {"body": json.dumps(json.loads(BODY), separators=(",", ":")).encode()}, "body", "non-ASCII escaped"),
    ("doku", {"body": json.dumps(json.loads(BODY)).encode()}, "body", "blanks after colons"),
    ("doku", {"body": b"".join(BODY.split())}, "body", "inside strings"),
    ("doku", {"body": b""}, "body", "empty body"),
    ("doku", {"body": MINIFIED + b"\n"}, "body", "newline"),
    ("snap", {"path": PLAIN}, PATH, "without query or base path"),
    ("snap", {"path": "/snap" + TARGET}, PATH, "base path, path and query"),
    ("snap", {"path": "https://api.example/snap" + TARGET}, PATH, "the full URL"),
    ("snap", {"path": "https://api.example" + TARGET}, PATH, "without the base path"),
    ("snap", {"path": PLAIN + "?b=2&a=/"}, PATH, "decoded"),
    ("snap", {"path": PLAIN + "?a=%2F&b=2"}, PATH, "sorted query"),
    ("doku", {"path": PLAIN[1:]}, PATH, "without the slash before it"),
    ("snap", {"token": "old"}, "token", "an earlier token"),
    ("snap", {"time": str(NOW_MS)}, "time", "epoch milliseconds"),
    ("netzme", {"time": str(NOW_MS // 1000)}, "time", "epoch seconds"),
    ("snap", {"method": "PUT"}, "method", "PUT"),
    ("snap", {"secret": "client-1"}, "key", "client id"),
    ("snap", {"secret": "c2VjcmV0LXNlY3JldA==\n"}, "key", "newline"),
    ("netzme", {"key": f"c2VjcmV0LXNlY3JldA==-{NOW_MS}-new"}, "key", "without `Bearer`"),
    ("snap", {"hash": "sha1"}, "algorithm", "hmac-sha1"),
    ("snap", {"secret": "else"}, "key", "no known deviation"),
]


@pytest.mark.parametrize(("profile", "over", "part", "words"), MISTAKES, ids=[f"{m[2]}: {m[3]}" for m in MISTAKES])
def test_a_mistake_over_the_string_is_told(profile, over, part, words):
    verdict = judged(merchant(profile), over)
    assert (verdict.part, words in verdict.words) == (part, True), verdict.words
    assert verdict.answer.status == 401


WRITINGS = [
    ("snap", lambda s: urlsafe_b64encode(b64decode(s)).decode() + " ", "encoding", "is not base64 on one line"),
    ("snap", lambda s: b64decode(s).hex().upper(), "encoding", "in upper-case hex"),
    ("snap", lambda s: s.rstrip("="), "encoding", "without its padding"),
    ("snap", lambda s: b64encode(b64decode(s).hex().encode()).decode(), "encoding", "base64 of hex digits"),
    ("snap", lambda s: b64encode(b64decode(s)[:40]).decode(), "algorithm", "has 40 bytes, hmac-sha512 gives 64"),
    ("snap", lambda _: "", "header", "X-SIGNATURE is missing"),
    ("doku-nonsnap", lambda s: s.removeprefix("HMACSHA256="), "encoding", "without the prefix"),
    ("doku-nonsnap", lambda s: s.replace("HMACSHA256", "HMACHSHA256"), "encoding", "is not HMACSHA256=base64"),
]


@pytest.mark.parametrize(("profile", "change", "part", "words"), WRITINGS, ids=[w[3] for w in WRITINGS])
def test_a_signature_written_otherwise_is_told(profile, change, part, words):
    verdict = judged(merchant(profile), {}, change)
    assert (verdict.part, words in verdict.words) == (part, True), verdict.words


def test_dokus_digest_written_otherwise_is_told():
    one = merchant("doku-nonsnap")
    digest = b64encode(hashlib.sha256(BODY).digest()).decode()
    for written, words in ((f"SHA-256={digest}", "SHA-256="), (hashlib.sha256(BODY).hexdigest(), "in hex")):
        headers = one.headers("POST", TARGET, BODY, digest=written)
        verdict = Judge.of(one.fresh.account).call(
            RawRequest("POST", TARGET, tuple(headers.items()), BODY), KNOWN, NOW_MS
        )
        assert (verdict.part, words in verdict.words) == ("body", True), verdict.words


def test_another_rsa_padding_and_hash_are_told():
    fresh = fresh_accounts(["ifortepay-payment"])[0]
    one = Merchant(fresh, ("h", 1), HandClock())
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    for pad, hash_, words in (
        (pss, hashes.SHA256(), "rsa-pss-sha256"),
        (padding.PKCS1v15(), hashes.SHA512(), "rsa-sha512"),
    ):
        headers = one.headers("POST", TARGET, b"", kind="asymmetric")
        text = f"POST:{TARGET}:{hashlib.sha256(b'').hexdigest()}:{headers['X-TIMESTAMP']}".encode()
        headers["X-SIGNATURE"] = b64encode(loaded(fresh.private_key_pem).sign(text, pad, hash_)).decode()
        request = RawRequest("POST", TARGET, tuple(headers.items()))
        verdict = Judge.of(fresh.account).call(request, Known(), NOW_MS)
        assert (verdict.part, words in verdict.words) == ("algorithm", True), verdict.words


def test_fresh_accounts_are_all_different():
    names = [one.account.name for one in fresh_accounts(["netzme", "doku-nonsnap", "netzme"])]
    assert names == ["netzme", "doku-nonsnap", "netzme-2"]
    accounts = [one.account for one in fresh_accounts(["netzme"] * 5)]
    assert len({account.client_secret for account in accounts}) == len({account.client_id for account in accounts}) == 5
