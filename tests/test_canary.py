"""No secret, token, key or signed text stands anywhere but at the provider: not in logs at debug level, metrics, admin
answers, errors, crash output or the environment, whatever goes wrong.
"""

import asyncio
import base64
import copy
import gc
import json
import os
import pickle
import re
import signal
import ssl
import subprocess
import sys
import traceback
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
import trustme
import yaml
from canary import LEAST, forms, leaks, of_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from processes import serving
from rawpeer import CLOSE, RESET, RawCaller, RawPeer, answer, chunked, ok
from running import ANY, of, proxy, routes

from proxy.model import STARS, Secret
from proxy.pipeline import Pipeline
from proxy.settings import read_settings
from proxy.signing.signer import Signer
from proxy.tokens import Tokens
from proxy.variables import Variables, named

PROFILES = ("doku", "klikoo", "netzme", "doku-nonsnap", "ifortepay-payment")
SECRET = 'S3cr"et/+%é\\canary-{}-xyz'
TOKEN = "canary.token-{}/abc+def="
BODY = json.dumps({"note": 'canary-body "quoted" é/+ value', "amount": "10000.00"}).encode()
QUERY = "canary-query-%c3%a9-value=1"
MARK = "canary-header-value+/="
LOGIN = "Bearer canary-of-the-caller-1234"


# The search itself, and the type


@pytest.mark.parametrize("secret", [b"0123456789abcdef", SECRET.encode(), BODY])
def test_every_form_is_found(secret):
    for text in (
        secret,
        secret.hex().encode(),
        *(base64.b64encode(bytes(range(65, 65 + front)) + secret + b"rest") for front in range(7)),
        quote(secret.decode(), safe="").encode(),
        json.dumps({"a": secret.decode()}).encode(),
        json.dumps(json.dumps({"a": secret.decode()})).encode(),
        repr({"a": secret}).encode(),
        repr(secret.decode()).encode(),
    ):
        assert leaks({"s": [secret]}, {"here": b"before " + text + b" after"}) == [("s", "here")], text
    assert leaks({"s": [secret]}, {"here": b"nothing of the kind, and " + secret[:-4] + b"1234"}) == []


def shown(secret):
    """Every way that leads to text."""
    yield from (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>20}",
        f"{secret!s:^20}",
    )
    yield from (format(secret, ">20"), str([secret]), str({"a": secret}), str({secret}), ascii(secret))
    yield json.dumps({"a": secret}, default=str)
    yield msgspec.json.encode({"a": secret}, enc_hook=repr).decode()
    yield repr(copy.copy(secret)) + repr(copy.deepcopy({"a": [secret]}))


def test_a_secret_is_stars_in_every_form():
    secret = Secret("canary-secret-4711")
    assert [text for text in shown(secret) if "canary" in text] == []
    assert str(secret) == repr(secret) == f"{secret}" == STARS


def test_a_secret_leaves_by_no_other_door():
    secret = Secret("canary-secret-4711")
    for way in (
        lambda: json.dumps(secret),
        lambda: msgspec.json.encode(secret),
        lambda: pickle.dumps(secret),
        secret.__getstate__,
        lambda: secret.__reduce_ex__(4),
        lambda: b"".join([secret]),
        lambda: vars(secret),
        lambda: "".join(secret),
        lambda: yaml.safe_dump(secret),
    ):
        with pytest.raises((TypeError, yaml.YAMLError)) as caught:
            way()
        assert "canary" not in str(caught.value)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_a_traceback_with_locals_shows_stars():
    def fail(secret, token):
        known = {"client_secret": secret, "tokens": [token]}
        raise RuntimeError(f"{secret} {token!r} {known}")

    given = [Secret(f"canary-{name}-4711") for name in ("secret", "token")]
    with pytest.raises(RuntimeError) as caught:
        fail(*given)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert shown.count(STARS) >= 6
    assert "-4711" not in shown.replace('f"canary-{name}-4711"', "")


# A proxy in front of a provider that echoes all it gets, and fails in every way


def echo(request):
    """Whatever was sent, in the reason, a header and the body."""
    head = b" ".join(name + b"=" + value for name, value in request.headers)
    return request.target.decode()[:60], (head + b" " + request.body).decode("utf-8", "replace")


