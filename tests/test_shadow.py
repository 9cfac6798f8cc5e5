"""Shadow mode: a merchant that signs by itself, against the providers' pages and with code of its own, behind Paraf."""

import asyncio
import json
import threading
from contextlib import asynccontextmanager

import pytest
from rawpeer import RawCaller, RawPeer, answer, ok
from running import EVERY, built, of, proxy, routes, through_sandbox
from sandbox_merchant import COMPACT, HandClock, Merchant

from proxy import shadow
from proxy.clock import SystemClock
from proxy.errors import ConfigError

WITH_TOKEN = [name for name in EVERY if name != "doku-nonsnap"]


def merchant(profile, port):
    (fresh,) = of(profile)
    return Merchant(fresh, ("127.0.0.1", port), HandClock(SystemClock().now_ms()))


async def counted(running, route, requests):
    """What the shadow said of so many requests, once it has."""
    await until(lambda: running.metric("paraf_shadow_total", route=route) >= requests)
    return {result: running.metric("paraf_shadow_total", route=route, result=result) for result in ("same", "differs")}


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 -- told by numbers and lines, which are read from outside
            await asyncio.sleep(0.01)


def told(running):
    return [line for line in running.lines if line["event"] == "shadow"]


@asynccontextmanager
async def shadowed(*profiles, **each):
    async with through_sandbox(*profiles, mode="shadow", **each) as both:
        yield both


@pytest.mark.parametrize("profile", EVERY)
async def test_a_merchant_that_signs_right_is_the_same_in_every_profile(profile):
    async with shadowed(profile) as (running, sandbox):
        app = merchant(profile, running.port)
        if profile in WITH_TOKEN:
            assert (await app.log_in()).status == 200
        assert (await app.call()).status == 200
        assert (await app.call("/v1.0/things", b"", method="GET")).status == 200
        kinds = ["token"] if profile in WITH_TOKEN else []
        assert [entry.kind for entry in sandbox.journal] == [*kinds, "call", "call"]
        requests = len(sandbox.journal)
        assert await counted(running, profile, requests) == {"same": requests, "differs": 0}
        (line,) = told(running)
        assert (line["route"], line["result"]) == (profile, "same")
        assert running.metric("paraf_token_fetch_total") == 0
        assert {each["outcome"] for each in running.requests()} == {"forwarded"}
        assert not any("external_id" in each for each in running.requests())


@pytest.mark.parametrize(
    ("over", "part"),
    [
        ({"path": "/v1.0/things?b=2&a=%2f"}, "path"),
        ({"token": "another"}, None),
        ({"method": "post"}, "method"),
        ({"body": b'{\n  "b": "x  y", "a": 1.10\n}'}, "body"),
        ({"hash": "sha256"}, "algorithm"),
        ({"hex": True}, "encoding"),
        ({"secret": "not mine"}, "key"),
        ({"sent_time": "2026-01-15T10:30:45+07:00"}, "time"),
    ],
)
async def test_what_differs_is_named(over, part):
    """The provider refuses such a call, and the merchant gets its very answer."""
    async with shadowed("doku") as (running, sandbox):
        app = merchant("doku", running.port)
        await app.log_in()
        reply = await app.call(over=over)
        assert reply.status != 200
        assert "x-paraf-error" not in reply.headers
        assert [entry.kind for entry in sandbox.journal] == ["token", "call"]
        assert await counted(running, "doku", 2) == {"same": 1, "differs": 1}
        line = told(running)[-1]
        assert (line["result"], line["level"]) == ("differs", "warning")
        assert part is None or part in line["parts"]
        assert line["words"]
        assert app.token not in running.log.getvalue()
        assert app.secret not in running.log.getvalue()


