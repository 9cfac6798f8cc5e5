"""Caller tokens: who is let in, under which name, by which way, and what becomes of the token."""

import base64
import json

import pytest
from rawpeer import RawCaller, RawPeer, ok
from running import of, proxy, routes
from tunnelling import HOST, intercepting, post

from proxy.callers import Callers, caller_token
from proxy.model import Secret, Tunnel

TOKENS = {"checkout": "c" * 32, "refunds": "r" * 32}
CALLERS = Callers({name: Secret(token) for name, token in TOKENS.items()})


class Asking:
    def __init__(self, *headers, target="/x", tunnel=None):
        self.headers, self.target, self.tunnel = headers, target, tunnel


def basic(user, password):
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (("X-Paraf-Token", "c" * 32), "checkout"),
        (("x-paraf-token", " " + "r" * 32 + " "), "refunds"),
        (("Proxy-Authorization", "Bearer " + "r" * 32), "refunds"),
        (("Proxy-Authorization", "bearer   " + "r" * 32), "refunds"),
        (("Proxy-Authorization", basic("anybody", "c" * 32)), "checkout"),
        (("Proxy-Authorization", basic("", "c" * 32)), "checkout"),
        (("X-Paraf-Token", "c" * 31), None),
        (("X-Paraf-Token", "c" * 33), None),
        (("X-Paraf-Token", ""), None),
        (("X-Paraf-Token", "é" * 32), None),
        (("Authorization", "Bearer " + "c" * 32), None),
        (("Proxy-Authorization", "Digest " + "c" * 32), None),
        (("Proxy-Authorization", "Basic !!!"), None),
        (("Proxy-Authorization", "Basic " + base64.b64encode(b"\xff\xfe").decode()), None),
        (("Proxy-Authorization", basic("c" * 32, "")), None),
    ],
)
def test_who_is_recognised(header, name):
    try:
        found = CALLERS.recognise(Asking(header))
    except Exception as error:  # noqa: BLE001
        found = None if error.code == "caller_unauthorized" else error
    assert found == name


def test_what_a_request_says_counts_before_its_tunnel():
    inside = Tunnel("h", 443, (("Proxy-Authorization", "Bearer " + "c" * 32),))
    assert CALLERS.recognise(Asking(tunnel=inside)) == "checkout"
    assert CALLERS.recognise(Asking(("X-Paraf-Token", "r" * 32), tunnel=inside)) == "refunds"


@pytest.mark.parametrize(
    ("token", "words"), [("short", "16 characters"), ("a b" * 16, "blanks"), ("ü" * 20, "ASCII"), ("x" * 16, "another")]
)
def test_tokens_that_are_no_good(token, words):
    with pytest.raises(ValueError, match=words):
        caller_token(Secret(token), [Secret("x" * 16)])


@pytest.fixture
async def peer():
    async with RawPeer(lambda _: ok(b"{}")) as made:
        yield made


def guarded(peer):
    made = routes(of("doku-nonsnap"), peer.url, caller_token=TOKENS, hosts=[HOST])
    made["routes"]["doku-nonsnap"]["upstream"] = peer.url
    return made


@pytest.mark.parametrize(
    ("target", "host", "status", "challenge"),
    [
        ("/doku-nonsnap/pay", "localhost", 401, "WWW-Authenticate"),
        ("/pay", HOST, 401, "WWW-Authenticate"),
        (f"http://{HOST}/pay", HOST, 407, "Proxy-Authenticate"),
    ],
)
async def test_strangers_are_asked_who_they_are(peer, target, host, status, challenge):
    async with proxy(guarded(peer)) as running, RawCaller("127.0.0.1", running.port) as caller:
        caller.send(post(target, b"{}", host))
        answer = await caller.answer()
        assert (answer.status, answer.value("X-Paraf-Error")) == (status, "caller_unauthorized")
        assert json.loads(answer.body)["status"] == status
        assert answer.values(challenge)
        assert not peer.requests
        caller.send(post(target, b"{}", host, "X-Paraf-Token: " + TOKENS["refunds"]))
        assert (await caller.answer()).status == 200
        told = running.requests()
        assert [line.get("caller") for line in told] == [None, "refunds"]
        assert [line["route"] for line in told] == ["doku-nonsnap"] * 2
        assert running.metric("paraf_inflight_requests") == 0


async def test_a_token_is_never_sent_on_nor_told(peer):
    async with proxy(guarded(peer)) as running, RawCaller("127.0.0.1", running.port) as caller:
        token = TOKENS["checkout"]
        for line in (f"X-Paraf-Token: {token}", f"Proxy-Authorization: Bearer {token}", f"X_Paraf_Token: {token}"):
            caller.send(post("/doku-nonsnap/pay", b"{}", "localhost", line, f"X-Paraf-Token: {token}"))
            assert (await caller.answer()).status == 200
        assert token.encode() not in b"".join(peer.received)
        assert b"paraf" not in b"".join(peer.received).lower()
        assert token not in running.log.getvalue()


async def test_a_tunnel_is_opened_for_those_who_are_known(peer, tmp_path):
    async with intercepting(peer.url, tmp_path, caller_token=TOKENS) as stage:
        async with stage.caller() as stranger:
            refused = await stranger.tunnel(f"{HOST}:443", stage.tls)
            assert (refused.status, refused.value("Proxy-Authenticate")[:6]) == (407, "Bearer")
            assert refused.reason.startswith("caller_unauthorized: ")
        async with stage.caller() as known:
            who = f"Proxy-Authorization: {basic('x', TOKENS['checkout'])}"
            assert (await known.tunnel(f"{HOST}:443", stage.tls, None, who)).status == 200
            known.send(post())
            assert (await known.answer()).status == 200
        told = stage.running.requests()
        assert [(line["method"], line["route"], line.get("caller")) for line in told] == [
            ("CONNECT", "doku-nonsnap", None),
            ("POST", "doku-nonsnap", "checkout"),
        ]
        assert stage.running.metric("paraf_inflight_requests") == 0
