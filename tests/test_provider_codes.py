"""The provider's own code in log and metric: read while the answer passes, so that nobody waits for it."""

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from rawpeer import CLOSE, RawCaller, RawPeer, answer, ok
from running import of, proxy, routes

TOKEN = ok(b'{"responseCode": "2007300", "accessToken": "tok-1", "tokenType": "Bearer", "expiresIn": 900}')
CODED = b'{"responseCode": "4032514", "responseMessage": "Insufficient Funds"}'
CALL = b"POST /doku/v1/pay HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


def provider(*steps):
    return RawPeer(lambda request: TOKEN if b"access-token" in request.target else steps)


async def until(condition, seconds=10):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- the log has no event
            await asyncio.sleep(0.01)


async def told(peer, *, cut=False):
    """The answer, the log line, and how often each class was counted."""
    async with proxy(routes(of("doku"), peer.url)) as running, RawCaller("127.0.0.1", running.port) as caller:
        caller.send(CALL)
        answered = await caller.answer()
        assert answered.whole is not cut
        await until(running.requests)
        return (
            answered,
            running.requests()[0],
            lambda name: running.metric("paraf_provider_code_total", code_class=name),
        )


async def test_the_head_and_the_first_bytes_of_a_refusal_do_not_wait_for_its_end():
    rest = asyncio.Event()
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(CODED)
    async with (
        provider(head + CODED[:20], rest, CODED[20:]) as peer,
        proxy(routes(of("doku"), peer.url)) as running,
        RawCaller("127.0.0.1", running.port) as caller,
    ):
        caller.send(CALL)
        async with asyncio.timeout(10):
            assert (await caller.reader.readline()).startswith(b"HTTP/1.1 403")
            await caller.reader.readuntil(CODED[:20])
            assert running.requests() == []
            rest.set()
            await caller.reader.readexactly(len(CODED) - 20)
            await until(running.requests)
        (line,) = running.requests()
        assert (line["provider_status"], line["provider_code"]) == (403, "4032514")
        assert running.metric("paraf_provider_code_total", code_class="permission") == 1


@pytest.mark.parametrize(
    ("data", "code", "code_class"),
    [
        (answer("403 Forbidden", CODED), "4032514", "permission"),
        (answer("403 Forbidden", gzip.compress(CODED), "Content-Encoding: gzip"), "4032514", "permission"),
        (answer("409 Conflict", b'{"responseCode": "4092500"}'), "4092500", "duplicate"),
        (
            answer("400 Bad Request", b'{"responseCode": "4002501", "responseMessage": "Invalid Format X-TIMESTAMP"}'),
            "4002501",
            "time",
        ),
        (answer("500 Error", b'{"responseCode": "5002500"}'), "5002500", "provider_fault"),
        (answer("502 Bad Gateway", b"<html>"), None, "provider_fault"),
        (answer("403 Forbidden", b'{"responseCode": "403<script>"}'), None, "other"),
        (answer("403 Forbidden", b" " * 70_000 + CODED), None, "other"),
        (answer("403 Forbidden"), None, "other"),
        (ok(CODED), None, "ok"),
    ],
)  # fmt: skip
async def test_code_and_class_stand_in_log_and_metric(data, code, code_class):
    async with provider(data) as peer:
        answered, line, counted = await told(peer)
        assert line.get("provider_code") == code
        assert counted(code_class) == 1
        assert data.endswith(b"\r\n\r\n" + answered.body)


async def test_in_chunks_too():
    sent = [b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"]
    sent += [b"1\r\n%c\r\n" % each for each in CODED] + [b"0\r\n\r\n"]
    async with provider(*sent) as peer:
        answered, line, counted = await told(peer)
        assert (answered.body, line["provider_code"], counted("permission")) == (CODED, "4032514", 1)


async def test_an_answer_that_breaks_off_has_no_code():
    async with provider(b"HTTP/1.1 403 No\r\nContent-Length: 900\r\n\r\n" + CODED, 0.01, CLOSE) as peer:
        _, line, counted = await told(peer, cut=True)
        assert "provider_code" not in line
        assert line["provider_status"] == 403
        assert counted("other") == 1


async def test_nothing_of_the_providers_words_is_repeated():
    said = {
        "responseCode": "4012500",
        "responseMessage": "Unauthorized. Unknown Client canary-4711",
        "x": "canary-4711",
    }
    async with provider(answer("401 Unauthorized", json.dumps(said).encode())) as peer:
        _, line, counted = await told(peer)
        assert "canary" not in json.dumps(line)
        assert counted("permission") == 1


@pytest.mark.parametrize(
    ("ahead", "state"), [(timedelta(hours=1), "off"), (timedelta(hours=-1), "off"), (timedelta(), None)]
)
async def test_a_clock_that_is_off_is_in_gauge_and_log_once_and_not_in_the_signature(ahead, state):
    def dated(request):
        now = datetime.now(UTC)
        sent.append(abs((datetime.fromisoformat(request.values("X-TIMESTAMP")[0].decode()) - now).total_seconds()))
        date = format_datetime(now + ahead + timedelta(seconds=len(sent)), usegmt=True)
        return TOKEN if b"access-token" in request.target else ok(b"{}", f"Date: {date}")

    sent = []
    async with (
        RawPeer(dated) as peer,
        proxy(routes(of("doku"), peer.url)) as running,
        RawCaller("127.0.0.1", running.port) as caller,
    ):
        for _ in range(4):
            caller.send(CALL)
            await caller.answer()
        assert running.metric("paraf_clock_skew_seconds", route="doku") == pytest.approx(ahead.total_seconds(), abs=15)
        assert [line["state"] for line in running.lines if line["event"] == "clock"] == ([state] if state else [])
        assert max(sent) < 15
