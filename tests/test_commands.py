"""The command line as its users run it: processes, exit codes, stdout and stderr."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import yaml
from vectors_read import named, vector_file, vectors

CONFIG = """\
version: 1
listen: 127.0.0.1:0
admin: 127.0.0.1:0
log: {format: json}
routes:
  klikoo:
    provider: klikoo
    environment: stage
    credentials:
      client_id: 5b0de8a1-7c44-4f3b-8a0e-0d6a1c9f7e23
      client_secret: {env: KLIKOO_SECRET}
      private_key: {file: key.pem}
"""


def paraf(*arguments, cwd=None, **env):
    environ = {**os.environ, **env}
    environ.pop("PARAF_CONFIG", None)
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "key.pem").write_text(vector_file("klikoo")["keys"]["rsa-pkcs8"]["pem"])
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "paraf.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def secret():
    return {"KLIKOO_SECRET": vector_file("klikoo")["keys"]["klikoo-client"]["value"]}


def test_version_says_what_a_report_needs():
    done = paraf("--version")
    assert re.fullmatch(r"paraf \S+, Python 3\.\d+\.\S+, OpenSSL .+\n", done.stdout), done


def test_demo_once():
    done = paraf("demo", "--once")
    assert done.returncode == 0, done.stderr
    accepted = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" accepted")]
    assert accepted == ["klikoo", "netzme", "ifortepay-payment", "ifortepay-disbursement", "doku"]
    assert done.stdout.count("string-to-sign") == 5
    assert done.stderr == ""


def test_check_good(folder, secret):
    done = paraf("check", "-c", "paraf.yaml", cwd=folder, **secret)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert paraf("check", "-c", "paraf.yaml", "--format", "json", cwd=folder, **secret).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("written", "limits", "circuit"),
    [
        ("", {"body": 1048576, "concurrency": 256, "queue": 1024}, {"faults": 10, "probe": 5.0}),
        (
            "    limits: {concurrency: off, queue: off}\n    circuit: off\n",
            {"body": 1048576, "concurrency": "off", "queue": 0},
            "off",
        ),
    ],
)
def test_check_shows_what_guards_a_provider(folder, secret, written, limits, circuit):
    (folder / "paraf.yaml").write_text(CONFIG + written)
    done = paraf("check", "-c", "paraf.yaml", "--show-effective", "--format", "github", cwd=folder, **secret)
    (route,) = yaml.safe_load(done.stdout)["routes"].values()
    assert (route["limits"], route["circuit"]) == (limits, circuit)


def test_check_tells_everything_at_once(folder, secret):
    broken = CONFIG.replace("environment: stage", "environment: staging\n    prefixx: /k").replace(
        "key.pem", "none.pem"
    )
    (folder / "paraf.yaml").write_text(broken.replace("listen: 127.0.0.1:0", "listen: nowhere"))
    done = paraf("check", "-c", "paraf.yaml", "--format", "json", cwd=folder, **secret)
    assert done.returncode == 78
    found = {each["path"]: (each["line"], each["column"]) for each in json.loads(done.stdout)}
    assert found["listen"] == (2, 9)
    assert found["routes.klikoo.prefixx"] == (9, 5)


FIVE = """version: 1
lissten: 127.0.0.1:0
drain: {timeout: 5}
routes:
  klikoo:
    provider: kliko
    environment: stage
    credentials: {client_id: a}
  doku:
    prefixx: /x
    provider: doku
    environment: sandbox
    credentials:
      client_id: {env: KLIKOO_SECRET}
      client_secret: {file: nowhere}
      private_key: {file: key.pem}
