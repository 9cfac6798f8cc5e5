"""Dashboard and alerts against what they are for: promtool's checks, and a real Prometheus that scrapes real processes
in front of a provider that misbehaves in every way that an alert is about.
"""

import asyncio
import json
import re
import signal
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import aiohttp
import pytest
import yaml
from processes import serving
from prometheus_server import free_port, promtool, scraping
from rawpeer import RawPeer, answer, ok
from running import of, routes

from proxy.telemetry.families import FAMILIES

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "paraf.rules.yaml"
RULE_TESTS = DEPLOY / "prometheus" / "paraf.rules.test.yaml"
BOARD = DEPLOY / "grafana" / "paraf.json"


def alerts():
    return {
        rule["alert"]: rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    }


def panels():
    return [each for each in json.loads(BOARD.read_text())["panels"] if each["type"] != "row"]


def queries():
    """Every expression of the dashboard, by panel, as Grafana would ask it."""
    filled = {"$__rate_interval": "1m", "$route": ".*", "$instance": ".*"}
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in filled.items():
                expression = expression.replace(name, value)
            yield f"{panel['title']} {target['refId']}", expression


EVERY = {**dict(queries()), **alerts()}


# The files themselves


async def test_the_rules_are_good():
    assert await promtool("check", "rules", RULES) == (
        0,
        f"Checking {RULES}\n  SUCCESS: {len(alerts())} rules found\n\n",
    )


async def test_the_rules_fire_when_they_should():
    code, said = await promtool("test", "rules", RULE_TESTS)
    assert (code, "SUCCESS" in said) == (0, True), said


def test_every_alert_is_tried_firing_and_silent():
    tried = [each for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for each in test["alert_rule_test"]]
    assert {each["alertname"] for each in tried if each.get("exp_alerts")} == set(alerts())
    assert {each["alertname"] for each in tried if not each.get("exp_alerts")} == set(alerts())


def test_every_metric_is_on_the_dashboard_and_no_other():
    shown = set(re.findall(r"paraf_\w+", " ".join(expression for _, expression in queries())))
    assert {name.removesuffix("_bucket") for name in shown} == FAMILIES.keys()


@pytest.mark.parametrize("title", EVERY)
def test_queries_name_metrics_and_labels_that_there_are(title):
    for name, matchers in re.findall(r"(paraf_\w+)(?:\{([^}]*)\})?", EVERY[title]):
        family = FAMILIES[name.removesuffix("_bucket")]
        assert {each[0] for each in re.findall(r"(\w+)(=|!=|=~|!~)\"", matchers)} <= {*family.labels, "instance", "le"}
    words = {each for by in re.findall(r"\bby \(([^)]*)\)", EVERY[title]) for each in re.findall(r"\w+", by)}
    known = {
        label
        for name in re.findall(r"paraf_\w+", EVERY[title])
        for label in FAMILIES[name.removesuffix("_bucket")].labels
    }
    assert words <= {*known, "instance", "le"}


def test_panels_stand_side_by_side_and_say_what_they_show():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["fieldConfig"]["defaults"]["unit"]
    ids = [panel["id"] for panel in json.loads(BOARD.read_text())["panels"]]
    assert len(ids) == len(set(ids))


# Against the running product

SLOW = 5.5
TOKEN = {
    "accessToken": "tok-1",
    "access_token": "tok-1",
    "tokenType": "Bearer",
    "token_type": "bearer",
    "expiresIn": 900,
}
REFUSALS = {
    b"forbidden": answer("403 Forbidden", b'{"responseCode": "4032514"}'),
    b"unsigned": answer("401 Unauthorized", b'{"responseCode": "4012500", "responseMessage": "Invalid Signature"}'),
    b"broken": answer("500 Error", b'{"responseCode": "5002500"}'),
    b"unauthorized": answer("401 Unauthorized", b'{"status": "UNAUTHORIZED"}'),
}
CALLS = [
    "/doku/fine",
    "/doku/forbidden",
    "/doku/unsigned",
    "/doku/broken",
    "/dead/x",
    "/shadow/x",
    "/rejected/x",
    "/netzme/unauthorized",
]


def provider(request):
    """Its clock is an hour ahead."""
    if b"rejected" in request.target:
        return answer("401 Unauthorized", b'{"responseCode": "4017300"}')
    if b"access" in request.target:
        return ok(json.dumps({**TOKEN, "expiry_token": 10**13}).encode())
    for word, refusal in REFUSALS.items():
        if word in request.target:
            return refusal
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    fine = ok(b'{"responseCode": "2002500"}', f"Date: {date}")
    return [SLOW, fine] if b"slow" in request.target else fine


def configuration(upstream):
    made = routes([*of("doku"), *of("netzme")], upstream, strip_base_path=False)["routes"]
    dead = f"http://127.0.0.1:{free_port()}"
    made["slow"] = {**made["doku"], "upstream": f"{upstream}/slow"}
    made["rejected"] = {**made["doku"], "upstream": f"{upstream}/rejected"}
    made["dead"] = {
        **made["doku"],
        "upstream": dead,
        "token_upstream": upstream,
        "circuit": {"faults": 2, "probe": "60s"},
    }
    made["doku"]["upstream"] = upstream
    made["shadow"] = {**made["doku"], "mode": "shadow"}
    made["netzme"]["upstream"] = upstream
    listening = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    return {"version": 1, **listening, "log": {"format": "json"}, "routes": made}


async def call(session, address, path):
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.post(f"http://{address}{path}", data=b"{}") as answered:
            await answered.read()


async def again_and_again(session, address, path, pause=0.05):
    while True:
        await call(session, address, path)
        await asyncio.sleep(pause)


async def until_all_have_data(prometheus, wanted, seconds):
    """What had none when time was over."""
    lacking = dict(wanted)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while lacking:
                for title, expression in list(lacking.items()):
                    if await prometheus.ask(expression):
                        del lacking[title]
                await asyncio.sleep(0.5)
    return lacking


@pytest.mark.slow
async def test_every_query_of_dashboard_and_alerts_gets_data_from_the_running_product(tmp_path):
    (tmp_path / "b").mkdir()
    async with AsyncExitStack() as stack, RawPeer(provider) as peer:
        configured = configuration(peer.url)
        storeless = {**configured, "store": f"redis://127.0.0.1:{free_port()}/0"}
        first = await stack.enter_async_context(serving(tmp_path, configured))
        second = await stack.enter_async_context(serving(tmp_path / "b", storeless))
        targets = [each.ready["admin"] for each in (first, second)]
        prometheus = await stack.enter_async_context(scraping(tmp_path, targets, [RULES]))
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)))
        address, other = first.ready["listen"][0], second.ready["listen"][0]
        tasks = [asyncio.create_task(again_and_again(session, address, path)) for path in (*CALLS, "/slow/x")]
        tasks.append(asyncio.create_task(again_and_again(session, other, "/doku/fine", 1.0)))
        (tmp_path / "paraf.yaml").write_text("version: 1\nroutes: broken\n")
        first.kill(signal.SIGHUP)
        try:
            present = {title: each for title, each in EVERY.items() if title != "ParafAbsent"}
            assert await until_all_have_data(prometheus, present, 70) == {}
            assert await prometheus.ask(EVERY["ParafAbsent"]) == []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for each in (first, second):
            each.process.kill()
        assert await until_all_have_data(prometheus, {"ParafAbsent": EVERY["ParafAbsent"]}, 25) == {}
