"""The whole way: a plain request in, the sandbox's verdict out, over real sockets, for every profile."""

import asyncio
import gzip
import json

import pytest
from rawpeer import RawPeer, Request, answer, exchange, ok
from running import EVERY, of, proxy, routes, through_sandbox

from proxy.commands.fresh import EXAMPLES


async def call(port, method, target, body=b"", *headers):
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    raw = await exchange("127.0.0.1", port, "\r\n".join(lines).encode() + b"\r\n\r\n" + body, deadline=20)
    head, _, payload = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    if any(field.lower() == "transfer-encoding: chunked" for field in fields):
        payload = unchunked(payload)
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), payload


def unchunked(payload):
    body = b""
    while payload:
        size, _, rest = payload.partition(b"\r\n")
        body, payload = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def example(profile):
    target, body, headers = EXAMPLES[profile]
    return f"/{profile}{target}", body.encode(), [f"{name}: {value}" for name, value in headers]


async def ask(port, profile, *headers):
    target, body, own = example(profile)
    return await call(port, "POST", target, body, "Content-Type: application/json", *own, *headers)


@pytest.mark.parametrize("profile", EVERY)
async def test_every_profile_is_accepted(profile):
    async with through_sandbox(profile) as (running, sandbox):
        for target in (example(profile)[0], example(profile)[0] + "?b=2&a=%2f%C3%A9+x&a="):
            status, headers, body = await call(running.port, "POST", target, example(profile)[1], *example(profile)[2])
            assert status == 200, (headers.get("X-Sandbox-Explains"), body)
        get = await call(running.port, "GET", f"/{profile}/v1/status?id=1", b"", *example(profile)[2])
        assert get[0] == 200, get
        calls = [entry for entry in sandbox.journal if entry.kind == "call"]
        assert [entry.part for entry in calls] == [None] * 3
        assert len([entry for entry in sandbox.journal if entry.kind == "token"]) == (
            0 if profile == "doku-nonsnap" else 1
        )


async def test_ifortepay_payment_without_token():
    async with through_sandbox("ifortepay-payment", signature="asymmetric") as (running, sandbox):
        assert (await ask(running.port, "ifortepay-payment"))[0] == 200
        assert [entry.kind for entry in sandbox.journal] == ["call"]


async def test_cold_start_asks_for_one_token():
    async with through_sandbox("doku", limits={"concurrency": 50, "queue": 1000}) as (running, sandbox):
        sandbox.faults.token_delay = 0.2
        answers = await asyncio.gather(*(ask(running.port, "doku") for _ in range(200)))
        assert {status for status, _, _ in answers} == {200}
        assert [entry.kind for entry in sandbox.journal].count("token") == 1


async def test_tokens_expired_at_the_provider_are_healed_once():
    async with through_sandbox("doku") as (running, sandbox):
        assert (await ask(running.port, "doku"))[0] == 200
        await asyncio.sleep(1.0)  # the least gap between two token calls
        sandbox.expire_tokens("doku")
        answers = await asyncio.gather(*(ask(running.port, "doku") for _ in range(50)))
        assert {status for status, _, _ in answers} == {200}
        assert [entry.kind for entry in sandbox.journal].count("token") == 2
        repeated = [entry.external_id for entry in sandbox.journal if entry.kind == "call"]
        assert max(repeated.count(external_id) for external_id in repeated) == 2
        assert {line["outcome"] for line in running.requests()} == {"forwarded", "healed"}
        assert running.metric("paraf_attempts_total", reason="healed") >= 1


REFUSED = b'{"responseCode":"4012701","responseMessage":"Invalid Token (B2B)"}'
TOKEN = b'{"responseCode":"2007300","accessToken":"tok-%d","tokenType":"Bearer","expiresIn":"900"}'


class Provider:
    """Answers token calls in order and calls by script; knows what it was asked."""

    def __init__(self, *calls, tokens=(200,) * 9):
        self.calls, self.tokens, self.asked, self.fetched = list(calls), list(tokens), [], 0

    def __call__(self, request: Request):
        if b"access-token" in request.target:
            status = self.tokens[min(self.fetched, len(self.tokens) - 1)]
            self.fetched += 1
            return ok(TOKEN % self.fetched) if status == 200 else answer(f"{status} No", b'{"responseCode":"4017300"}')
        self.asked.append(request)
        return self.calls[min(len(self.asked), len(self.calls)) - 1]


