"""What the store needs of secrets, found with all the rest of the configuration and at its place."""

import importlib.util
from pathlib import Path

import pytest
from running import accounts, of

from proxy.commands import fresh
from proxy.errors import ConfigError
from proxy.generation import Generation, build
from proxy.keyforms import load_private_key
from proxy.model import Secret
from proxy.settings import read_settings
from proxy.standing import FORMER, remembering
from proxy.storeforms import RedisLogin
from proxy.storekeys import own_secret

NETZME = """\
routes:
  pay:
    provider: netzme
    environment: stage
    credentials: {client_id: c, client_secret: {env: S}}
"""
ENVIRON = {"S": "secret of netzme", "NEW": "n" * 32, "OLD": "o" * 32, "SHORT": "s" * 15, "U": "paraf", "P": "hunter2"}


def built(top: str, folder: Path = Path(), **environ: str) -> Generation:
    settings, _ = read_settings(f"version: 1\n{top}\n{NETZME}", "paraf.yaml", environ={})
    return build(settings, environ={**ENVIRON, **environ}, folder=folder)


def refused(top: str, folder: Path = Path()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        built(top, folder)
    return [str(finding) for finding in caught.value.findings if finding.severity == "error"]


def texts(generation: Generation) -> list[str]:
    (account,) = generation.accounts
    return [secret.reveal() for secret in generation.store_secrets(account)]


def test_records_are_encrypted_with_the_store_key_and_those_of_the_accounts_secret_are_still_read() -> None:
    assert texts(built("store: file:///x")) == ["secret of netzme"]
    assert texts(built("store_key: {env: NEW}")) == ["n" * 32, "secret of netzme"]
    assert texts(built("store_key: [{env: NEW}, {env: OLD}]")) == ["n" * 32, "o" * 32, "secret of netzme"]


def test_replaced_secrets_are_remembered_over_reloads_and_not_for_ever() -> None:
    def reloaded(before: Generation, secret: str, top: str = "store: file:///x") -> Generation:
        return remembering(built(top, S=secret), before)

    first = reloaded(built("store: file:///x", S="a"), "b")
    assert texts(first) == ["b", "a"]
    assert texts(reloaded(first, "b")) == ["b", "a"]
    assert texts(reloaded(first, "a")) == ["a", "b"]
    assert texts(reloaded(first, "b", "store_key: {env: NEW}")) == ["n" * 32, "b", "a"]
    generation = first
    for each in "cdefgh":
        generation = reloaded(generation, each)
    assert texts(generation) == ["h", *"gfedcba"[:FORMER]]


def test_the_private_key_comes_before_other_secrets_whatever_form_it_was_written_in() -> None:
    each = of("klikoo")[0]
    settings, _ = read_settings(
        fresh.text(fresh.configuration([each], "http://127.0.0.1:1", "127.0.0.1:0", "127.0.0.1:0")),
        "x",
        environ={},
        allow_inline_secrets=True,
    )
    generation = build(settings, environ={}, folder=Path())
    (lane,) = generation.lanes.values()
    made = own_secret({"client_id": Secret("c"), "client_secret": Secret("s")}, lane.keys)
    assert texts(generation) == [made.reveal()]
    assert "s" != made.reveal() != own_secret({}, {"private_key": accounts_key("doku")}).reveal()
    assert own_secret({"client_id": Secret("c"), "client_secret": Secret("s")}, {}) == Secret("s")


def accounts_key(profile: str):
    (pem,) = [each.private_key_pem for each in accounts() if each.account.profile == profile]
    return load_private_key(pem.encode(), None)


@pytest.mark.parametrize(
    ("top", "finding"),
    [
        ("store_key: {env: NONE}", "paraf.yaml:2:12: store_key: environment variable NONE is not set"),
        (
            "store_key: {env: SHORT}",
            "paraf.yaml:2:12: store_key: has fewer than 16 characters: make one with `openssl rand -base64 32`",
        ),
        ("store_key: [{env: NEW}, {env: NONE}]", "paraf.yaml:2:25: store_key.1: environment variable NONE is not set"),
        (
            "store: {url: 'redis://h', username: {env: NONE}, password: {env: P}}",
            "paraf.yaml:2:37: store.username: environment variable NONE is not set",
        ),
        (
            "store: {url: 'redis://h', password: {env: NONE}}",
            "paraf.yaml:2:37: store.password: environment variable NONE is not set",
        ),
    ],
)
def test_what_cannot_be_read_is_found_at_its_place(top: str, finding: str) -> None:
    assert refused(top) == [finding]


def test_login_and_authorities(tmp_path) -> None:
    (tmp_path / "ca.pem").write_text("PEM")
    top = "store: {url: 'rediss://h', username: {env: U}, password: {env: P}, ca: ca.pem}"
    assert built(top, tmp_path).store.login == RedisLogin(Secret("paraf"), Secret("hunter2"), "PEM")
    assert built("store: redis://h").store.login == RedisLogin()
    (tmp_path / "ca.pem").unlink()
    (found,) = refused(top, tmp_path)
    assert found.startswith("paraf.yaml:2:72: store.ca: ")
    assert found.endswith("ca.pem does not exist")


@pytest.mark.parametrize(
    ("url", "warned"),
    [("redis://h", True), ("rediss://h", False), ("redis://localhost", False), ("unix:///run/redis.sock", False)],
)
def test_a_password_in_the_clear_is_warned_of(url, warned) -> None:
    findings = built(f"store: {{url: '{url}', password: {{env: P}}}}").findings
    assert [(each.path, each.column) for each in findings] == ([("store.url", 14)] if warned else [])
    assert built(f"store: '{url}'").findings == ()


def test_a_password_that_others_can_read_is_remarked_on(tmp_path) -> None:
    (tmp_path / "password").write_text("hunter2")
    (tmp_path / "password").chmod(0o644)
    findings = built("store: {url: 'rediss://h', password: {file: password}}", tmp_path).findings
    assert [(finding.path, finding.severity) for finding in findings] == [("store.password", "warning")]
    assert "hunter2" not in str(findings)


def test_without_the_redis_client_it_is_said_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr("proxy.storekeys.find_spec", lambda name: None)
    assert refused("store: redis://h") == ["paraf.yaml:2:8: store: needs the Redis client: pip install 'paraf[redis]'"]
    assert importlib.util.find_spec("redis")


@pytest.mark.parametrize("top", ["", "store: memory"])
def test_an_exclusive_account_with_a_memory_store_is_warned_of(top: str) -> None:
    (found,) = built(top).findings
    assert (found.path, found.line, found.column, found.severity) == ("routes.pay", 4, 3, "warning")
    assert "store: memory" in found.message


@pytest.mark.parametrize("top", ["store: file:///x", "store: redis://h"])
def test_with_a_store_that_is_shared_it_is_not(top: str) -> None:
    assert built(top).findings == ()
