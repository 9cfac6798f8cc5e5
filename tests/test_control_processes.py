"""Control of `paraf serve` as real processes."""

import pytest
from operating import operate
from processes import serving
from running import of, routes
from test_service import ask

from proxy.clock import SystemClock
from proxy.sandbox.server import Sandbox


@pytest.fixture
async def sandbox():
    made = Sandbox([account.account for account in of("klikoo")], clock=SystemClock())
    made.address = await made.start("127.0.0.1", 0)
    yield made
    await made.stop()


def configured(sandbox, folder, **more):
    made = routes(of("klikoo"), "http://{}:{}".format(*sandbox.address))
    return made | {"log": {"format": "json"}, "control": f"unix:{folder}/control.sock", **more}


def calls(sandbox, kind="call"):
    return [entry for entry in sandbox.journal if entry.kind == kind]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_tokens_of_all_workers_are_refreshed_at_once(tmp_path, sandbox, workers):
    async with serving(tmp_path, configured(sandbox, tmp_path), "--workers", workers) as paraf:
        control = paraf.ready["control"]
        assert control == f"unix:{tmp_path}/control.sock"
        port = paraf.address[1]
        for _ in range(6):  # connections go round
            assert (await ask(port, "klikoo"))[0] == 200
        (before,) = (await operate(control, "GET", "/tokens"))[2]["tokens"]
        assert before["state"] == "live"
        status, _, told = await operate(control, "POST", "/tokens/klikoo/refresh")
        assert (status, len(calls(sandbox, "token"))) == (200, 2)
        (after,) = (await operate(control, "GET", "/tokens"))[2]["tokens"]
        assert before["fingerprint"] != told["fingerprint"] == after["fingerprint"]
        seen = len(calls(sandbox))
        for _ in range(6):
            assert (await ask(port, "klikoo"))[0] == 200
        assert len({entry.token_fingerprint for entry in calls(sandbox)[seen:]}) == 1
        assert (await operate(control, "POST", "/tokens/klikoo/purge"))[2]["purged"] is True
        assert (await operate(control, "GET", "/tokens"))[2]["tokens"][0]["state"] == "none"
        assert (await ask(port, "klikoo"))[0] == 200
        assert len(calls(sandbox, "token")) == 3


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_quit_ends_as_sigterm_does(tmp_path, sandbox, workers):
    async with serving(tmp_path, configured(sandbox, tmp_path), "--workers", workers) as paraf:
        assert (await operate(paraf.ready["control"], "POST", "/-/quit"))[0] == 202
        assert await paraf.ended() == 0
        assert paraf.told("stopping")
        assert paraf.other == []
    assert {path.name for path in tmp_path.iterdir()} == {"paraf.yaml"}