"""


@pytest.mark.parametrize("command", ["check", "serve"])
def test_five_planted_mistakes_are_five_lines(folder, secret, command):
    """Of every kind: of keys, of values, of profiles and of files."""
    (folder / "paraf.yaml").write_text(FIVE)
    done = paraf(command, "-c", "paraf.yaml", cwd=folder, **secret)
    assert done.returncode == 78
    lines = (done.stdout if command == "check" else done.stderr).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["paraf.yaml:2:1", "lissten"],
        ["paraf.yaml:3:18", "drain.timeout"],
        ["paraf.yaml:6:15", "routes.klikoo.provider"],
        ["paraf.yaml:10:5", "routes.doku.prefixx"],
        ["paraf.yaml:15:22", "routes.doku.credentials.client_secret"],
    ]


def test_what_follows_from_a_mistake_is_not_told_as_another(folder, secret):
    broken = CONFIG.replace("client_secret: {env: KLIKOO_SECRET}", "client_secret: hunter2")
    assert broken != CONFIG
    (folder / "paraf.yaml").write_text(broken)
    done = paraf("check", "-c", "paraf.yaml", cwd=folder, **secret)
    (line,) = done.stdout.splitlines()
    assert "a secret stands in the file" in line


def test_a_missing_secret_names_its_place(folder):
    done = paraf("check", "-c", "paraf.yaml", cwd=folder, KLIKOO_SECRET="")
    assert done.returncode == 78
    assert (
        "paraf.yaml:11:22: routes.klikoo.credentials.client_secret: environment variable KLIKOO_SECRET" in done.stdout
    )
    served = paraf("serve", "-c", "paraf.yaml", cwd=folder, KLIKOO_SECRET="")
    assert (served.returncode, served.stdout) == (78, "")
    assert "paraf.yaml:11:22" in served.stderr


def test_usage_is_2_and_a_missing_file_78(folder):
    assert paraf("serve").returncode == 2
    assert paraf("nonsense").returncode == 2
    assert paraf("check", "-c", "none.yaml", cwd=folder).returncode == 78


USUAL_TIME = [vector for vector in vectors("klikoo", "klikoo.transaction") if "." in vector["inputs"]["timestamp"]]


@pytest.mark.parametrize("vector", [each for each in USUAL_TIME if "text" in each["request"]["body"]], ids=named)
def test_sign_is_deterministic_and_right(folder, secret, vector):
    request, expect = vector["request"], vector["expect"]
    arguments = ["sign", "-c", "paraf.yaml", "klikoo", request["method"], "/klikoo" + request["target"], "--json"]
    arguments += [
        "--at",
        vector["inputs"]["timestamp"],
        "--token",
        vector["inputs"]["token"],
        "-d",
        request["body"]["text"],
    ]
    done = paraf(*arguments, cwd=folder, **secret)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert set(shown) == {
        "route",
        "account",
        "method",
        "url",
        "canonical_body",
        "body_sha256",
        "string_to_sign",
        "signature",
        "headers",
    }
    assert (shown["signature"], shown["string_to_sign"]) == (expect["signature"], expect["string_to_sign"])
    assert shown["body_sha256"] == expect["body_sha256"]
    assert shown["url"] == "https://pvpapi.stage.pvg.im/klikoo-b2b" + request["target"]
    assert expect["headers"].items() <= shown["headers"].items()


def test_sign_shows_blanks(folder, secret):
    done = paraf(
        "sign", "-c", "paraf.yaml", "klikoo", "POST", "/klikoo/v1/x", "-d", '{"b": " y", "a": 1}', cwd=folder, **secret
    )
    assert done.returncode == 0, done.stderr
    assert '{"a":1,"b":" y"}' in done.stdout
    assert "sorted" in done.stdout
    assert "TOKEN stands for it" in done.stderr


def test_sign_compare_is_refused_for_production_and_bodies(folder, secret):
    done = paraf(
        "sign", "-c", "paraf.yaml", "klikoo", "POST", "/klikoo/v1/x", "-d", "{}", "--compare", cwd=folder, **secret
    )
    assert done.returncode == 1
    assert "takes no body" in done.stderr
    text = CONFIG.replace("stage", "production\n    upstream: http://127.0.0.1:9/klikoo-b2b")
    (folder / "paraf.yaml").write_text(text)
    done = paraf("sign", "-c", "paraf.yaml", "klikoo", "GET", "/klikoo/v1/x", "--compare", cwd=folder, **secret)
    assert done.returncode == 1
    assert "stage only" in done.stderr


def test_providers_and_schema():
    listed = paraf("providers").stdout
    for name in (
        "doku",
        "doku-nonsnap",
        "ifortepay-payment",
        "ifortepay-disbursement",
        "klikoo",
        "netzme",
        "netzme-main",
        "netzme-vsnap",
        "snap",
    ):
        assert re.search(rf"^{name} ", listed, re.MULTILINE)
    assert "hmac-sha512" in paraf("providers", "doku").stdout
    assert paraf("providers", "doko").returncode == 2
    assert json.loads(paraf("schema").stdout)["additionalProperties"] is False


class Process:
    """`paraf serve` or `sandbox` as a process of its own; log lines on stderr."""

    def __init__(self, *arguments, cwd, **env):
        command = [sys.executable, "-m", "proxy", *arguments]
        self.process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def ready(self):
        for line in self.process.stderr:
            said = json.loads(line)
            if said["event"] == "ready":
                return said
        raise AssertionError("it ended before it was ready")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serve_ends_in_order(folder, secret, number, code):
    with Process("serve", "-c", "paraf.yaml", cwd=folder, **secret) as served:
        address = served.ready()["listen"][0]
        answered = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}/nowhere"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
        assert answered.stdout == "404"
        served.process.send_signal(number)
        assert served.process.wait(10) == code
        rest = served.process.stderr.read()
        assert "Traceback" not in rest


def test_an_address_in_use_is_a_sentence_and_exit_1(folder, secret):
    with Process("serve", "-c", "paraf.yaml", cwd=folder, **secret) as first:
        address = first.ready()["listen"][0]
        (folder / "paraf.yaml").write_text(CONFIG.replace("listen: 127.0.0.1:0", f"listen: {address}"))
        second = paraf("serve", "-c", "paraf.yaml", cwd=folder, **secret)
        assert second.returncode == 1
        assert f"cannot listen on {address}" in second.stderr


def test_the_compiled_parser_is_required(folder, secret):
    done = paraf("serve", "-c", "paraf.yaml", cwd=folder, AIOHTTP_NO_EXTENSIONS="1", **secret)
    assert done.returncode == 1
    assert "AIOHTTP_NO_EXTENSIONS" in done.stderr
    assert "Traceback" not in done.stderr


def test_sandbox_hands_out_a_configuration_that_serves(tmp_path):
    command = [
        sys.executable,
        "-m",
        "proxy",
        "sandbox",
        "--listen",
        "127.0.0.1:0",
        "--provider",
        "doku",
        "--write",
        str(tmp_path / "made"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sandbox:
        try:
            assert "paraf serve -c" in sandbox.stderr.readline()
            made = tmp_path / "made" / "paraf.yaml"
            assert {path.stat().st_mode & 0o777 for path in made.parent.glob("doku.*")} == {0o600}
            made.write_text(made.read_text().replace(":8080", ":0").replace(":9464", ":0") + "log: {format: json}\n")
            with Process("serve", "-c", str(made), cwd=tmp_path) as served:
                address = served.ready()["listen"][0]
                body = ["-H", "Content-Type: application/json", "-d", '{"a": 1}']
                answered = subprocess.run(
                    ["curl", "-s", f"http://{address}/doku/v1/x", *body],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=20,
                )
                assert json.loads(answered.stdout)["responseCode"].startswith("200")
        finally:
            sandbox.send_signal(signal.SIGINT)
            assert sandbox.wait(10) == 130


def test_sandbox_says_what_is_wrong_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    few = ("--provider", "netzme")
    for arguments, code in (
        (("--listen", "nonsense"), 2),
        (("--listen", "192.0.2.1:0"), 1),
        (("--listen", "127.0.0.1:0", "--write", str(tmp_path / "file" / "below")), 1),
    ):
        done = paraf("sandbox", *few, *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert done.stderr.strip()
