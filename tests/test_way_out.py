"""No way out but the routes: whatever a caller, a name or a redirect says, secrets go to their own hosts alone."""

import asyncio
import io
import itertools
import json
import socket
from contextlib import asynccontextmanager

import pytest
from rawpeer import RawCaller, RawPeer, ok
from running import Running, built, of, proxy, routes

from proxy.app import App
from proxy.errors import ConfigError
from proxy.inbound.listeners import Listener, Listeners

TOKEN = b'{"responseCode":"2007300","accessToken":"token-of-%c","tokenType":"Bearer","expiresIn":"900"}'
TOKENS = {"doku": TOKEN % b"A", "ifortepay-disbursement": TOKEN % b"B"}


async def ask(port, target, *headers, method="POST", host="localhost", body=b"{}"):
    lines = (f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, f"Content-Length: {len(body)}", "", "")
    async with RawCaller("127.0.0.1", port, 10) as caller:
        caller.send("\r\n".join(lines).encode() + body)
        return await caller.answer()


def problem(answer):
    return answer.status, answer.value("X-Paraf-Error"), json.loads(answer.body)["sent"]


def provider(profile):
    return RawPeer(lambda request: ok(TOKENS[profile] if b"access-token" in request.target else b"{}"))


@asynccontextmanager
async def two_accounts():
    """A proxy with a route to each of two providers, which record every byte."""
    a, b = TOKENS
    async with provider(a) as peer_a, provider(b) as peer_b:
        configured = routes(of(a), peer_a.url)
        configured["routes"] |= routes(of(b), peer_b.url)["routes"]
        configured["routes"][a]["hosts"], configured["routes"][b]["hosts"] = ["a.example"], ["b.example"]
        async with proxy(configured) as running:
            yield running, peer_a, peer_b


def heard(peer):
    return b"".join(map(bytes, peer.received))


TARGETS = [
    "/doku/x",
    "/ifortepay-disbursement/x",
    "/x",
    "http://a.example/x",
    "http://b.example/x",
    "http://a.example@b.example/x",
    "http://{a}/x",
    "http://{b}/doku/x",
    "/doku//{b}/x",
    "/doku/http://{b}/x",
    "/doku/..;/ifortepay-disbursement/x",
    "/doku/%2e%2e/ifortepay-disbursement/x",
    "/doku/%2F%2F{b}/x",
    "/doku\\@{b}/x",
    "/doku/x?u=http://{b}/",
    "/ifortepay-disbursement/authorization/v1/access-token/b2b",
    "/doku/api/v1.0/access-token/b2b",
]
HOSTS = ["localhost", "a.example", "b.example", "{b}", "a.example, b.example", "a.example:1@b.example"]
HEADERS = [
    (),
    ("X-Forwarded-Host: {b}", "X-Forwarded-Proto: http", "Forwarded: host={b}"),
    ("X-Original-URL: http://{b}/", "X-Rewrite-URL: /ifortepay-disbursement/x"),
    ("Host: b.example",),
    ("Connection: Authorization, X-SIGNATURE", "Authorization: Bearer token-of-A"),
    ("X-Envoy-Original-Dst-Host: {b}", "Proxy-Connection: keep-alive", "Via: 1.1 {b}"),
]


async def test_no_request_sends_one_accounts_token_to_the_others_host():
    async with two_accounts() as (running, a, b):
        for target, host, more in itertools.product(TARGETS, HOSTS, HEADERS):
            texts = (each.format(a=f"127.0.0.1:{a.port}", b=f"127.0.0.1:{b.port}") for each in (target, host, *more))
            target, host, *headers = texts  # noqa: PLW2901
            await ask(running.port, target, *headers, host=host)
        assert b"Bearer token-of-A" in heard(a)
        assert b"Bearer token-of-B" in heard(b)
        for peer, secrets in ((a, ("ifortepay-disbursement", b"token-of-B")), (b, ("doku", b"token-of-A"))):
            (other,) = of(secrets[0])
            assert secrets[1] not in heard(peer)
            assert other.account.client_id.encode() not in heard(peer)
            assert {value for request in peer.requests for value in request.values("Host")} == {
                f"127.0.0.1:{peer.port}".encode()
            }