class Provider:
    """`mode` says how it answers calls, `token_mode` how it answers token calls."""

    def __init__(self):
        self.mode = self.token_mode = "fine"
        self.count = 0

    def token(self):
        self.count += 1
        value = TOKEN.format(self.count)
        named = {"accessToken": value, "access_token": value, "expiresIn": 900, "expiry_token": 10**13}
        return {**named, "data": {"access_token": value, "expires_in": 900}}

    def __call__(self, request):
        is_token = b"access" in request.target
        target, told = echo(request)
        told_json = json.dumps({"responseMessage": told, "message": told, "status": told}).encode()
        code = {"refused": "4012501", "unsigned": "4012500", "coded": told[:40]}
        mode = self.token_mode if is_token else self.mode
        match mode:
            case "fine":
                return ok(json.dumps(self.token()).encode() if is_token else b"{}", f"X-Echo: {target}")
            case "refused" | "unsigned" | "coded":
                body = {"responseCode": code[mode], "response_code": "401016500", "responseMessage": told}
                return answer("401 " + target, json.dumps(body).encode())
            case "500":
                return answer("500 " + target, told_json)
            case "garbage":
                return b"HTTP/1.1 200 OK\r\nX-A: " + told.encode()[:2000].replace(b"\r\n", b" ") + b"\x00\r\n\r\n"
            case "no http":
                return [told.encode(), CLOSE]
            case "cut":
                return [b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + told.encode(), 0.01, CLOSE]
            case "chunks":
                return [chunked(told.encode(), end=b"zz" + told.encode()), CLOSE]
            case "reset":
                return [RESET]
            case "silent":
                return [30.0]
            case "no token":
                return ok(told_json)
            case "no json":
                return ok(b"{" + told.encode())
            case "broken token":
                return ok(json.dumps({**self.token(), "accessToken": TOKEN.format("x\r\ny")}).encode())
            case "odd type":
                return ok(json.dumps({**self.token(), "tokenType": TOKEN.format("type")}).encode())
            case _:
                raise AssertionError(mode)


MODES = ("fine", "refused", "unsigned", "coded", "500", "garbage", "no http", "cut", "chunks", "reset", "silent")
TOKEN_MODES = (*MODES[1:], "no token", "no json", "broken token", "odd type")


