"""Requests signed by a merchant's own code, right and wrong: what was made wrong is what is named.

The signers here are written from the providers' pages and share nothing with `proxy.signing`.
"""

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from itertools import combinations
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from own_profiles import BANK, NOW, bound, profile, send, signer
from running import EVERY
from vectors_read import binding

from proxy.addresses import BaseUrl
from proxy.signing.diagnose import Diagnosis, diagnose
from proxy.signing.guess import AtHand
from proxy.signing.reading import Presented

BASE = BaseUrl.parse("https://api.provider.example/gate")
PREFIX = "/pay"
CLIENT, SECRET, OTHER_SECRET = "MCH-0001", "a-Secret-0001", "the-Secret-of-another"
TOKEN, OLD_TOKEN = "tok.AbC123", "tok.old"
BODY = '{"name": "Café <b> & co", "path": "a/b", "amount": {"value": 10000.00, "currency": "IDR"},\n "1": "x  y"}'
NOW_MS = 1_760_000_000_000


@cache
def key(_which: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True)
class Parts:
    """What a signer puts together; a mistake changes one of them."""

    method: str
    path: str
    body: bytes
    time: str
    token: str = TOKEN
    bearer: str = "Bearer "
    client: str = CLIENT
    separator: str = ""
    end: str = ""
    digest: Any = field(default=lambda body: hashlib.sha256(body).hexdigest())
    digest_line: bool = True
    secret: str = SECRET
    algorithm: str = "sha512"
    rsa: str = ""
    write: Any = field(default=lambda raw: base64.b64encode(raw).decode())
    prefix: str = ""

    def seal(self, message: str, secret: str | None = None) -> str:
        if self.rsa:
            algorithm = {"sha256": hashes.SHA256(), "sha512": hashes.SHA512()}[self.algorithm]
            raw = key(self.rsa).sign(message.encode(), padding.PKCS1v15(), algorithm)
        else:
            key_bytes = (self.secret if secret is None else secret).encode()
            raw = hmac.digest(key_bytes, message.encode(), self.algorithm)
        return self.prefix + self.write(raw)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def iso(at_ms: int, *, ms: bool = False, utc: bool = False) -> str:
    at = time.gmtime(at_ms // 1000 + (0 if utc else 7 * 3600))
    return time.strftime("%Y-%m-%dT%H:%M:%S", at) + (f".{at_ms % 1000:03d}" if ms else "") + ("Z" if utc else "+07:00")


def compact(body: str) -> bytes:
    """Blanks outside strings dropped, by hand for the one body of these tests."""
    return body.replace('": ', '":').replace(', "', ',"').replace(',\n "', ',"').encode()


@dataclass(frozen=True)
class Kind:
    """One kind of signature: how it is put together, and what goes into the headers."""

    profile: str
    switches: dict[str, Any]
    parts: Any
    sign: Any
    headers: Any
    call: str = "/v1/transfer"


def symmetric(p: Parts) -> str:
    return p.seal(p.separator.join([p.method, p.path, p.token, p.digest(p.body), p.time]) + p.end)


def asymmetric(p: Parts) -> str:
    return p.seal(p.separator.join([p.method, p.path, p.digest(p.body), p.time]) + p.end)


def salted(p: Parts) -> str:
    token = p.bearer + p.token
    message = p.separator.join(
        [f"path={p.path}", f"method={p.method}", f"token={token}", f"timestamp={p.time}", f"body={p.body.decode()}"]
    )
    return p.seal(message + p.end, f"{p.secret}-{p.time}-{token}")


def components(p: Parts) -> str:
    lines = [f"Client-Id:{p.client}", "Request-Id:REQ-1", f"Request-Timestamp:{p.time}", f"Request-Target:{p.path}"]
    return p.seal(p.separator.join([*lines, *([f"Digest:{p.digest(p.body)}"] if p.digest_line else [])]) + p.end)


def fetching(p: Parts) -> str:
    return p.seal(p.separator.join([p.client, p.time]) + p.end)


def bare_headers(p: Parts, s: str) -> dict[str, str]:
    return {"X-TIMESTAMP": p.time, "X-PARTNER-ID": p.client, "X-EXTERNAL-ID": "1", "X-SIGNATURE": s}


def snap_headers(p: Parts) -> dict[str, str]:
    return {"Authorization": f"Bearer {p.token}", "X-TIMESTAMP": p.time, "X-PARTNER-ID": p.client, "X-EXTERNAL-ID": "1"}


def snap(profile: str, written: Any = iso, *, query: bool = True, body: Any = compact, **switches: Any) -> Kind:
    def parts(target: str) -> Parts:
        path = BASE.path + (target if query else target.partition("?")[0])
        return Parts("POST", path, body(BODY), written(NOW_MS), separator=":")

    return Kind(profile, switches, parts, symmetric, lambda p, s: {**snap_headers(p), "X-SIGNATURE": s})


def in_order(body: str) -> bytes:
    """Members sorted, for the one body of these tests."""
    return (
        '{"1":"x  y","amount":{"currency":"IDR","value":10000.00},"name":"Café <b> & co","path":"a/b"}'.encode()
        if body == BODY
        else body.encode()
    )


def klikoo_headers(p: Parts, s: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {p.token}", "Open-Api-Timestamp": p.time, "Open-Api-Signature": s}


def netzme_headers(p: Parts, s: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {p.token}", "Request-Time": p.time, "Client-Id": p.client, "Signature": s}


def doku_headers(p: Parts, s: str) -> dict[str, str]:
    return {"Client-Id": p.client, "Request-Id": "REQ-1", "Request-Timestamp": p.time, "Signature": s}


def netzme(profile: str) -> Kind:
    def parts(target: str) -> Parts:
        return Parts(
            "POST", BASE.path + target, compact(BODY), str(NOW_MS), separator="&", algorithm="sha256", write=bytes.hex
        )

    return Kind(profile, {}, parts, salted, netzme_headers)


def token_call(profile: str, path: str, names: tuple[str, str, str], written: Any = iso) -> Kind:
    def parts(_target: str) -> Parts:
        return Parts("POST", "", b"", written(NOW_MS), separator="|", algorithm="sha256", rsa="own")

    def headers(p: Parts, s: str) -> dict[str, str]:
        return {name: value for name, value in zip(names, (p.client, p.time, s), strict=True) if name}

    return Kind(profile, {}, parts, fetching, headers, path)


SNAP_TOKEN = ("X-CLIENT-KEY", "X-TIMESTAMP", "X-SIGNATURE")
KINDS = {
    "klikoo": Kind(
        "klikoo", {},
        lambda target: Parts("POST", target.partition("?")[0], in_order(BODY), iso(NOW_MS, ms=True), separator=":"),
        symmetric, klikoo_headers,
    ),
    "netzme": netzme("netzme"),
    "netzme-main": netzme("netzme-main"),
    "netzme-vsnap": snap("netzme-vsnap", query=False),
    "ifortepay-payment": snap("ifortepay-payment"),
    "ifortepay-disbursement": snap("ifortepay-disbursement"),
    "doku": snap("doku", lambda at: iso(at, utc=True), query=False),
    "doku-nonsnap": Kind(
        "doku-nonsnap", {},
        lambda target: Parts(
            "POST", BASE.path + target.partition("?")[0], BODY.encode(), iso(NOW_MS, utc=True), separator="\n",
            digest=lambda body: b64(hashlib.sha256(body).digest()), algorithm="sha256", prefix="HMACSHA256=",
        ),
        components, doku_headers,
    ),
    "snap": snap("snap"),
    "snap asymmetric": Kind(
        "snap", {"signature": "asymmetric"},
        lambda target: Parts(
            "POST", BASE.path + target, compact(BODY), iso(NOW_MS), separator=":", algorithm="sha256", rsa="own"
        ),
        asymmetric, bare_headers,
    ),
    "snap token": token_call("snap", "/v1.0/access-token/b2b", SNAP_TOKEN),
    "klikoo token": token_call(
        "klikoo", "/v1/open-api/access-token", ("", "Open-Api-Timestamp", "Open-Api-Signature"),
        lambda at: iso(at, ms=True),
    ),
    "doku token": token_call("doku", "/authorization/v1/access-token/b2b", SNAP_TOKEN, lambda at: iso(at, utc=True)),
}  # fmt: skip
"""Netzme's token call carries no signature."""


def test_every_profile_is_here():
    assert {kind.profile for kind in KINDS.values()} == set(EVERY)


def dumped(**style: Any) -> Any:
    return lambda p: replace(p, body=json.dumps(json.loads(BODY), **style).encode())


# name of the deviation: what a signer does. The name is its part and, behind the dot, what it is.
MISTAKES: dict[str, Any] = {
    "body.raw": lambda p: replace(p, body=BODY.encode()),
    "body.minify": lambda p: replace(p, body=compact(BODY)),
    "body.sorted": lambda p: replace(p, body=in_order(BODY)),
    "body.no_blanks": lambda p: replace(p, body=BODY.translate({ord(blank): None for blank in " \n"}).encode()),
    "body.empty": lambda p: replace(p, body=b""),
    "body.newline": lambda p: replace(p, body=BODY.encode() + b"\n"),
    "body.python": dumped(),
    "body.python_utf8": dumped(ensure_ascii=False),
    "body.python_compact": dumped(separators=(",", ":")),
    "body.python_sorted": dumped(separators=(",", ":"), sort_keys=True),
    "body.php": lambda p: replace(
        p, body=b'{"name":"Caf\\u00e9 <b> & co","path":"a\\/b","amount":{"value":10000.0,"currency":"IDR"},"1":"x  y"}'
    ),
    "body.javascript": lambda p: replace(
        p, body='{"1":"x  y","name":"Café <b> & co","path":"a/b","amount":{"value":10000,"currency":"IDR"}}'.encode()
    ),
    "body.go": lambda p: replace(
        p,
        body=in_order(BODY).replace(b".00", b"").replace(b"<b> &", rb"\u003cb\u003e \u0026"),
    ),
    "path.decoded": lambda p: replace(p, path=unquote(p.path)),
    "path.no_query": lambda p: replace(p, path=p.path.partition("?")[0]),
    "path.bare": lambda p: replace(p, path=p.path.removeprefix(BASE.path)),
    "path.base": lambda p: replace(p, path=BASE.path + p.path.removeprefix(BASE.path)),
    "path.prefix": lambda p: replace(p, path=PREFIX + p.path.removeprefix(BASE.path)),
    "path.url": lambda p: replace(p, path=BASE.origin + p.path),
    "path.slash": lambda p: replace(p, path=(halves := p.path.partition("?"))[0] + "/" + halves[1] + halves[2]),
    "time.iso_offset_s": lambda p: replace(p, time=iso(NOW_MS)),
    "time.iso_offset_ms": lambda p: replace(p, time=iso(NOW_MS, ms=True)),
    "time.iso_z_s": lambda p: replace(p, time=iso(NOW_MS, utc=True)),
    "time.epoch_ms": lambda p: replace(p, time=str(NOW_MS)),
    "time.epoch_s": lambda p: replace(p, time=str(NOW_MS // 1000)),
    "time.iso_offset_s_utc_digits": lambda p: replace(p, time=iso(NOW_MS - 7 * 3_600_000)),
    "time.drift": lambda p: replace(p, time=moved(p.time, 1000)),
    "token.other": lambda p: replace(p, token=OLD_TOKEN),
    "token.bearer": lambda p: replace(p, token="Bearer " + p.token),
    "token.no_bearer": lambda p: replace(p, bearer=""),
    "token.empty": lambda p: replace(p, token="", bearer=""),
    "key.other": lambda p: replace(p, secret=OTHER_SECRET, rsa="other" if p.rsa else ""),
    "key.client_id": lambda p: replace(p, secret=CLIENT),
    "key.empty": lambda p: replace(p, secret=""),
    "algorithm.hmac-sha256": lambda p: replace(p, algorithm="sha256", rsa=""),
    "algorithm.hmac-sha512": lambda p: replace(p, algorithm="sha512", rsa=""),
    "algorithm.hmac-sha384": lambda p: replace(p, algorithm="sha384", rsa=""),
    "algorithm.rsa-sha256": lambda p: replace(p, algorithm="sha256", rsa="own"),
    "algorithm.rsa-sha512": lambda p: replace(p, algorithm="sha512", rsa="own"),
    "encoding.b64": lambda p: replace(p, write=b64),
    "encoding.hex": lambda p: replace(p, write=bytes.hex),
    "encoding.HEX": lambda p: replace(p, write=lambda raw: raw.hex().upper()),
    "encoding.b64url": lambda p: replace(p, write=lambda raw: base64.urlsafe_b64encode(raw).decode()),
    "encoding.b64_unpadded": lambda p: replace(p, write=lambda raw: b64(raw).rstrip("=")),
    "encoding.b64_of_hex": lambda p: replace(p, write=lambda raw: b64(raw.hex().encode())),
    "encoding.hex_of_b64": lambda p: replace(p, write=lambda raw: b64(raw).encode().hex()),
    "method.lower": lambda p: replace(p, method=p.method.lower()),
    "method.other": lambda p: replace(p, method="GET"),
    "digest.sha256_HEX": lambda p: replace(p, digest=lambda body: hashlib.sha256(body).hexdigest().upper()),
    "digest.sha256_b64": lambda p: replace(p, digest=lambda body: b64(hashlib.sha256(body).digest())),
    "digest.sha256_hex": lambda p: replace(p, digest=lambda body: hashlib.sha256(body).hexdigest()),
    "digest.sha512_hex": lambda p: replace(p, digest=lambda body: hashlib.sha512(body).hexdigest()),
    "digest.none": lambda p: replace(p, digest=lambda _: ""),
    "digest.line_other": lambda p: replace(p, digest_line=False),
    "separator.bar": lambda p: replace(p, separator="|"),
    "separator.colon": lambda p: replace(p, separator=":"),
    "separator.nothing": lambda p: replace(p, separator=""),
    "separator.cr_lf": lambda p: replace(p, separator="\r\n"),
    "separator.at_end": lambda p: replace(p, end="\n"),
    "client.other": lambda p: replace(p, client="MCH-0002"),
}  # fmt: skip


def moved(text: str, ms: int) -> str:
    """A second later, in the form it has."""
    if text.isdigit():
        return str(int(text) + ms)
    at = NOW_MS + ms
    return iso(at, ms="." in text, utc=text.endswith("Z"))


def at_hand() -> AtHand:
    return AtHand(
        keys={"private_key": key("own").public_key(), "the key of route b": key("other").public_key()},
        tokens={"the one before": OLD_TOKEN.encode()},
        secrets={"the secret of route b": OTHER_SECRET.encode()},
        clients={"that of route b": b"MCH-0002"},
    )


TARGET = "/v1/transfer%2Fx?b=2&a=%C3%A9%2F1"


@dataclass(frozen=True)
class Signed:
    kind: Kind
    target: str
    signature: str
    right: Parts

    def judge(self) -> Diagnosis:
        headers = {"Content-Type": "application/json", **self.kind.headers(self.right, self.signature)}
        target = BASE.path + (self.target if self.kind.sign is not fetching else self.kind.call)
        presented = Presented("POST", target, tuple(headers.items()), BODY.encode(), prefix=PREFIX)
        bound = binding(self.kind.profile, client_id=CLIENT, secret=SECRET, **self.kind.switches)
        return diagnose(bound, BASE, presented, at_hand())


def signed(kind: Kind, target: str, *mistakes: str) -> Signed | None:
    """None when one of the mistakes changes nothing here, alone or beside the others."""
    right = kind.parts(target)
    made = {kind.sign(made) for made in with_each_left_out(right, mistakes)}
    alone = {kind.sign(MISTAKES[name](right)) for name in mistakes}
    signature = kind.sign(with_all(right, mistakes))
    if signature in made or kind.sign(right) in alone:
        return None
    return Signed(kind, target, signature, right)


def with_all(parts: Parts, mistakes: Iterable[str]) -> Parts:
    return reduce(lambda made, name: MISTAKES[name](made), mistakes, parts)


def with_each_left_out(parts: Parts, mistakes: tuple[str, ...]) -> list[Parts]:
    return [with_all(parts, [each for each in mistakes if each != name]) for name in mistakes]


def told(found: Diagnosis) -> list[set[str]]:
    return [{each.name for each in explanation} for explanation in found.explanations]


@pytest.mark.parametrize("name", KINDS)
def test_right_is_right(name):
    kind = KINDS[name]
    found = signed(kind, TARGET).judge()
    assert (found.right, found.deviations) == (True, ())


def named_by(mistakes: tuple[str, ...], found: Diagnosis) -> bool:
    """Exactly these, by name: the name itself, or one that comes to the same bytes here."""
    wanted = set(mistakes)
    return any(
        len(explanation) == len(wanted)
        and all(any(name in (each.name, *each.also) for each in explanation) for name in wanted)
        for explanation in found.explanations
    )


@pytest.mark.parametrize("name", KINDS)
def test_each_mistake_is_named(name):
    tried = {mistake: made for mistake in MISTAKES if (made := signed(KINDS[name], TARGET, mistake))}
    missed = {mistake: told(made.judge()) for mistake, made in tried.items() if not named_by((mistake,), made.judge())}
    assert len(tried) > 10
    assert missed == {}


PAIRS = [pair for pair in combinations(MISTAKES, 2) if pair[0].split(".")[0] != pair[1].split(".")[0]]


@pytest.mark.parametrize("name", KINDS)
def test_two_mistakes_at_once_are_named(name):
    chosen = random.Random(name).sample(PAIRS, 24)
    tried = {pair: made for pair in chosen if (made := signed(KINDS[name], TARGET, *pair))}
    missed = {pair: told(found) for pair, made in tried.items() if not named_by(pair, found := made.judge())}
    assert tried
    assert missed == {}


def judged(headers: dict[str, str | None], **presented: Any) -> Diagnosis:
    """The right request of the SNAP baseline with some of its headers otherwise; None leaves one out."""
    made = signed(KINDS["snap"], TARGET)
    sent = {**snap_headers(made.right), "X-SIGNATURE": made.signature, **headers}
    rows = tuple((name, value) for name, value in sent.items() if value is not None)
    asked = Presented("POST", BASE.path + TARGET, rows, BODY.encode(), **presented)
    return diagnose(binding("snap", client_id=CLIENT, secret=SECRET), BASE, asked, at_hand())


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"X-TIMESTAMP": None}, "time.missing"),
        ({"X-TIMESTAMP": "soon"}, "time.unreadable"),
        ({"X-TIMESTAMP": iso(NOW_MS, utc=True)}, "time.header"),
        ({"Authorization": TOKEN}, "token.no_bearer"),
        ({"Authorization": "Bearer "}, "token.empty"),
        ({"Authorization": None}, "token.missing"),
        ({"Authorization": f"Bearer Bearer {TOKEN}"}, "token.bearer_twice"),
        ({"X-PARTNER-ID": "MCH-0002"}, "header.other"),
        ({"X-EXTERNAL-ID": None}, "header.missing"),
        ({"X-SIGNATURE": None}, "header.missing"),
    ],
)
def test_what_can_be_seen_is_said(headers, name):
    found = judged(headers)
    assert name in {each.name for each in found.plain}
    assert not found.right


def test_a_header_that_stands_twice():
    made = signed(KINDS["snap"], TARGET)
    rows = (*snap_headers(made.right).items(), ("X-SIGNATURE", made.signature), ("x-timestamp", made.right.time))
    asked = Presented("POST", BASE.path + TARGET, rows, BODY.encode())
    found = diagnose(binding("snap", client_id=CLIENT, secret=SECRET), BASE, asked, at_hand())
    assert [each.name for each in found.plain] == ["time.repeated"]


@pytest.mark.parametrize(
    ("ahead_ms", "words"), [(-70_000, "70 s behind"), (7 * 3_600_000, "7 h 0 min (whole hours: a time zone) ahead of")]
)
def test_a_clock_that_is_wrong(ahead_ms, words):
    (found,) = judged({}, sent_ms=NOW_MS - ahead_ms).plain
    assert (found.name, words in found.words) == ("time.clock", True)


def test_another_token_than_the_one_that_counts():
    (found,) = judged({}, token=OLD_TOKEN.encode()).plain
    assert found.name == "token.sent"
    assert judged({}, token=TOKEN.encode()).right


def test_what_nobody_has_thought_of_is_no_guess():
    """It ends, and says where to look."""
    started = time.monotonic()
    found = judged({"X-SIGNATURE": b64(bytes(range(64)))})
    assert not found.right
    assert found.explanations == ()
    assert found.hint.name == "key.unknown"
    assert time.monotonic() - started < 100


@pytest.mark.parametrize(("text", "name"), [("?!", "encoding.unreadable"), (b64(b"short"), "algorithm.length")])
def test_what_is_no_signature_at_all(text, name):
    assert judged({"X-SIGNATURE": text}).hint.name == name


def test_the_quick_look_finds_usual_mistakes():
    made = signed(KINDS["snap"], TARGET, "body.raw")
    rows = (*snap_headers(made.right).items(), ("X-SIGNATURE", made.signature))
    asked = Presented("POST", BASE.path + TARGET, rows, BODY.encode())
    found = diagnose(binding("snap", client_id=CLIENT, secret=SECRET), BASE, asked, at_hand(), work=0)
    assert told(found) == [{"body.raw"}]


def test_forms_that_come_to_the_same_bytes_are_listed_together():
    found = signed(KINDS["snap"], TARGET, "body.python_compact").judge()
    ((deviation,),) = found.explanations
    assert "body.python_compact" in (deviation.name, *deviation.also)


def test_no_secret_is_in_what_is_said():
    found = signed(KINDS["snap"], TARGET, "key.other", "token.other").judge()
    said = repr(found)
    assert not [secret for secret in (SECRET, OTHER_SECRET, TOKEN, OLD_TOKEN) if secret in said]


def presented(own, credentials, **changed):
    by = signer(own, BASE.origin, credentials)
    sent = send(by).request
    headers = tuple((name, changed.get(name, value)) for name, value in sent.headers)
    target = sent.url.removeprefix(BASE.origin)
    found = Presented(sent.method, target, headers, sent.body, sent_ms=NOW)
    return diagnose(bound(own, credentials), BaseUrl.parse(BASE.origin), found, AtHand({}))


def test_a_time_that_is_written_in_place_is_read(tmp_path):
    text = BANK.replace('{timestamp}"\n', '{now|iso_z_s}"\n')
    assert text != BANK
    own = profile(tmp_path, text)
    assert presented(own, {"client_id": "c", "client_secret": "s"}).right
    assert not presented(own, {"client_id": "c", "client_secret": "s"}, **{"X-SIG": "AAAA"}).right


def test_a_header_that_another_scheme_reads_need_not_be_there(tmp_path):
    """A wrong signature could be that of the other."""
    text = BANK + BANK.partition("schemes:\n")[2].replace("plain", "other").replace("{endpoint}", "{header.X-Foo}")
    own = profile(tmp_path, text)
    assert presented(own, {"client_id": "c", "client_secret": "s"}).right
    assert not presented(own, {"client_id": "c", "client_secret": "s"}, **{"X-SIG": "AAAA"}).right