async def test_the_log_is_told_when_something_changes():
    async with shadowed("doku") as (running, _):
        app = merchant("doku", running.port)
        await app.log_in()
        for number, over in enumerate(({}, {}, {"hex": True}, {"hex": True}, {"method": "post"}, {})):
            await app.call(over=dict(over))
            await counted(running, "doku", number + 2)
        assert [line.get("parts") for line in told(running)] == [None, ["encoding"], ["method"], None]


RAW = (
    b"POST /doku-nonsnap/pay?b=%2f&a HTTP/1.1\r\nhost: localhost\r\nAuthorization: Bearer own\r\nx_signature: mine\r\n"
    b"Signature: HMACSHA256=mine\r\nClient-Id: theirs\r\nX-Forwarded-For: 10.0.0.1\r\nAccept-Encoding: br, zstd\r\n"
    b"traceparent: 00-1-2-3\r\nDigest: SHA-256=own\r\nX-Twice: 1\r\nX-Twice: 2\r\nContent-Type: application/json\r\n"
    b"Connection: keep-alive, X-Gone\r\nX-Gone: 1\r\nX-Paraf-Token: secret\r\nProxy-Authorization: Basic eDp5\r\n"
    b'Content-Length: 17\r\n\r\n{ "b": 1, "a": 2}'
)
PASSED = (
    (b"Authorization", b"Bearer own"),
    (b"x_signature", b"mine"),
    (b"Signature", b"HMACSHA256=mine"),
    (b"Client-Id", b"theirs"),
    (b"X-Forwarded-For", b"10.0.0.1"),
    (b"Accept-Encoding", b"br, zstd"),
    (b"traceparent", b"00-1-2-3"),
    (b"Digest", b"SHA-256=own"),
    (b"X-Twice", b"1"),
    (b"X-Twice", b"2"),
    (b"Content-Type", b"application/json"),
)


async def test_headers_and_body_leave_as_they_were_sent():
    async with RawPeer(lambda _: ok(b"own", "X-Own: 1")) as peer:
        configured = routes(of("doku-nonsnap"), peer.url, mode="shadow")
        async with proxy(configured) as running, RawCaller("127.0.0.1", running.port) as caller:
            caller.send(RAW)
            reply = await caller.answer()
        (request,) = peer.requests
        assert request.target == b"/doku-nonsnap/pay?b=%2f&a"
        assert request.body == b'{ "b": 1, "a": 2}'
        host, *headers, length = request.headers
        assert (host, tuple(headers), length) == (
            (b"Host", f"127.0.0.1:{peer.port}".encode()),
            PASSED,
            (b"Content-Length", b"17"),
        )
        assert (reply.body, reply.value("X-Own")) == (b"own", "1")


async def test_nothing_is_healed_and_no_token_is_fetched():
    refused = answer("401 Unauthorized", b'{"responseCode":"4012701","responseMessage":"Invalid Token (B2B)"}')
    async with RawPeer(lambda _: refused) as peer, proxy(routes(of("doku"), peer.url, mode="shadow")) as running:
        reply = await merchant("doku", running.port).call(body=COMPACT)
        assert (reply.status, reply.content["responseCode"]) == (401, "4012701")
        assert len(peer.requests) == 1
        (line,) = running.requests()
        assert (line["outcome"], line["attempts"], line["provider_code"]) == ("refused", 1, "4012701")


async def test_the_merchants_own_token_call_goes_to_the_token_host():
    """Also where that is another one than the API's, by prefix and by its name."""
    async with RawPeer(lambda _: ok(b"{}")) as api, RawPeer(lambda _: ok(b"{}")) as kronos:
        configured = routes(of("ifortepay-payment"), api.url, mode="shadow", token_upstream=f"{kronos.url}/auth")
        async with proxy(configured) as running:
            app = merchant("ifortepay-payment", running.port)
            await app.ask()
            await app.call()
            assert await counted(running, "ifortepay-payment", 2) == {"same": 2, "differs": 0}
        assert [request.target for request in kronos.requests] == [b"/auth/auth/merchants/v1.0/access-token/b2b"]
        assert [request.target for request in api.requests] == [b"/ifortepay-payment/v1.0/things?b=2&a=%2f"]