def doku(peer, **route):
    return routes(of("doku"), peer.url, **route)


async def test_a_second_refusal_is_passed_on_and_not_repeated():
    provider = Provider(answer("401 Unauthorized", REFUSED))
    async with RawPeer(provider) as peer, proxy(doku(peer)) as running:
        status, headers, body = await ask(running.port, "doku")
        assert (status, body) == (401, REFUSED)
        assert len(provider.asked) == 2
        assert "X-Paraf-Error" not in headers
        first, second = provider.asked
        assert (
            first.values("X-EXTERNAL-ID") == second.values("X-EXTERNAL-ID") == [headers["X-Paraf-External-Id"].encode()]
        )
        assert (first.values("Authorization"), second.values("Authorization")) == ([b"Bearer tok-1"], [b"Bearer tok-2"])
        assert first.values("X-SIGNATURE") != second.values("X-SIGNATURE")
        line = running.requests()[-1]
        assert (line["outcome"], line["attempts"], line["sent"], line["provider_code"]) == (
            "refused",
            2,
            "maybe",
            "4012701",
        )


async def test_a_compressed_refusal_is_recognised_and_passed_on_as_it_came():
    packed = gzip.compress(REFUSED)
    provider = Provider(
        answer("401 Unauthorized", packed, "Content-Encoding: gzip"),
        answer("401 Unauthorized", packed, "Content-Encoding: gzip"),
    )
    async with RawPeer(provider) as peer, proxy(doku(peer)) as running:
        status, headers, body = await ask(running.port, "doku")
        assert (status, headers["Content-Encoding"], body) == (401, "gzip", packed)
        assert len(provider.asked) == 2


async def test_without_a_new_token_the_caller_gets_the_providers_own_refusal():
    provider = Provider(answer("401 Unauthorized", REFUSED), tokens=(200, 500))
    async with RawPeer(provider) as peer, proxy(doku(peer)) as running:
        status, headers, body = await ask(running.port, "doku")
        assert (status, body, len(provider.asked)) == (401, REFUSED, 1)
        assert "X-Paraf-Error" not in headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_401_is_no_refusal_and_not_repeated(method):
    """Faults of the transport: test_fault_matrix.py."""
    provider = Provider(answer("401 No", b"" if method == "HEAD" else b'{"responseCode":"4012700"}'))
    async with RawPeer(provider) as peer, proxy(doku(peer)) as running:
        status, _, _ = await call(running.port, method, "/doku/x", b"{}")
        assert (status, len(provider.asked)) == (401, 1)


async def test_no_token_and_nothing_is_sent():
    provider = Provider(ok(), tokens=(401,))
    async with RawPeer(provider) as peer, proxy(doku(peer)) as running:
        status, headers, body = await ask(running.port, "doku")
        problem = json.loads(body)
        assert (status, headers["X-Paraf-Error"], problem["sent"]) == (502, "token_unavailable", "no")
        assert (problem["provider_status"], problem["provider_code"]) == (401, "4017300")
        assert problem["request_id"] == headers["X-Paraf-Request-Id"]
        assert provider.asked == []


async def test_an_unreachable_provider_is_told_apart():
    async with RawPeer(Provider(ok())) as peer:
        configured = doku(peer)
    async with proxy(configured) as running:
        status, headers, body = await ask(running.port, "doku")
        assert (status, headers["X-Paraf-Error"], json.loads(body)["sent"]) == (502, "token_unavailable", "no")


@pytest.mark.parametrize(
    ("request_line", "code"),
    [
        ("GET /nowhere/x", 404),
        ("GET /doku/../x", 400),
        ("GET /doku/%2e%2e/x", 400),
        ("GET /doku//x", 400),
        ("GET /doku/a%zz", 400),
        ("TRACE /doku/x", 405),
        ("POST /doku/forbidden", 403),
    ],
)
async def test_bad_input(request_line, code):
    async with through_sandbox("doku", allow=["GET /**", "POST /allowed"]) as (running, sandbox):
        method, target = request_line.split()
        assert (await call(running.port, method, target))[0] == code
        assert sandbox.journal == []