def request(route, method="POST", target="/v1/pay", body=BODY, *lines):
    head = (
        f"{method} /{route}{target}?{QUERY} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        f"Authorization: {LOGIN}",
        f"X-Mark: {MARK}",
        "CHANNEL-ID: canary-channel",
        *lines,
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def hostile(route):
    """Requests that are refused, with something to leak in the place that is wrong."""
    yield request(route, "TRACE")
    yield request(route, "CANARYMETHODOFTHECALLER")
    yield request(route, target="/../" + quote(MARK))
    yield request(route, target="/%zz" + quote(MARK))
    yield request("no-such-route-" + MARK)
    yield request(route).replace(b"Host: localhost", b"Host: " + MARK.encode())
    yield request(route).replace(b"X-Mark:", b"X-Mark\x00:")
    yield request(route).replace(b"X-Mark: ", b"X-Mark: \x00")
    yield request(route).replace(b"Content-Length:", b"Content-Length: " + MARK.encode() + b"\r\nX-A:")
    yield request(route, "POST", "/v1/pay", BODY, "Transfer-Encoding: " + MARK)
    yield request(route, "POST", "/v1/pay", BODY, "Upgrade: " + MARK, "Connection: upgrade")
    yield request(route, "POST", "/v1/pay", BODY, "Expect: " + MARK)
    yield request(route, "POST", "/v1/pay", BODY, "X-External-Id: " + MARK, "X-EXTERNAL-ID: " + MARK)
    yield request(route, "POST", "/v1/pay", BODY, "X-Long: " + MARK * 1000)
    yield b"CONNECT " + MARK.encode() + b":443 HTTP/1.1\r\nHost: a\r\n\r\n"
    yield MARK.encode() + b"\r\n\r\n"
    yield request(route, body=BODY * 40_000)


def fresh(name):
    """An account whose secret has every character that an encoding would change."""
    (each,) = of(name)
    secret = SECRET.format(name) if "klikoo" in name or "nonsnap" in name else SECRET.format(name).replace("é", "e")
    return replace(each, account=replace(each.account, client_secret=Secret(secret)))


@asynccontextmanager
async def leaky_world(**each):
    provider = Provider()
    async with RawPeer(provider) as peer:
        chosen = [fresh(name) for name in PROFILES]
        timeouts = {"connect": "1s", "first_byte": "500ms", "idle": "500ms", "total": "2s", "token": "500ms"}
        circuit = {"circuit": "off", "timeouts": timeouts}
        configured = routes(chosen, peer.url, **circuit, **each)
        async with proxy(configured) as running:
            yield World(provider, peer, running, chosen)


class World:
    def __init__(self, provider, peer, running, chosen):
        self.provider, self.peer, self.running, self.chosen = provider, peer, running, chosen
        self.own_answers = []
        self.signed = set()

    async def ask(self, payload):
        """The answer is kept if it is Paraf's own: a provider's is the caller's to see."""
        async with RawCaller("127.0.0.1", self.running.port, 10) as caller:
            caller.send(payload)
            try:
                got = await caller.answer(to_head=payload.startswith(b"HEAD"))
            except ConnectionError:
                return None
            if got.values("X-Paraf-Error"):
                self.own_answers.append(bytes(caller.seen))
            return got

    def forget_tokens(self):
        """So that the next request fetches one."""
        tokens = self.running.app.answers["purge"].__self__._tokens
        tokens._keepers.clear()
        tokens._means.store.__init__(tokens._means.now)

    def secrets(self):
        """All that must stand nowhere. What was signed is what the provider got."""
        headers = [row for each in self.peer.requests for row in each.headers]
        made = {value for name, value in headers if b"signature" in name.lower() and len(value) >= LEAST}
        tokens = {TOKEN.format(number).encode() for number in range(1, self.provider.count + 1)}
        return {
            "secret": [each.account.client_secret.reveal().encode() for each in self.chosen],
            "key": [line for each in self.chosen if each.private_key_pem for line in of_key(each.private_key_pem)],
            "token": tokens,
            "signature": made,
            "body": [BODY, b"canary-body"],
            "query": [QUERY.encode(), b"canary-query"],
            "header": [MARK.encode(), LOGIN.encode(), LOGIN.encode()[7:]],
        }

    async def places(self):
        _, port = self.running.app.admin_address.rsplit(":", 1)
        pages = {}
        for path in ("/metrics", "/livez", "/readyz", "/startupz", f"/{quote(MARK)}?{QUERY}"):
            async with RawCaller("127.0.0.1", int(port)) as caller:
                caller.send(f"GET {path} HTTP/1.1\r\nHost: {MARK}\r\nX-Mark: {MARK}\r\n\r\n".encode())
                await caller.answer()
                pages[path] = bytes(caller.seen)
        self.running.app.ended.flush()
        return {"log": self.running.log.getvalue(), "own": b"\n".join(self.own_answers), **pages}


def test_the_places_where_secrets_belong_are_searched_with_the_same_eyes():
    """Else a search that finds nothing would prove nothing."""

    async def see():
        async with leaky_world() as world:
            for name in PROFILES:
                await world.ask(request(name))
            sent = b"".join(map(bytes, world.peer.received))
            return {name for name, _ in leaks(world.secrets(), {"provider": sent})}

    assert asyncio.run(see()) >= {"secret", "token", "signature", "body", "query", "header"}


async def test_nothing_leaks_whatever_the_provider_does(capfd):
    async with leaky_world() as world:
        for mode in MODES:
            world.provider.mode = mode
            await asyncio.gather(*(world.ask(request(name)) for name in PROFILES))
        world.provider.mode = "fine"
        for mode in TOKEN_MODES:
            world.forget_tokens()
            world.provider.token_mode = mode
            await asyncio.gather(*(world.ask(request(name)) for name in PROFILES))
        errors = {line.get("error") for line in world.running.requests()}
        assert errors >= {"upstream_protocol", "upstream_timeout", "token_unavailable"}
        assert leaks(world.secrets(), await world.places()) == []
    assert capfd.readouterr() == ("", "")


async def test_nothing_leaks_whatever_a_caller_sends(capfd):
    async with leaky_world() as world:
        for payload in hostile("doku-nonsnap"):
            await world.ask(payload)
        codes = {line.get("error") for line in world.running.requests()}
        assert codes >= {"bad_request", "method_not_allowed", "no_route", "headers_too_large", "body_too_large"}
        assert b"CANARYMETHODOFTHECALLER" not in b"".join(map(bytes, (await world.places())["log"].encode().split()))
        assert leaks(world.secrets(), await world.places()) == []
    assert capfd.readouterr() == ("", "")


FAULTS = [
    (Signer, "admit"),
    (Signer, "signed"),
    (Tokens, "get"),
    (Pipeline, "_judge"),
    (Pipeline, "_inside"),
]


@pytest.mark.parametrize(("place", "name"), FAULTS, ids=lambda each: getattr(each, "__name__", each))
async def test_nothing_leaks_of_a_fault_of_ours(place, name, monkeypatch, capfd):
    """Its message and its frames hold all there is."""

    def fail(*given, **_):
        words = b"".join(each for group in world.secrets().values() for each in group)
        raise RuntimeError(words.decode(), given)

    async with leaky_world() as world:
        await world.ask(request("doku"))
        monkeypatch.setattr(place, name, fail)
        for profile in PROFILES:
            await world.ask(request(profile))
        assert "internal" in {line.get("error") for line in world.running.requests()}
        assert {line["event"] for line in world.running.lines} >= {"fault"}
        assert leaks(world.secrets(), await world.places()) == []
        monkeypatch.undo()
    assert capfd.readouterr() == ("", "")


async def test_nothing_leaks_of_tls_that_is_not_trusted(capfd):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(tls)
    provider = Provider()
    async with RawPeer(provider, tls=tls) as peer, proxy(routes([fresh("doku-nonsnap")], peer.url)) as running:
        world = World(provider, peer, running, [fresh("doku-nonsnap")])
        await world.ask(request("doku-nonsnap"))
        assert [line["error"] for line in running.requests()] == ["upstream_tls"]
        assert leaks(world.secrets(), await world.places()) == []
    assert capfd.readouterr() == ("", "")


async def test_no_object_of_ours_shows_a_secret_even_while_a_request_is_under_way():
    async with leaky_world() as world:
        for name in PROFILES:
            await world.ask(request(name))
        world.provider.mode = "silent"
        asked = [asyncio.create_task(world.ask(request(name))) for name in PROFILES]
        before = len(world.peer.requests)
        await world.peer.until(lambda peer: len(peer.requests) >= before + len(PROFILES))
        ours = [each for each in gc.get_objects() if str(type(each).__module__).startswith("proxy.")]
        shown = {f"{type(each).__name__}": repr(each) for each in ours if "sandbox" not in type(each).__module__}
        assert len(ours) > 1000
        kept = {name: each for name, each in world.secrets().items() if name in ("secret", "key", "token")}
        assert (
            leaks(kept, {name: "".join(repr(each) for each in ours if type(each).__name__ == name) for name in shown})
            == []
        )
        await asyncio.gather(*asked)


# Real processes: environment, memory dumps, crashes


def test_hidden_variables_are_read_here_alone():
    environ = {"A": "1", "PAY_SECRET": "canary-variable"}
    variables = Variables(environ)
    variables.hide(["PAY_SECRET", "ABSENT"])
    assert environ == {"A": "1"}
    assert (variables["PAY_SECRET"], variables["A"], variables.get("ABSENT")) == ("canary-variable", "1", None)
    assert dict(variables) == {"A": "1", "PAY_SECRET": "canary-variable"}
    assert len(variables) == 2
    assert "canary" not in repr(variables)
    environ["PAY_SECRET"] = "given again"
    assert variables["PAY_SECRET"] == "canary-variable"


PROBE = """
import os, sys
from proxy.app import prepare_process
from proxy.hardening import overwrite_variable
import ctypes, resource
prepare_process()
overwrite_variable("PAY_SECRET")
overwrite_variable("ABSENT")
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
print("canary-variable" in open("/proc/self/environ").read(), "PAY_SECRET" in open("/proc/self/environ").read())
"""


def test_a_prepared_process_is_not_dumped_and_its_variables_are_overwritten():
    environ = {**os.environ, "PAY_SECRET": "canary-variable"}
    done = subprocess.run([sys.executable, "-c", PROBE], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0 (0, 0)", "False True"]


def with_secrets_elsewhere(folder, monkeypatch, upstream):
    """One doku route whose secrets are in variables and files; the names and values of all."""
    (each,) = of("doku")
    passphrase = "canary-passphrase-of-the-key"
    key = load_pem_private_key(each.private_key_pem.encode(), None)
    closed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
    (folder / "key.pem").write_bytes(closed)
    (folder / "key.pem").chmod(0o600)
    variables = {
        "PAY_SECRET": "canary-client-secret-42",
        "PAY_PASS": passphrase,
        "PAY_STORE": "canary-store-key-0123456789",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    configured = routes([each], upstream)
    configured["routes"]["doku"]["credentials"] = {
        "client_id": "BRN-1",
        "client_secret": {"env": "PAY_SECRET"},
        "private_key": {"file": "key.pem", "passphrase": {"env": "PAY_PASS"}},
    }
    configured |= {
        "store_key": {"env": "PAY_STORE"},
        "log": {"level": "debug", "format": "json"},
        "listen": ANY,
        "admin": ANY,
    }
    secrets = {name: [value.encode()] for name, value in variables.items()}
    return configured, {**secrets, "key": list(of_key(each.private_key_pem))}


def read(path):
    return Path(path).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_nothing_leaks_of_processes_that_crash(workers, tmp_path, monkeypatch):
    provider = Provider()
    async with RawPeer(provider) as peer:
        configured, secrets = with_secrets_elsewhere(tmp_path, monkeypatch, peer.url)
        async with serving(tmp_path, {**configured, "workers": workers}) as made:
            children = list(made.workers.values()) if workers > 1 else []
            host, port = made.address
            async with RawCaller(host, port) as caller:
                caller.send(request("doku"))
                assert (await caller.answer()).status == 200
            shown = {}
            for pid in (made.process.pid, *children):
                for name in ("environ", "cmdline", "limits"):
                    shown[f"{pid} {name}"] = read(f"/proc/{pid}/{name}")
                assert re.search(rb"^Max core file size +0 +0 ", shown.pop(f"{pid} limits"), re.MULTILINE)
                assert b"PAY_SECRET=" in shown[f"{pid} environ"]
            _, shown["metrics"] = await made.probe("/metrics")
            for pid in children[:1]:
                os.kill(pid, signal.SIGSEGV)
                await made.until(lambda: made.told("worker ended") and len(made.told("worker started")) == 3)
            made.kill(signal.SIGABRT if workers == 1 else signal.SIGTERM)
            await made.ended()
            await made.until(lambda: made.over)
        shown["log"] = "".join([*made.other, *(json.dumps(line, ensure_ascii=False) for line in made.lines)])
        secrets |= {
            "token": [TOKEN.format(1).encode()],
            "body": [b"canary-body"],
            "header": [MARK.encode(), LOGIN.encode()],
        }
        assert leaks(secrets, shown) == []
        assert not [each for each in tmp_path.iterdir() if each.name.startswith("core")]


@pytest.mark.parametrize(
    "arguments", [("check",), ("check", "--show-effective"), ("check", "--format", "json"), ("serve",)]
)
def test_no_command_shows_a_secret_of_a_configuration_good_or_bad(arguments, tmp_path, monkeypatch):
    configured, secrets = with_secrets_elsewhere(tmp_path, monkeypatch, "https://api.test")
    literal = yaml.safe_load(yaml.safe_dump(configured))
    literal["routes"]["doku"]["credentials"]["client_secret"] = "canary-literal-secret"
    broken = {**configured, "admin": "canary-not-an-address:x", "routes": configured["routes"]}
    command, *options = arguments
    for each in ([configured] if command != "serve" else []) + [literal, broken]:
        (tmp_path / "paraf.yaml").write_text(yaml.safe_dump(each))
        line = [sys.executable, "-m", "proxy", command, "-c", str(tmp_path / "paraf.yaml"), *options]
        done = subprocess.run(line, capture_output=True, check=False, timeout=60)
        assert leaks({**secrets, "literal": [b"canary-literal-secret"]}, {"out": done.stdout, "err": done.stderr}) == []
        assert b"Traceback" not in done.stderr


def test_the_variables_of_settings_are_named(tmp_path, monkeypatch):
    configured, _ = with_secrets_elsewhere(tmp_path, monkeypatch, "https://api.test")
    settings, _ = read_settings(yaml.safe_dump(configured), "paraf.yaml", environ={})
    assert set(named(settings)) == {"PAY_SECRET", "PAY_PASS", "PAY_STORE"}


def test_forms_of_short_texts_are_not_searched_for():
    with pytest.raises(AssertionError):
        forms(b"short")
