"""`paraf ca init`, and what `check` and `serve` say of interception."""

import json
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tunnelling import on_disk

from proxy.authority import LIFE, Authority, make_authority, utc_now
from proxy.commands import paraf
from proxy.model import Secret

HOST = "api-sandbox.doku.com"


def configured(folder: Path, *, ca: object = None, **route: object) -> str:
    (folder / "secret").write_text("s" * 20)
    (folder / "secret").chmod(0o600)
    credentials = {"client_id": "BRN-1", "client_secret": {"file": "secret"}}
    routes = {
        "pay": {"provider": "doku-nonsnap", "environment": "sandbox", "credentials": credentials, "intercept": True}
    }
    routes["pay"] |= route
    document = {"version": 1, "routes": routes} | ({"ca": ca} if ca else {})
    (folder / "paraf.yaml").write_text(yaml.safe_dump(document))
    return str(folder / "paraf.yaml")


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(paraf, words, standalone_mode=False)
    return (1, str(done.exception)) if done.exception else (done.return_value or 0, done.output)


def findings(file: str) -> list[tuple[str, str]]:
    done = CliRunner().invoke(paraf, ["check", "-c", file, "--format", "json"], standalone_mode=False)
    return [(each["path"], each["message"]) for each in json.loads(done.stdout)]


CA = {"cert": "own/chain.pem", "key": "own/key.pem"}


def test_what_it_makes(tmp_path):
    file = configured(tmp_path, ca=CA)
    code, said = run("ca", "init", "-c", file)
    assert code == 0, said
    assert f"signs for     {HOST}" in said
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "own").iterdir()}
    assert modes == {"chain.pem": 0o644, "key.pem": 0o600, "root.pem": 0o644, "bundle.pem": 0o644, "trust.p12": 0o644}
    read = {name: (tmp_path / "own" / name).read_text() for name in ("chain.pem", "key.pem", "root.pem", "bundle.pem")}
    authority = Authority.read(read["chain.pem"], Secret(read["key.pem"]))
    assert authority.covers(HOST)
    assert read["chain.pem"].endswith(read["root.pem"])
    assert read["bundle.pem"].endswith(read["root.pem"])
    assert read["bundle.pem"].count("BEGIN CERTIFICATE") > 1
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tmp_path / "own" / "bundle.pem")
    assert findings(file) == []


def test_no_key_of_the_root_is_left(tmp_path):
    run("ca", "init", "-c", configured(tmp_path, ca=CA))
    keys = [path for path in (tmp_path / "own").iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert [path.name for path in keys] == ["key.pem"]
    assert (tmp_path / "own" / "key.pem").read_text().count("PRIVATE KEY") == 2


def test_without_ca_it_says_what_to_write(tmp_path):
    file = configured(tmp_path)
    assert any("`paraf ca init -c" in words for _, words in findings(file))
    code, said = run("ca", "init", "-c", file)
    assert code == 0
    line = said.splitlines()[-1].partition(": ")[2].strip()
    configured(tmp_path, **yaml.safe_load(line.strip()))
    assert findings(file) == []


def test_nothing_is_written_over_unless_forced(tmp_path):
    file = configured(tmp_path, ca=CA)
    run("ca", "init", "-c", file)
    before = (tmp_path / "own" / "root.pem").read_text()
    code, said = run("ca", "init", "-c", file)
    assert (code, "--force" in said) == (1, True)
    assert (tmp_path / "own" / "root.pem").read_text() == before
    assert run("ca", "init", "--force", "-c", file)[0] == 0
    assert (tmp_path / "own" / "root.pem").read_text() != before
    assert findings(file) == []


@pytest.mark.parametrize("hosts", [[], ["10.0.0.1"]])
def test_there_must_be_a_name_to_sign_for(tmp_path, hosts):
    code, said = run("ca", "init", "-c", configured(tmp_path, ca=CA, hosts=hosts))
    assert (code, "`hosts`" in said) == (1, True)


def test_it_needs_no_secret(tmp_path):
    file = configured(tmp_path, ca=CA)
    (tmp_path / "secret").unlink()
    assert run("ca", "init", "-c", file)[0] == 0


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o666])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    file = configured(tmp_path, ca=CA)
    run("ca", "init", "-c", file)
    (tmp_path / "own" / "key.pem").chmod(mode)
    ((path, words),) = findings(file)
    assert path == "ca.key"
    assert "by others" in words
    assert run("serve", "-c", file)[0] == 1


def test_a_file_that_is_missing(tmp_path):
    ((path, words),) = findings(configured(tmp_path, ca=CA))
    assert path == "ca.cert"
    assert "`paraf ca init -c" in words


def test_a_host_that_is_not_covered(tmp_path):
    file = configured(tmp_path, ca=CA)
    run("ca", "init", "-c", file)
    configured(tmp_path, ca=CA, hosts=[HOST, "other.example", "10.0.0.1"])
    found = findings(file)
    assert [path for path, _ in found] == ["routes.pay.intercept"] * 2
    assert all("may not sign for" in words and "--force" in words for _, words in found)


def test_a_route_without_hosts_cannot_be_intercepted(tmp_path):
    file = configured(tmp_path, ca=CA)
    run("ca", "init", "-c", file)
    configured(tmp_path, ca=CA, hosts=[])
    assert findings(file) == [("routes.pay.intercept", "the route has no host to intercept: write `hosts`")]


@pytest.mark.parametrize(
    ("age", "words"), [(LIFE + timedelta(days=1), "ended on"), (LIFE - timedelta(days=20), "warning: ends on")]
)
def test_the_end_of_an_authority(tmp_path, age, words):
    (tmp_path / "own").mkdir()
    on_disk(make_authority([HOST], utc_now() - age), tmp_path / "own")
    ((path, said),) = findings(configured(tmp_path, ca=CA))
    assert path == "ca.cert"
    assert words.removeprefix("warning: ") in said
