"""Each kind of store under the whole product: a plain request in, and what is told when the store is away."""

import asyncio
import json

import pytest
from running import of, proxy, routes, through_sandbox
from test_service import ask

from proxy.clock import SystemClock
from proxy.errors import StartError
from proxy.sandbox.server import Sandbox


@pytest.fixture
async def netzme():
    sandbox = Sandbox([each.account for each in of("netzme")], clock=SystemClock())
    host, port = await sandbox.start("127.0.0.1", 0)
    yield sandbox, routes(of("netzme"), f"http://{host}:{port}")
    await sandbox.stop()


def tokens(sandbox: Sandbox) -> int:
    return [entry.kind for entry in sandbox.journal].count("token")


async def test_a_directory_serves_the_next_process(netzme, tmp_path) -> None:
    sandbox, configured = netzme
    for _ in range(3):
        async with proxy({**configured, "store": f"file://{tmp_path}/tokens"}) as running:
            assert (await ask(running.port, "netzme"))[0] == 200
            assert running.metric("paraf_token_expiry_timestamp_seconds", account="netzme") > 0
    assert tokens(sandbox) == 1


async def test_redis_serves_the_next_process_and_no_request_that_has_a_token(netzme, redis) -> None:
    sandbox, configured = netzme
    for _ in range(2):
        async with proxy({**configured, "store": redis.url}) as running:
            assert (await ask(running.port, "netzme"))[0] == 200
            before = redis.commands()
            for _ in range(20):
                assert (await ask(running.port, "netzme"))[0] == 200
            assert redis.commands() == before
    assert tokens(sandbox) == 1


async def test_a_store_that_is_away_is_told_and_readiness_does_not_care(netzme, tmp_path) -> None:
    sandbox, configured = netzme
    store = {"url": f"unix://{tmp_path}/none.sock", "password": "hunter2"}
    async with proxy({**configured, "store": store}) as running:
        assert running.app.state == "ready"
        for _ in range(3):
            status, headers, body = await ask(running.port, "netzme")
            problem = json.loads(body)
            assert (status, headers["X-Paraf-Error"], problem["sent"]) == (503, "store_unavailable", "no")
            assert headers["Retry-After"] == "1"
            assert problem["code"] == "store_unavailable"
        assert running.app.state == "ready"
        assert running.metric("paraf_store_errors_total", store="redis") == 1
        assert [line["state"] for line in running.lines if line["event"] == "store"] == ["down"]
        assert "hunter2" not in running.log.getvalue()
    assert sandbox.journal == []


async def test_a_directory_that_cannot_be_used_stops_the_start(tmp_path) -> None:
    tmp_path.chmod(0o777)
    configured = {**routes(of("netzme"), "http://127.0.0.1:9"), "store": f"file://{tmp_path}"}
    with pytest.raises(StartError, match="can be written by others"):
        async with proxy(configured):
            pass


async def test_a_record_that_is_damaged_again_is_told_again(netzme, tmp_path) -> None:
    _, configured = netzme
    async with proxy({**configured, "store": f"file://{tmp_path}/tokens"}) as running:

        async def states() -> list[str]:
            return [row["state"] for row in await running.app.answers["tokens"](None)]

        for times in (1, 2):
            assert await running.app.answers["purge"]({"account": "netzme"})
            assert (await ask(running.port, "netzme"))[0] == 200
            assert await states() == ["live"]
            (record,) = (tmp_path / "tokens").glob("*.token")
            record.write_text("{}")
            assert await states() == await states() == ["none"]
            told = [(line["state"], line["account"]) for line in running.lines if line["event"] == "store"]
            assert told == [("unreadable", "netzme")] * times


async def test_memory_is_for_one_process() -> None:
    async with through_sandbox("netzme") as (running, sandbox):
        assert [status for status, _, _ in await asyncio.gather(*(ask(running.port, "netzme") for _ in range(5)))] == [
            200
        ] * 5
        assert tokens(sandbox) == 1
