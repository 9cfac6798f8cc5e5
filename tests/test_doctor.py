"""`paraf doctor` before real servers: good ones, and those with bad certificates, clocks and doors."""

import asyncio
import socket
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import cache
from pathlib import Path

import pytest
import trustme
from operating import operated
from running import built, of, through_sandbox
from test_service import ask

from proxy.addresses import parse_listen
from proxy.commands import fresh, main
from proxy.doctor import examine

STRANGER = trustme.CA()
NOW = datetime.now(UTC)
PAST = {"not_before": NOW - timedelta(days=9), "not_after": NOW - timedelta(days=1)}


def free_port():
    """One that nobody listens on: bound, and given back."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@cache
def authority():
    return trustme.CA()


@asynccontextmanager
async def provider(ahead=0.0, *, ca=None, host="localhost", date=True, **certificate):
    """A TLS server that answers everything with its own time. Gives its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (ca or authority()).issue_cert(host, **certificate).configure_cert(context)

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        line = f"Date: {formatdate(time.time() + ahead, usegmt=True)}\r\n" if date else ""
        writer.write(f"HTTP/1.1 404 Not Found\r\n{line}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


def configured(folder, url):
    """A route without a token."""
    (folder / "ca.pem").write_bytes(authority().cert_pem.bytes())
    made = fresh.configuration(of("doku-nonsnap"), url, "127.0.0.1:0", "off")
    made["routes"]["doku-nonsnap"] |= {"upstream": url, "tls": {"ca": {"file": str(folder / "ca.pem")}}}
    return made


async def looked_at(folder, url, *, take_token=False):
    """By name of the check: its state and words."""
    checks = await examine(*built(configured(folder, url)), folder, take_token=take_token)
    return {check.name: (check.state, check.words) for check in checks}


async def test_all_is_well(tmp_path):
    async with provider() as url:
        found = await looked_at(tmp_path, url)
    assert {state for state, _ in found.values()} == {"ok"}
    assert found.keys() == {"dns", "tcp", "tls", "clock", "key", "files", "store"}
    assert "trustme" in found["tls"][1]


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (PAST, "has expired"),
        ({"host": "other.example"}, "is for other names than this host"),
        ({"ca": STRANGER}, "authority"),
    ],
    ids=["expired", "wrong host", "unknown authority"],
)  # fmt: skip
async def test_a_certificate_that_will_not_do(tmp_path, certificate, words):
    async with provider(**certificate) as url:
        found = await looked_at(tmp_path, url)
    assert (found["tls"][0], words in found["tls"][1]) == ("failed", True), found["tls"]
    assert "clock" not in found


async def test_a_certificate_that_ends_soon(tmp_path):
    end = datetime.now(UTC) + timedelta(days=10)
    async with provider(not_after=end) as url:
        found = await looked_at(tmp_path, url)
    assert (found["tls"][0], "9 days left" in found["tls"][1]) == ("warning", True)


@pytest.mark.parametrize(
    ("ahead", "state", "words"),
    [(90, "warning", "behind"), (-90, "warning", "ahead of"), (3600, "failed", "set it by NTP"), (30, "ok", "behind")],
)
async def test_a_clock_that_is_off(tmp_path, ahead, state, words):
    async with provider(ahead) as url:
        found = await looked_at(tmp_path, url)
    assert (found["clock"][0], words in found["clock"][1]) == (state, True), found["clock"]


async def test_a_host_without_a_time(tmp_path):
    async with provider(date=False) as url:
        assert (await looked_at(tmp_path, url))["clock"][0] == "skipped"


async def test_nobody_there(tmp_path):
    found = await looked_at(tmp_path, f"https://localhost:{free_port()}")
    assert found["tcp"][0] == "failed"
    assert "tls" not in found


async def test_a_name_without_an_address(tmp_path):
    found = await looked_at(tmp_path, "https://nowhere.invalid")
    assert found["dns"][0] == "failed"
    assert "tcp" not in found


