"""Traces: taken over from the caller, sent on when asked for, and as spans at a collector."""

import asyncio
import subprocess
import sys
import time
from itertools import count

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_receiver import attributes, receiving
from rawpeer import RawCaller, RawPeer, answer, ok
from running import of, proxy, routes

from proxy.telemetry.traceparent import traced

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"traceparent: 00-{ID}-{SPAN}-01"
REFUSED = answer("401 Unauthorized", b'{"responseCode": "4012501"}')


def provider(*answers):
    left, tokens = list(answers), count(1)
    token = b'{"accessToken": "tok-%d", "expiresIn": 900}'
    return RawPeer(lambda request: ok(token % next(tokens)) if b"access-token" in request.target else left.pop(0))


def configured(peer, **trace):
    return {**routes(of("doku"), peer.url), "trace": trace}


async def asked(running, *lines, method="POST"):
    async with RawCaller("127.0.0.1", running.port) as caller:
        head = (f"{method} /doku/v1/pay HTTP/1.1", "Host: localhost", "Content-Length: 2", *lines)
        caller.send("\r\n".join(head).encode() + b"\r\n\r\n{}")
        return await caller.answer()


def call_of(peer):
    (call,) = [each for each in peer.requests if b"access-token" not in each.target]
    return call


# Without spans


async def test_the_callers_trace_is_in_the_log_and_ends_here():
    async with provider(ok(b"{}")) as peer, proxy(configured(peer)) as running:
        await asked(running, PARENT, "tracestate: a=1")
        (line,) = running.requests()
        assert (line["trace_id"], line["span_id"]) == (ID, SPAN)
        assert all(not each.values("traceparent") + each.values("tracestate") for each in peer.requests)


@pytest.mark.parametrize(
    "lines", [[], ["traceparent: 00-canary-1"], [PARENT, PARENT], [f"traceparent: 00-{'0' * 32}-{SPAN}-01"]]
)
async def test_no_trace_or_none_that_is_valid(lines):
    async with provider(ok(b"{}")) as peer, proxy(configured(peer, propagate=True)) as running:
        assert (await asked(running, *lines)).status == 200
        (line,) = running.requests()
        assert not {"trace_id", "span_id"} & line.keys()
        assert not call_of(peer).values("traceparent")


async def test_the_trace_goes_on_when_asked_for():
    async with provider(ok(b"{}")) as peer, proxy(configured(peer, propagate=True)) as running:
        await asked(running, f"Trace-Parent: x, {PARENT}", PARENT, "TraceState: a=1", "tracestate: b=2")
        call = call_of(peer)
        assert call.values("traceparent") == [f"00-{ID}-{SPAN}-01".encode()]
        assert call.values("tracestate") == [b"a=1,b=2"]
        tokens = [each for each in peer.requests if b"access-token" in each.target]
        assert all(not each.values("traceparent") for each in tokens)


# With spans


def by_name(spans):
    return {span.name: span for span in spans}


def ids(span):
    return span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()


async def test_spans_of_a_request_reach_a_collector():
    began = time.time_ns()
    async with receiving() as receiver, provider(ok(b'{"responseCode": "2002500"}')) as peer:
        async with proxy(configured(peer, otlp=receiver.url)) as running:
            await asked(running, PARENT, "tracestate: a=1")
            (line,) = running.requests()
        spans = by_name(await receiver.until(4))
    assert set(spans) == {"POST doku", "token", "sign", "upstream"}
    server = spans["POST doku"]
    assert ids(server) == (ID, line["span_id"], SPAN)
    assert (line["trace_id"], line["span_id"] != SPAN) == (ID, True)
    assert (server.kind, server.trace_state, server.status.code) == (
        Span.SPAN_KIND_SERVER,
        "a=1",
        Status.STATUS_CODE_UNSET,
    )
    assert attributes(server) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "paraf.route": "doku",
        "paraf.request_id": line["request_id"],
        "paraf.outcome": "forwarded",
        "paraf.sent": "maybe",
        "paraf.generation": 1,
        "paraf.external_id": line["external_id"],
    }
    for name, kind in (
        ("token", Span.SPAN_KIND_INTERNAL),
        ("sign", Span.SPAN_KIND_INTERNAL),
        ("upstream", Span.SPAN_KIND_CLIENT),
    ):
        span = spans[name]
        assert (span.trace_id, span.parent_span_id, span.kind) == (server.trace_id, server.span_id, kind)
        assert began - 10**6 < server.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= server.end_time_unix_nano
        assert abs((span.end_time_unix_nano - span.start_time_unix_nano) / 1e6 - line[f"{name}_ms"]) < 0.1
    assert spans["token"].end_time_unix_nano <= spans["sign"].start_time_unix_nano + 1000
    assert attributes(spans["upstream"]) == {"http.response.status_code": 200}
    assert receiver.resources[0]["service.name"] == "paraf"
    assert b"/v1/pay" not in b"".join(receiver.raw)
    assert b"tok-1" not in b"".join(receiver.raw)