async def test_no_redirect_is_followed():
    async with RawPeer(lambda _: ok()) as trap:

        def moved(_request):
            return f"HTTP/1.1 307 Moved\r\nLocation: {trap.url}/x\r\nContent-Length: 0\r\n\r\n".encode()

        async with RawPeer(moved) as peer, proxy(routes(of("doku", "doku-nonsnap"), peer.url)) as running:
            answer = await ask(running.port, "/doku-nonsnap/x")
            assert (answer.status, answer.value("Location")) == (307, f"{trap.url}/x")
            assert problem(await ask(running.port, "/doku/x")) == (502, "token_unavailable", "no")
            assert (trap.connections, len(peer.requests)) == (0, 2)


@pytest.mark.parametrize("key", ["upstream", "token_upstream"])
def test_an_override_cannot_point_an_account_at_another_configured_provider(key):
    configured = routes(of("doku"), "http://127.0.0.1:9")
    configured["routes"] |= routes(of("ifortepay-disbursement"), "http://127.0.0.1:9")["routes"]
    configured["routes"]["doku"][key] = "https://api-stage.senmo.id"
    with pytest.raises(ConfigError) as caught:
        built(configured)
    (finding,) = caught.value.findings
    assert finding.path == f"routes.doku.{key}"
    assert finding.message == "is the host of ifortepay-disbursement, but the route's provider is doku"


async def test_a_name_that_leads_inside_gets_neither_call_nor_token_call(named):
    names = named(pay_example=["127.0.0.1"])
    async with provider("doku") as peer:
        for name in ("doku", "doku-nonsnap"):
            configured = routes(of(name), f"http://pay.example:{peer.port}")
            async with proxy(configured) as running:
                answer = await ask(running.port, f"/{name}/x")
                assert answer.status == 502
                line = running.requests()[-1]
                assert (line["sent"], line["attempts"]) == ("no", 0)
        assert (peer.connections, set(names.asked)) == (0, {"pay.example"})
        assert "allow_private: true" in json.loads(answer.body)["detail"]
        async with proxy(routes(of("doku"), f"http://pay.example:{peer.port}", allow_private=True)) as running:
            assert (await ask(running.port, "/doku/x")).status == 200


async def test_the_token_host_is_looked_at_by_itself(named):
    named(token_example=["127.0.0.1"])
    async with provider("doku") as peer:
        configured = routes(of("doku"), peer.url, token_upstream=f"http://token.example:{peer.port}")
        async with proxy(configured) as running:
            assert problem(await ask(running.port, "/doku/x")) == (502, "token_unavailable", "no")
        assert peer.connections == 0


@pytest.mark.parametrize("listens", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("upstream", ["127.0.0.1", "round.example", "localhost"])
async def test_a_way_back_to_ourselves_is_a_loop(named, listens, upstream):
    named(round_example=["127.0.0.1"], localhost=["127.0.0.1"])
    sock = socket.create_server((listens, 0))
    sock.setblocking(False)
    url = f"http://{upstream}:{sock.getsockname()[1]}/doku-nonsnap"
    settings, generation = built(routes(of("doku-nonsnap"), url, allow_private=True))
    log = io.StringIO()
    app = App(settings, generation, log, listeners=Listeners((Listener(sock),), ()))
    async with asyncio.timeout(20), app.running():
        running = Running(app, log)
        assert problem(await ask(running.port, "/doku-nonsnap/x")) == (508, "loop", "no")
        assert len(running.requests()) == 1
        assert running.metric("paraf_circuit_state") == 0


async def test_nothing_of_ours_is_added_for_the_provider():
    async with two_accounts() as (running, a, _):
        await ask(running.port, "/doku/x", "Via: 1.0 caller", "X-Forwarded-For: 10.0.0.1", "Max-Forwards: 1")
        for request in a.requests:
            sent = {name.lower() for name, _ in request.headers}
            assert not sent & {b"via", b"x-forwarded-for", b"forwarded", b"x-paraf-request-id"}