async def test_something_else_than_tls(tmp_path):
    async def hang_up(_reader, writer):
        writer.write(b"220 mail ready\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        found = await looked_at(tmp_path, f"https://localhost:{server.sockets[0].getsockname()[1]}")
    assert (found["tls"][0], "handshake failed" in found["tls"][1]) == ("failed", True)


async def test_a_secret_file_that_others_can_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("sEcReT")
    secret.chmod(0o644)
    made = configured(tmp_path, "https://nowhere.invalid")
    made["routes"]["doku-nonsnap"]["credentials"]["client_secret"] = {"file": str(secret)}
    checks = await examine(*built(made), tmp_path, take_token=False)
    (found,) = [check for check in checks if check.name == "files"]
    assert (found.state, "can be read by others" in found.words) == ("warning", True)


async def test_every_kind_of_secret_file_is_looked_at(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("sEcReT-sEcReT-sEcReT-sEcReT-sEcReT-42")
    secret.chmod(0o644)
    made = configured(tmp_path, "https://nowhere.invalid") | {
        "control_token": {"file": str(secret)},
        "store_key": [{"file": str(secret)}],
    }
    made["routes"]["doku-nonsnap"]["caller_token"] = {"till": {"file": str(secret)}}
    checks = await examine(*built(made), tmp_path, take_token=False)
    told = {(check.subject, check.words.partition(":")[0]) for check in checks if check.name == "files"}
    of_all = {("the whole file", "control_token"), ("the whole file", "store_key.0")}
    assert told == of_all | {("route doku-nonsnap", "caller_token.till")}


async def tokens(running, *, take_token=False):
    settings, generation = running.app._settings, running.app._generation
    checks = await examine(settings, generation, Path(), take_token=take_token)
    return {check.subject: (check.state, check.words) for check in checks if check.name == "token"}


async def test_tokens_are_asked_for_where_that_ends_none():
    async with through_sandbox("snap", "netzme") as (running, sandbox):
        found = await tokens(running)
        assert found["account snap"][0] == "ok"
        assert (found["account netzme"][0], "--take-token" in found["account netzme"][1]) == ("skipped", True)
        assert (await tokens(running, take_token=True))["account netzme"][0] == "ok"
    del sandbox


async def test_a_token_that_the_provider_refuses():
    async with through_sandbox("snap") as (running, _sandbox):
        made = fresh.configuration(of("snap"), "http://127.0.0.1:1", "127.0.0.1:0", "off")
        lane = running.app._generation.lanes["snap"]
        made["routes"]["snap"]["upstream"] = lane.route.base.text
        made["routes"]["snap"]["credentials"]["client_id"] = "a-stranger"
        checks = await examine(*built(made), Path(), take_token=False)
    (found,) = [check for check in checks if check.name == "token"]
    assert (found.state, "the token call gave none: rejected (status 401" in found.words) == ("failed", True)


def test_the_table_and_the_status(tmp_path, capsys):
    made = configured(tmp_path, f"https://localhost:{free_port()}")
    (tmp_path / "paraf.yaml").write_text(fresh.text(made))
    printed = {}
    for form in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "-c", str(tmp_path / "paraf.yaml"), "--allow-inline-secrets", *form])
        assert ended.value.code == 1
        printed[bool(form)] = capsys.readouterr().out
    assert "  FAILED tcp    no connection: " in printed[False]
    assert '"good": false' in printed[True]
    assert of("doku-nonsnap")[0].account.client_secret.reveal() not in printed[False] + printed[True]


async def test_the_running_paraf_is_asked_for_an_exclusive_token(tmp_path):
    async with operated(tmp_path, "netzme") as control:
        settings = replace(control.app._settings, control=parse_listen(control.control))
        for state in ("warning", "ok"):
            checks = await examine(settings, control.app.generation, tmp_path, take_token=False)
            (found,) = [check for check in checks if check.name == "token"]
            assert found.state == state, found
            assert (await ask(control.port, "netzme"))[0] == 200
    checks = await examine(settings, control.app.generation, tmp_path, take_token=False)
    assert "does not answer at `control`" in next(check.words for check in checks if check.name == "token")