async def test_a_body_over_the_limit():
    async with through_sandbox("doku", limits={"body": "1KiB"}) as (running, sandbox):
        status, headers, _ = await call(running.port, "POST", "/doku/x", b"x" * 1025)
        assert (status, headers["X-Paraf-Error"]) == (413, "body_too_large")
        assert sandbox.journal == []


async def test_two_routes_with_one_client_share_one_token():
    chosen = of("doku")
    async with RawPeer(Provider(ok())) as peer:
        configured = routes(chosen, peer.url)
        configured["routes"]["again"] = {**configured["routes"]["doku"]}
        async with proxy(configured) as running:
            assert (
                (await call(running.port, "GET", "/doku/x"))[0]
                == (await call(running.port, "GET", "/again/x"))[0]
                == 200
            )
            assert peer.script.fetched == 1


async def test_an_answer_that_stalls_while_it_is_judged_frees_its_connection():
    """It is held for its code; when time runs out over that, the provider's connection must not stay taken."""
    provider = Provider([b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 500\r\n\r\n{", 30.0])
    async with RawPeer(provider) as peer:
        waits = {"total": "300ms", "first_byte": "1s", "idle": "10s"}
        async with proxy(doku(peer, timeouts=waits, limits={"concurrency": 2})) as running:
            for _ in range(8):
                answered = await ask(running.port, "doku")
                assert (answered[0], answered[1]["X-Paraf-Error"]) == (504, "upstream_timeout")
            await peer.until(lambda peer: peer.hangups == 8)


async def test_time_that_runs_out_over_a_heal_costs_the_heal_alone():
    provider = Provider(answer("401 Unauthorized", REFUSED), tokens=(200, 200))
    tokens = provider.__call__
    async with RawPeer(provider) as peer, proxy(doku(peer, timeouts={"total": "500ms"})) as running:
        peer.script = lambda request: (
            [30.0] if b"access-token" in request.target and provider.fetched else tokens(request)
        )
        status, headers, body = await ask(running.port, "doku")
        assert (status, body) == (401, REFUSED)
        assert "X-Paraf-Error" not in headers
        assert running.requests()[-1]["outcome"] == "refused"


async def test_who_waits_for_a_turn_in_vain_is_told_so():
    provider = Provider([30.0])
    limits = {"concurrency": 1, "queue": 5}
    async with RawPeer(provider) as peer, proxy(doku(peer, limits=limits, timeouts={"total": "2s"})) as running:
        answers = await asyncio.gather(*(ask(running.port, "doku") for _ in range(3)))
        codes = sorted(headers["X-Paraf-Error"] for _, headers, _ in answers)
        assert codes == ["overloaded", "overloaded", "upstream_timeout"]
        assert {headers.get("Retry-After") for status, headers, _ in answers if status == 503} == {"1"}


async def test_a_refusal_that_is_not_whole_is_no_refusal():
    """Netzme's 401 needs no code to be one; of a long answer only the beginning was seen."""
    asked = []

    def script(request):
        if b"accesstoken" in request.target:
            return ok(b'{"access_token":"tok","token_type":"bearer"}')
        asked.append(request)
        return answer("401 Unauthorized", b" " * 70_000)

    async with RawPeer(script) as peer, proxy(routes(of("netzme"), peer.url)) as running:
        status, _, body = await ask(running.port, "netzme")
        assert (status, len(body), len(asked)) == (401, 70_000, 1)


async def test_a_page_of_another_site_cannot_have_a_browser_pay():
    async with through_sandbox("doku") as (running, sandbox):
        for site in ("cross-site", "same-site"):
            status, headers, _ = await ask(
                running.port, "doku", f"Sec-Fetch-Site: {site}", "Origin: https://evil.example"
            )
            assert (status, headers["X-Paraf-Error"]) == (403, "not_allowed")
        assert sandbox.journal == []
        assert (await ask(running.port, "doku", "Origin: www.merchant.example"))[0] == 200
