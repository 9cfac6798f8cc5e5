"""The control listener of a running proxy: who is let in, and what each endpoint does."""

import socket
import stat

import pytest
from operating import operate, operated
from running import of
from test_service import ask

from proxy.inbound.control import ControlServer, Doors, Endpoint
from proxy.inbound.operations import ENDPOINTS

BEARER = "correct-horse-battery"
STRANGERS = ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1", "a b", "", None]
EACH = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")


@pytest.fixture
async def control(tmp_path):
    async with operated(tmp_path, "doku", "netzme") as made:
        yield made


def at(endpoint, account="doku"):
    return endpoint.path.replace("{account}", account)


@EACH
async def test_a_wrong_method_is_told_which_is_right(control, endpoint):
    right = sorted({each.method for each in ENDPOINTS if each.path == endpoint.path})
    for method in {"GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"} - set(right):
        status, headers, problem = await control(method, at(endpoint))
        assert (status, headers["allow"], problem["status"]) == (405, ", ".join(right), 405)
    assert control.quits == []


@EACH
@pytest.mark.parametrize(
    "host", ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1", "a b", "", None]
)
async def test_a_foreign_host_is_not_served(control, endpoint, host):
    status, _, problem = await control(endpoint.method, at(endpoint), host=host)
    assert status in ({400, 421} if host is None else {421})
    assert control.quits == []
    assert "evil" not in str(problem)


@EACH
@pytest.mark.parametrize(
    "mark",
    [
        "Origin: http://evil.test",
        "Origin: null",
        "Origin: http://localhost:9465",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: Cross-Site",
    ],
)
async def test_pages_in_a_browser_are_refused(control, endpoint, mark):
    status, headers, _ = await control(endpoint.method, at(endpoint), mark)
    assert (status, control.quits, control.token_calls) == (403, [], 0)
    assert not [name for name in headers if name.startswith("access-control")]


@EACH
async def test_a_preflight_gets_no_leave(control, endpoint):
    asking = ("Origin: http://evil.test", "Access-Control-Request-Method: POST")
    status, headers, _ = await control("OPTIONS", at(endpoint), *asking)
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path", ["/x", "//tokens", "/tokens/", "/tokens/doku", "/tokens/doku/refresh/x", "/-/quit/", "/TOKENS"]
)
async def test_an_unknown_path(control, path):
    for method in ("GET", "POST"):
        status, headers, problem = await control(method, path)
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert problem["detail"] == "nothing is here"
    assert control.quits == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]:9465", "a.localhost"])
async def test_names_of_this_machine_are_served(control, host):
    status, headers, told = await control("GET", "/tokens", "Sec-Fetch-Site: none", host=host)
    assert status == 200
    assert headers["cache-control"] == "no-store"
    assert [each["account"] for each in told["tokens"]] == ["netzme", "doku"]


async def test_quit_asks_to_end(control):
    status, _, told = await control("POST", "/-/quit")
    assert (status, told, control.quits) == (202, {"stopping": True}, [1])


async def test_tokens_are_shown_and_never_their_value(control):
    assert await control.token("doku") == {"account": "doku", "provider": "doku", "exclusive": False, "state": "none"}
    await ask(control.port, "doku")
    _, _, told = await control("GET", "/tokens?account=x")
    none, shown = told["tokens"]
    assert shown["state"] == "live"
    assert 0 <= shown["age_s"] < 60
    assert 800 < shown["expires_in_s"] <= 900
    assert shown["expires_at"] > shown["fetched_at"]
    assert len(shown["fingerprint"]) == 16
    assert shown["holder"].count("/") == 2
    assert none == {"account": "netzme", "provider": "netzme", "exclusive": True, "state": "none"}


async def test_refresh_fetches_another_token_which_serves(control):
    await ask(control.port, "doku")
    before = await control.token("doku")
    status, _, told = await control("POST", "/tokens/doku/refresh")
    assert status == 200
    assert told["fingerprint"] != before["fingerprint"]
    assert control.token_calls == 2
    assert (await ask(control.port, "doku"))[0] == 200
    assert control.metric("paraf_requests_total", outcome="forwarded") == 2
    assert (await control.token("doku"))["fingerprint"] == told["fingerprint"]


async def test_refresh_when_there_is_no_token_yet(control):
    status, _, told = await control("POST", "/tokens/doku/refresh")
    assert (status, told["state"], control.token_calls) == (200, "live", 1)


