"""`paraf wait` and `paraf token`, as an operator calls them."""

import asyncio
import json
import sys

import pytest
from processes import configuration, serving
from running import of, routes
from test_service import ask

from proxy.clock import SystemClock
from proxy.commands import fresh
from proxy.sandbox.server import Sandbox


async def paraf(*arguments, **options):
    """Exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **options,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


async def test_wait_returns_when_paraf_is_ready(tmp_path):
    made = configuration("http://127.0.0.1:9", admin=f"unix:{tmp_path}/admin.sock")
    file = tmp_path / "paraf.yaml"
    file.write_text(fresh.text(made))
    code, out, err = await paraf("wait", "-c", str(file), "--timeout", "0s")
    assert (code, out) == (1, "")
    assert err.startswith(f"paraf: unix:{tmp_path}/admin.sock is not ready after 0s: No such file")
    waiting = asyncio.create_task(paraf("wait", "-c", str(file)))
    async with serving(tmp_path, made):
        assert await waiting == (0, "", "")
        assert await paraf("wait", "--admin", f"unix:{tmp_path}/admin.sock", "--timeout", "0s") == (0, "", "")


async def test_wait_tells_why_it_gave_up(tmp_path):
    made = configuration("http://127.0.0.1:9", drain={"delay": "20s"})
    async with serving(tmp_path, made) as served:
        admin = served.ready["admin"]
        assert (await paraf("wait", "--admin", admin, "--timeout", "0s"))[0] == 0
        served.process.terminate()
        await served.until(lambda: served.told("stopping"))
        code, _, err = await paraf("wait", "--admin", admin, "--timeout", "300ms")
        assert (code, err) == (1, f"paraf: {admin} is not ready after 300ms: it is stopping\n")
        served.process.terminate()
        assert await served.ended() == 0


@pytest.mark.parametrize(
    ("text", "arguments", "code", "words"),
    [
        ("admin: off\n", [], 1, "`admin` is off"),
        ("admin: 127.0.0.1:0\n", [], 1, "has port 0"),
        ("admin: [\n", [], 78, "not valid YAML"),
        ("{}", ["--timeout", "soon"], 2, "must be a duration"),
        ("{}", ["--admin", "nonsense:x"], 2, "--admin"),
    ],
)
async def test_wait_refuses_what_it_cannot_ask(tmp_path, text, arguments, code, words):
    file = tmp_path / "paraf.yaml"
    file.write_text(text)
    ended, _, err = await paraf("wait", "-c", str(file), *arguments)
    assert ended == code
    assert words in err


async def test_wait_loads_little():
    """It is run every few seconds in each container."""
    imported = "import sys, proxy.commands.wait; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", imported, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    heavy = {"aiohttp", "asyncio", "cryptography", "structlog", "prometheus_client", "proxy.settings", "http.client"}
    assert heavy.isdisjoint(out.decode().split())


@pytest.fixture
async def sandbox():
    made = Sandbox([account.account for account in of("klikoo", "netzme")], clock=SystemClock())
    made.url = "http://{}:{}".format(*await made.start("127.0.0.1", 0))
    yield made
    await made.stop()


async def test_token_lists_refreshes_and_purges(tmp_path, sandbox):
    made = routes(of("klikoo", "netzme"), sandbox.url)
    made |= {"log": {"format": "json"}, "control": f"unix:{tmp_path}/control.sock"}
    async with serving(tmp_path, made) as served:
        token = ("token", "-c", str(tmp_path / "paraf.yaml"), "--allow-inline-secrets")
        for profile in ("klikoo", "netzme"):
            assert (await ask(served.address[1], profile))[0] == 200
        code, out, err = await paraf(*token, "list")
        assert (code, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines()] == ["ACCOUNT", "klikoo", "netzme"]
        first, second = json.loads((await paraf(*token, "list", "--json"))[1])
        assert (first["state"], second["exclusive"]) == ("live", True)
        code, out, _ = await paraf(*token, "refresh", "klikoo", "--json")
        assert code == 0
        assert json.loads(out)["fingerprint"] != first["fingerprint"]
        code, out, err = await paraf(*token, "refresh", "netzme")
        assert (code, out) == (1, "")
        assert "ends the one in use" in err
        assert "--take-token" in err
        assert (await paraf(*token, "refresh", "netzme", "--take-token"))[0] == 0
        assert (await paraf(*token, "purge", "klikoo"))[1] == "klikoo: forgotten\n"
        assert (await paraf(*token, "purge", "klikoo"))[1] == "klikoo: there was none\n"
        code, _, err = await paraf(*token, "purge", "unknown")
        assert (code, "GET /tokens" in err) == (1, True)
        for wrong in (["refresh"], ["list", "klikoo"], ["steal", "klikoo"]):
            assert (await paraf(*token, *wrong))[0] == 2


async def test_token_without_a_running_paraf(tmp_path, sandbox):
    made = routes(of("klikoo"), sandbox.url) | {"log": {"format": "json"}}
    file = tmp_path / "paraf.yaml"
    token = ("token", "-c", str(file), "--allow-inline-secrets")
    file.write_text(fresh.text(made))
    code, _, err = await paraf(*token, "list")
    assert code == 1
    assert "no `control` in the configuration" in err
    assert "store: memory" in err
    made["control"] = f"unix:{tmp_path}/control.sock"
    made["store"] = f"file://{tmp_path}/tokens"
    async with serving(tmp_path, made) as served:
        assert (await ask(served.address[1], "klikoo"))[0] == 200
        served.process.terminate()
        assert await served.ended() == 0
    code, out, err = await paraf(*token, "list", "--json")
    assert (code, err, json.loads(out)[0]["state"]) == (0, "", "live")
    code, _, err = await paraf(*token, "refresh", "klikoo")
    assert (code, err) == (1, f"paraf: no Paraf answers at unix:{tmp_path}/control.sock\n")


async def test_token_shows_the_control_token(tmp_path, sandbox):
    (tmp_path / "bearer").write_text("correct-horse-battery-staple")
    (tmp_path / "bearer").chmod(0o600)
    made = routes(of("klikoo"), sandbox.url)
    made |= {"control": f"unix:{tmp_path}/control.sock", "control_token": {"file": "bearer"}, "log": {"format": "json"}}
    token = ("token", "-c", str(tmp_path / "paraf.yaml"), "--allow-inline-secrets")
    async with serving(tmp_path, made):
        assert (await paraf(*token, "list"))[0] == 0
        (tmp_path / "bearer").write_text("not-the-one-that-runs")
        code, _, err = await paraf(*token, "list")
        assert (code, err) == (1, "paraf: control_token is asked for\n")
