"""Nothing that a caller or provider sends makes a series: labels are names of the configuration and closed words."""

import asyncio
import random

from rawpeer import RawCaller, RawPeer, answer
from running import of, proxy, routes

from proxy.telemetry import labels
from proxy.telemetry.story import PHASES, Outcome

CLOSED = {
    "method": {*labels._METHODS, "other"},
    "status_class": {*labels._STATUS_CLASSES},
    "outcome": {*Outcome.__args__},
    "phase": {*PHASES},
    "reason": {*labels.ATTEMPT_REASONS},
    "code_class": {*labels.CODE_CLASSES},
    "result": {*labels.FETCH_RESULTS, *labels.SHADOW_RESULTS},
    "route": {"doku", "doku-nonsnap", "none"},
    "account": {"doku"},
    "store": {"memory"},
}
WORDS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def word(chance, size=8):
    return "".join(chance.choice(WORDS) for _ in range(size))


def hostile(chance):
    method = chance.choice(
        ["GET", "POST", "PUT", "TRACE", "OPTIONS", "HEAD", "DELETE", word(chance), word(chance).upper()]
    )
    host = chance.choice(["localhost", word(chance), f"{word(chance)}.test:80", "api-sandbox.doku.com"])
    prefix = chance.choice(["doku", "doku-nonsnap", word(chance), "", "doku/..", "%2e%2e"])
    scheme = chance.choice(["", f"http://{word(chance)}.test"])
    caller = f"X-Paraf-Token: {word(chance)}\r\ntraceparent: 00-{word(chance)}\r\nX-EXTERNAL-ID: {word(chance)}\r\n"
    head = f"{method} {scheme}/{prefix}/{word(chance)}?{word(chance)} HTTP/1.1\r\nHost: {host}\r\n{caller}"
    return f"{head}Content-Length: 2\r\n\r\n{{}}".encode()


def provider(chance):
    """Any status, any code."""

    def answered(request):
        status = chance.choice([200, 201, 299, 302, 400, 401, 403, 409, 418, 451, 499, 500, 503, 599])
        code = chance.choice([f"{status}{chance.randrange(10**4):04}", word(chance), chance.randrange(10**12), None])
        field = chance.choice(["responseCode", "accessToken", word(chance)])
        body = f'{{"{field}": "{code}", "responseMessage": "{word(chance)}"}}'.encode()
        return answer(f"{status} {word(chance)}", body, f"X-{word(chance)}: {word(chance)}")

    return answered


def series(running):
    found = [sample for metric in running.app.metrics.collect() for sample in metric.samples]
    return {(each.name, tuple(sorted(each.labels.items()))) for each in found}


async def fire(running, chance, number):
    async def one():
        async with RawCaller("127.0.0.1", running.port, 10) as caller:
            caller.send(hostile(chance))
            try:
                await caller.answer(to_head=True)
            except ConnectionError:
                return

    for _ in range(number // 20):
        await asyncio.gather(*(one() for _ in range(20)))


async def test_hostile_callers_and_providers_make_no_series():
    chance = random.Random(4)
    async with (
        RawPeer(provider(chance)) as peer,
        proxy(routes(of("doku", "doku-nonsnap"), peer.url, circuit="off")) as running,
    ):
        before = series(running)
        await fire(running, chance, 600)
        told = running.requests()
        assert len(told) >= 600
        assert len({line.get("error") for line in told}) >= 5
        after = series(running)
        open_labels = {"le", "version", "python"}
        for _, pairs in after:
            assert all(value in CLOSED[name] for name, value in pairs if name not in open_labels), pairs
        closed = [len(CLOSED[name]) for name in ("route", "method", "status_class", "outcome")]
        assert len(after) - len(before) < closed[0] * closed[1] * closed[2] * closed[3]
        assert {name for name, _ in after - before} <= {"paraf_requests_total"}
