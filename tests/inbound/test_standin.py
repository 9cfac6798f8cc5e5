"""token_standin: a program logs in by itself, gets a token that is worth nothing, and is signed for all the same."""

import asyncio
import json

import pytest
from rawpeer import RawCaller, RawPeer, ok
from running import EVERY, built, of, proxy, routes, through_sandbox

from proxy.catalogue import Catalogue
from proxy.commands.fresh import EXAMPLES
from proxy.errors import ConfigError
from proxy.inbound.standin import token_answer

WITH_TOKEN = [name for name in EVERY if name != "doku-nonsnap"]
LOGIN = b'{"grantType": "client_credentials"}'
TOKEN = b'{"responseCode":"2007300","accessToken":"the-real-one","tokenType":"Bearer","expiresIn":"900"}'


def login(profile):
    return Catalogue().profile(profile).token.endpoint.target


async def ask(port, method, target, body=b"", *headers, host="localhost"):
    head = "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", f"Host: {host}", *headers))
    async with RawCaller("127.0.0.1", port, 10) as caller:
        caller.send(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return await caller.answer()


def found(answer, path):
    value = json.loads(answer.body)
    for name in path.split("."):
        value = value[name]
    return value


@pytest.mark.parametrize("profile", WITH_TOKEN)
async def test_an_sdk_finishes_its_login_with_dummy_keys(profile):
    target, body, own = EXAMPLES[profile]
    async with through_sandbox(profile, token_standin=True, allow=["POST /*/**"]) as (running, sandbox):
        answer = await ask(running.port, "POST", f"/{profile}{login(profile)}", LOGIN, "X-SIGNATURE: dummy")
        assert answer.status == 200
        assert answer.value("Content-Type") == "application/json"
        assert [entry.kind for entry in sandbox.journal] == []
        token = found(answer, Catalogue().profile(profile).token.answer.token)
        headers = (f"Authorization: Bearer {token}", "X-SIGNATURE: dummy", *(f"{name}: {value}" for name, value in own))
        assert (await ask(running.port, "POST", f"/{profile}{target}", body.encode(), *headers)).status == 200
        assert [entry.kind for entry in sandbox.journal] == ["token", "call"]
        first, second = running.requests()
        assert (first["outcome"], first["attempts"], first["sent"]) == ("forwarded", 0, "no")
        assert (second["outcome"], second["attempts"]) == ("forwarded", 1)
        assert running.metric("paraf_inflight_requests", route=profile) == 0


async def test_the_real_token_stays_and_the_stand_in_never_leaves():
    def provider(request):
        return ok(TOKEN if b"access-token" in request.target else b"{}")

    async with RawPeer(provider) as peer, proxy(routes(of("doku"), peer.url, token_standin=True)) as running:
        answers = [await ask(running.port, "POST", f"/doku{login('doku')}", LOGIN) for _ in range(2)]
        assert answers[0].body == answers[1].body
        token = found(answers[0], "accessToken")
        called = await ask(running.port, "POST", "/doku/pay", b"{}", f"Authorization: Bearer {token}")
        assert b"the-real-one" not in b"".join(each.body for each in (*answers, called))
        assert [request.target for request in peer.requests] == [b"/doku" + login("doku").encode(), b"/doku/pay"]
        assert peer.requests[1].values("Authorization") == [b"Bearer the-real-one"]
        assert token.encode() not in b"".join(map(bytes, peer.received))
        assert token not in running.log.getvalue()


async def test_every_process_has_a_token_of_its_own():
    tokens = set()
    for _ in range(2):
        async with through_sandbox("doku", token_standin=True) as (running, _):
            tokens.add(found(await ask(running.port, "POST", f"/doku{login('doku')}", LOGIN), "accessToken"))
    assert len(tokens) == 2
    assert all(len(token) >= 48 for token in tokens)


def payment(peer, **more):
    """Another host for tokens than for calls, and a path in front of both."""
    configured = routes(of("ifortepay-payment"), peer.url, token_standin=True)
    configured["routes"]["ifortepay-payment"] |= {
        "upstream": f"{peer.url}/api",
        "token_upstream": f"{peer.url}/kronos",
        "hosts": ["api.example.com", "kronos.example.com"],
        **more,
    }
    return configured


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/kronos{}", "kronos.example.com"),
        ("/kronos{}?a=b", "kronos.example.com:443"),
        ("http://kronos.example.com/kronos{}", "kronos.example.com"),
        ("/ifortepay-payment{}", "localhost"),
    ],
)
async def test_by_host_by_absolute_target_and_by_prefix(target, host):
    async with RawPeer(lambda _: ok(TOKEN)) as peer, proxy(payment(peer)) as running:
        answer = await ask(running.port, "POST", target.format(login("ifortepay-payment")), LOGIN, host=host)
        assert found(answer, "accessToken").startswith("paraf-standin-")
        assert peer.requests == []