async def test_no_request_waits_for_the_comparison_or_fails_of_it(monkeypatch):
    """The judge sleeps as long as the test wants; of many requests the first ones are compared."""
    gate, judged = threading.Event(), []

    def slow(*_args, **_options):
        judged.append(1)
        gate.wait(20)
        raise RuntimeError("a fault with a secret in it")

    monkeypatch.setattr(shadow, "diagnose", slow)
    monkeypatch.setattr(shadow, "MOST", 3)
    async with RawPeer(lambda _: ok(b"{}")) as peer, proxy(routes(of("doku"), peer.url, mode="shadow")) as running:
        app = merchant("doku", running.port)
        for _ in range(6):
            assert (await app.call()).status == 200
        gate.set()
        await until(lambda: [line["event"] for line in running.lines].count("fault") == 3)
        assert len(judged) == 3
        assert running.metric("paraf_shadow_total") == 0
        assert "secret in it" not in running.log.getvalue()


async def test_a_slow_answer_does_not_make_the_time_of_signing_wrong(monkeypatch):
    late, now_ms = [0], SystemClock.now_ms
    monkeypatch.setattr(SystemClock, "now_ms", lambda clock: now_ms(clock) + late[0])

    def slowly(_request):
        late[0] = 90_000
        return ok(b"{}")

    async with RawPeer(slowly) as peer, proxy(routes(of("doku-nonsnap"), peer.url, mode="shadow")) as running:
        await merchant("doku-nonsnap", running.port).call()
        assert await counted(running, "doku-nonsnap", 1) == {"same": 1, "differs": 0}


async def test_what_did_not_leave_is_not_compared():
    async with RawPeer(lambda _: ok()) as peer:
        port = peer.port
    async with proxy(routes(of("doku"), f"http://127.0.0.1:{port}", mode="shadow")) as running:
        reply = await merchant("doku", running.port).call()
        assert (reply.status, reply.headers["x-paraf-error"]) == (502, "upstream_unreachable")
        assert running.metric("paraf_shadow_total") == 0


@pytest.mark.parametrize("profile", EVERY)
async def test_in_sign_mode_its_signatures_are_replaced(profile):
    """The switch that shadow mode prepares: the same program, with dummy keys from now on, and a stand-in's token."""
    standin = profile in WITH_TOKEN
    async with through_sandbox(profile, mode="sign", token_standin=standin) as (running, sandbox):
        app = merchant(profile, running.port)
        if standin:
            await app.log_in()
        assert (await app.call(over={"secret": "dummy", "token": "dummy", "path": "/elsewhere"})).status == 200
        assert [entry.kind for entry in sandbox.journal] == (["token", "call"] if standin else ["call"])
        assert [entry.part for entry in sandbox.journal if entry.kind == "call"] == [None]


def test_a_stand_in_and_the_shadow_exclude_each_other():
    with pytest.raises(ConfigError) as caught:
        built(routes(of("doku"), "http://127.0.0.1:9", mode="shadow", token_standin=True))
    (finding,) = caught.value.findings
    assert finding.path == "routes.doku.token_standin"
    assert "mode: shadow" in finding.message


async def test_routes_beside_it_are_signed_as_ever():
    async with RawPeer(lambda _: ok(b"{}")) as peer:
        configured = routes(of("doku", "doku-nonsnap"), peer.url)
        configured["routes"]["doku"]["mode"] = "shadow"
        async with proxy(configured) as running:
            async with RawCaller("127.0.0.1", running.port) as caller:
                caller.send(RAW)
                assert (await caller.answer()).status == 200
            assert running.metric("paraf_shadow_total", route="doku-nonsnap") == 0
        assert peer.requests[0].values("Signature") != [b"HMACSHA256=mine"]
        assert json.loads(peer.requests[0].body) == {"a": 2, "b": 1}