async def test_a_heal_has_each_attempt():
    async with receiving() as receiver, provider(REFUSED, ok(b"{}")) as peer:
        async with proxy(configured(peer, otlp=receiver.url)) as running:
            assert (await asked(running)).status == 200
            (line,) = running.requests()
        spans = await receiver.until(7)
    assert sorted(span.name for span in spans) == [
        "POST doku",
        "sign",
        "sign",
        "token",
        "token",
        "upstream",
        "upstream",
    ]
    (server,) = [span for span in spans if span.name == "POST doku"]
    assert ids(server) == (line["trace_id"], line["span_id"], "")
    assert {ids(span)[0] for span in spans} == {line["trace_id"]}
    assert attributes(server)["paraf.outcome"] == "healed"


async def test_the_provider_gets_our_span_as_its_parent():
    async with receiving() as receiver, provider(ok(b"{}")) as peer:
        async with proxy(configured(peer, otlp=receiver.url, propagate=True)) as running:
            await asked(running, PARENT, "tracestate: a=1")
            (line,) = running.requests()
        call = call_of(peer)
        assert call.values("traceparent") == [f"00-{ID}-{line['span_id']}-01".encode()]
        assert call.values("tracestate") == [b"a=1"]
        await receiver.until(4)


async def test_a_caller_who_does_not_sample_gives_no_spans():
    async with receiving() as receiver, provider(ok(b"{}"), ok(b"{}")) as peer:
        async with proxy(configured(peer, otlp=receiver.url)) as running:
            await asked(running, PARENT.removesuffix("01") + "00")
            await asked(running)
        spans = await receiver.until(4)
        assert ID not in {span.trace_id.hex() for span in spans}


async def test_errors_are_marked():
    async with receiving() as receiver, provider(answer("500 Error", b'{"responseCode": "5002500"}')) as peer:
        async with proxy(configured(peer, otlp=receiver.url)) as running:
            await asked(running)
            await asked(running, method="TRACE")
        spans = by_name(await receiver.until(5))
    failed = {name for name, span in spans.items() if span.status.code == Status.STATUS_CODE_ERROR}
    assert failed == {"POST doku", "upstream"}
    assert attributes(spans["POST doku"])["paraf.provider_code"] == "5002500"
    assert attributes(spans["TRACE none"])["error.type"] == "method_not_allowed"


@pytest.mark.parametrize("status", [None, 503, 400])
async def test_a_collector_that_fails_costs_no_request_and_no_long_end(status, capfd):
    async with receiving(status or 200) as receiver, provider(*[ok(b"{}")] * 5) as peer:
        url = receiver.url if status else "http://127.0.0.1:9"
        async with proxy(configured(peer, otlp=url)) as running:
            for _ in range(5):
                assert (await asked(running)).status == 200
            began = time.monotonic()
        assert time.monotonic() - began < 20
    assert capfd.readouterr() == ("", "")


async def test_a_collector_that_never_answers_costs_no_request_and_no_long_end(capfd):
    """It takes the connection and keeps it: more requests than wait for it in memory."""
    held = []

    async def hold(_reader, writer):
        held.append(writer)

    async with provider(*[ok(b"{}")] * 300) as peer, await asyncio.start_server(hold, "127.0.0.1", 0) as silent:
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        async with proxy(configured(peer, otlp=url)) as running:
            for _ in range(300):
                assert (await asked(running)).status == 200
            assert max(line["total_ms"] for line in running.requests()) < 5000
            began = time.monotonic()
        assert time.monotonic() - began < 20
        for writer in held:
            writer.close()
    assert capfd.readouterr() == ("", "")


IMPORTS = """
import sys
from proxy.commands import main
try:
    main(["demo", "--once"])
except SystemExit:
    pass
print([name for name in sys.modules if name.startswith(("opentelemetry", "requests", "google"))], file=sys.stderr)
"""


def test_nothing_is_loaded_of_it_when_it_is_off():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_valid_header_is_what_the_log_has():
    assert traced([PARENT.partition(": ")[2]]).trace_id == ID