@pytest.mark.parametrize(
    ("method", "target", "host", "status"),
    [
        ("GET", "/ifortepay-payment{}", "localhost", 200),
        ("POST", "/ifortepay-payment{}/more", "localhost", 200),
        ("POST", "/ifortepay-payment/v1{}", "localhost", 200),
        ("POST", "/kronos{}", "evil.example.com", 421),
        ("POST", "http://evil.example.com/kronos{}", "kronos.example.com", 403),
        ("POST", "/other{}", "localhost", 404),
        ("POST", "/ifortepay-payment/../x{}", "localhost", 400),
    ],
)
async def test_everything_else_goes_the_usual_way(method, target, host, status):
    async with RawPeer(lambda _: ok(TOKEN)) as peer, proxy(payment(peer)) as running:
        answer = await ask(running.port, method, target.format(login("ifortepay-payment")), host=host)
        assert answer.status == status
        assert b"paraf-standin" not in answer.body
        assert (len(peer.requests) == 2) is (status == 200)


async def test_without_the_setting_the_token_endpoint_is_a_call_like_any_other():
    async with RawPeer(lambda _: ok(TOKEN)) as peer, proxy(routes(of("doku"), peer.url)) as running:
        assert (await ask(running.port, "POST", f"/doku{login('doku')}", LOGIN)).body == TOKEN
        assert len(peer.requests) == 2


async def test_a_body_over_the_limit_is_refused_there_too():
    async with through_sandbox("doku", token_standin=True, limits={"body": "1KiB"}) as (running, _):
        answer = await ask(running.port, "POST", f"/doku{login('doku')}", b" " * 1025)
        assert (answer.status, answer.value("X-Paraf-Error")) == (413, "body_too_large")
        assert running.metric("paraf_inflight_requests", route="doku") == 0


def test_a_profile_without_a_token_has_no_stand_in():
    with pytest.raises(ConfigError) as caught:
        built(routes(of("doku-nonsnap"), "http://127.0.0.1:9", token_standin=True))
    finding = caught.value.findings[0]
    assert finding.path == "routes.doku-nonsnap.token_standin"
    assert "doku-nonsnap has no token" in finding.message
    assert finding.line > 1


@pytest.mark.parametrize("profile", WITH_TOKEN)
def test_what_is_made_is_what_the_profile_reads(profile):
    """Paraf itself would take the answer for one of the provider's, with the usual life."""
    _, generation = built(routes(of(profile), "http://127.0.0.1:9"))
    body = token_answer(Catalogue().profile(profile).token.answer, "t0ken", 1_000_000)
    token = generation.lanes[profile].exchange.read(200, (), body, now_ms=1_000_000, started=0.0)
    assert token.value.reveal() == "t0ken"
    assert token.deadline >= 900


@pytest.mark.parametrize(
    ("profile", "documented"),
    [
        ("doku", {"accessToken", "tokenType", "expiresIn", "responseCode", "responseMessage", "additionalInfo"}),
        ("klikoo", {"response_code", "response_message", "data"}),
        ("netzme", {"status", "username", "access_token", "token_type", "expiry_token"}),
    ],
)
def test_the_members_are_those_of_the_documents(profile, documented):
    answer = json.loads(token_answer(Catalogue().profile(profile).token.answer, "t", 1_000_000))
    assert set(answer) == documented
    assert profile != "doku" or answer["expiresIn"] == 900
    assert profile != "netzme" or answer["expiry_token"] == 37_000_000


async def test_many_at_once():
    async with through_sandbox("doku", token_standin=True) as (running, sandbox):
        asked = (ask(running.port, "POST", f"/doku{login('doku')}", LOGIN) for _ in range(50))
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        assert sandbox.journal == []


def test_a_field_in_a_field_takes_the_place_of_a_plain_one():
    told = Catalogue().profile("klikoo").token.answer
    assert json.loads(token_answer(told, "t", 0))["data"] == {
        "access_token": "t",
        "token_type": "Bearer",
        "expires_in": 900,
    }


async def test_a_caller_token_is_asked_for_where_the_route_has_one():
    known = "a-token-of-this-caller"
    async with through_sandbox("doku", token_standin=True, caller_token={"shop": known}) as (running, _):
        refused = await ask(running.port, "POST", f"/doku{login('doku')}", LOGIN)
        assert (refused.status, refused.value("X-Paraf-Error")) == (401, "caller_unauthorized")
        answer = await ask(running.port, "POST", f"/doku{login('doku')}", LOGIN, f"X-Paraf-Token: {known}")
        assert found(answer, "accessToken").startswith("paraf-standin-")
        assert running.requests()[-1]["caller"] == "shop"
        assert running.metric("paraf_inflight_requests", route="doku") == 0