async def test_refresh_of_an_exclusive_token_names_what_it_does(control):
    await ask(control.port, "netzme")
    status, _, problem = await control("POST", "/tokens/netzme/refresh?take_token=1")
    assert (status, control.token_calls) == (409, 1)
    assert "ends the one in use" in problem["detail"]
    before = (await control.token("netzme"))["fingerprint"]
    status, _, told = await control("POST", "/tokens/netzme/refresh?take_token=true")
    assert status == 200
    assert told["fingerprint"] != before
    assert (await ask(control.port, "netzme"))[0] == 200
    assert control.metric("paraf_requests_total", outcome="healed") == 0


async def test_purge_forgets_and_the_next_request_fetches(control):
    assert (await control("POST", "/tokens/doku/purge"))[2] == {"account": "doku", "purged": False}
    await ask(control.port, "doku")
    assert (await control("POST", "/tokens/doku/purge"))[2] == {"account": "doku", "purged": True}
    assert (await control.token("doku"))["state"] == "none"
    assert (await ask(control.port, "doku"))[0] == 200
    assert control.token_calls == 2
    assert control.metric("paraf_token_conflicts_total") == 0


async def test_an_unknown_account(control):
    for deed in ("refresh", "purge"):
        status, _, problem = await control("POST", f"/tokens/hunter2/{deed}")
        assert status == 404
        assert "hunter2" not in str(problem)


async def test_a_token_call_that_fails_is_told(control):
    await control.sandbox.stop()
    status, _, problem = await control("POST", "/tokens/doku/refresh")
    assert status == 502
    assert problem["detail"]


@EACH
async def test_no_secret_in_any_answer(control, endpoint):
    await ask(control.port, "doku")
    await ask(control.port, "netzme")
    secrets = [each.account.client_secret.reveal() for each in of("doku", "netzme")]
    store = control.app.answers["tokens"].__self__._tokens
    accounts = control.app.generation.accounts
    kept = [await store.kept(account) for account in accounts]
    secrets += [token.value.reveal() for token in kept]
    for lines in ((), ("Origin: x",), ("Authorization: Bearer x",)):
        for account in ("doku", "netzme", "x"):
            told = str(await control(endpoint.method, at(endpoint, account), *lines))
            assert not [secret for secret in secrets if secret in told]


async def test_the_bearer_is_asked_for_everywhere(tmp_path):
    (tmp_path / "token").write_text(BEARER)
    guarded = {
        "control": "0.0.0.0:0",
        "control_token": {"file": str(tmp_path / "token")},
        "allowed_hosts": ["ops.test"],
    }
    async with operated(tmp_path, "doku", **guarded) as control:
        right = f"Authorization: Bearer {BEARER}"
        for endpoint in (*ENDPOINTS, Endpoint("GET", "/unknown", ENDPOINTS[0].answer)):
            for wrong in ("X: y", f"{right}x", f"Authorization: Basic {BEARER}", "Authorization: Bearer", f"{right}é"):
                status, headers, _ = await control(endpoint.method, at(endpoint), wrong)
                assert (status, headers.get("www-authenticate")) == (401, "Bearer"), wrong
            assert (await control(endpoint.method, at(endpoint), right, right))[0] in {400, 401}
        assert control.quits == []
        assert (await control("GET", "/tokens", right))[0] == 200
        assert (await control("GET", "/tokens", f"authorization: bearer {BEARER}", host="ops.test"))[0] == 200
        assert (await control("GET", "/tokens", right, host="evil.test"))[0] == 421
        assert (await control("GET", "/tokens", right, "Origin: x"))[0] == 403


async def test_a_unix_socket_is_the_owners_alone(tmp_path):
    path = tmp_path / "control.sock"
    async with operated(tmp_path, "doku", control=f"unix:{path}") as control:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await control("GET", "/tokens", host="whatever.test"))[0] == 200
        assert (await control("POST", "/-/quit", "Origin: http://evil.test"))[0] == 403
    assert [each.name for each in tmp_path.iterdir()] == ["paraf.yaml"]


async def test_a_door_for_other_machines_stays_shut_when_a_reload_takes_the_token_away():
    """A socket that was handed over is checked at the start; the configuration does not say that it is remote."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = ControlServer(ENDPOINTS, None, Doors(tuple, lambda: None, remote=True))
    address = "{}:{}".format(*listener.getsockname())
    await server.start(listener)
    try:
        for endpoint in ENDPOINTS:
            assert (await operate(address, endpoint.method, at(endpoint)))[0] == 401
    finally:
        await server.stop()
