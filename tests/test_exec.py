"""`paraf exec` and `paraf env` as processes: what reaches the program, what comes back, and what is left: nothing."""

import asyncio
import fcntl
import json
import os
import pty
import signal
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from rawpeer import RawPeer
from tls_stage import PARAF, SECRET, tls_stage

HOST = "api.provider.example"
POST = ("curl", "-sS", "-m", "20", "-d", '{"order": {"amount": 1}}', "-H", "Content-Type: application/json")
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
async def stage(tmp_path):
    async with tls_stage(tmp_path, "doku-nonsnap", HOST) as made:
        yield made


@pytest.mark.parametrize("url", [f"https://{HOST}/checkout/v1/payment", f"http://{HOST}/checkout/v1/payment", "prefix"])
async def test_a_program_calls_the_provider_and_is_signed_for(stage, url):
    shown = "$PARAF_URL_PAY/checkout/v1/payment" if url == "prefix" else url
    command = f'{" ".join(POST[:5])} "$1" -H "Content-Type: application/json" "{shown}"'
    done = await stage.behind("sh", "-c", command, "sh", POST[5])
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["message"] == ["SUCCESS"]
    assert [(entry.part, entry.target) for entry in stage.calls()] == [(None, "/checkout/v1/payment")]
    assert stage.left == []


async def test_other_hosts_are_not_reached(stage):
    done = await stage.behind(*POST, "https://other.example/")
    assert done.code != 0
    assert "403" in done.err
    done = await stage.behind(*POST, "http://other.example/")
    assert json.loads(done.out)["code"] == "not_allowed"


async def test_what_is_around_the_program(stage):
    done = await stage.behind(
        sys.executable, "-c", SHOW, no_proxy=f"{HOST},intern.example", JAVA_TOOL_OPTIONS="-Xmx64m", KEPT="yes"
    )
    around = json.loads(done.out)
    assert SECRET not in around
    assert stage.environ[SECRET] not in done.out
    assert around["KEPT"] == "yes"
    assert around["http_proxy"] == around["HTTPS_PROXY"] == around["https_proxy"] == around["HTTP_PROXY"]
    assert around["PARAF_URL_PAY"] == around["http_proxy"] + "/pay"
    assert around["no_proxy"] == around["NO_PROXY"] == "localhost,127.0.0.1,::1,intern.example"
    assert around["JAVA_TOOL_OPTIONS"].startswith("-Xmx64m -Dhttp.proxyHost=127.0.0.1 ")
    files = {around[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")}
    assert {str(Path(file).parent.parent) for file in files} == {stage.environ["TMPDIR"]}
    assert not any(map(os.path.exists, files))


async def test_what_the_run_does_without_is_hidden_too(stage):
    """It has an authority of its own, and no program may see the key of the other."""
    stage.configured["ca"] = {"cert": {"env": "OWN_CERT"}, "key": {"env": "OWN_KEY"}}
    stage.configured["control_token"] = {"env": "OWN_CONTROL"}
    own = {"OWN_CERT": "of-the-chain", "OWN_KEY": "of-the-authority", "OWN_CONTROL": "of-the-operators"}
    done = await stage.behind(sys.executable, "-c", SHOW, **own)
    assert (done.code, done.err) == (0, "")
    assert "of-the-" not in done.out


async def test_no_key_lies_on_the_disk_meanwhile(stage):
    done = await stage.behind("sh", "-c", 'cat "$(dirname "$SSL_CERT_FILE")"/*.pem')
    assert "BEGIN CERTIFICATE" in done.out
    assert "PRIVATE KEY" not in done.out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("no-such-program",), 127),
        (("/",), 126),
    ],
)
async def test_its_exit_status_is_passed_on_and_nothing_is_left(stage, words, code):
    done = await stage.behind(*words)
    assert (done.code, stage.left) == (code, [])


async def test_a_start_that_fails_leaves_nothing(stage):
    stage.environ.pop(SECRET)
    done = await stage.behind("true")
    assert (done.code, stage.left) == (78, [])
    assert f"environment variable {SECRET} is not set" in done.err


async def test_options_of_the_program_are_its_own(stage):
    done = await stage.run(*PARAF, "exec", "-c", str(stage.file), "sh", "-c", 'echo "$@"', "sh", "--take-token", "-c")
    assert (done.code, done.out) == (0, "--take-token -c\n")


WAITING = """
import signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, lambda number, _: seen.append(number))
print("ready", flush=True)
while not seen:
    time.sleep(0.01)
time.sleep(0.3)
print([int(number) for number in seen], flush=True)
sys.exit(42)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
async def test_signals_are_passed_on(stage, number):
    process = await stage.begin(*PARAF, "exec", "-c", str(stage.file), "--", sys.executable, "-c", WAITING)
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, _ = await process.communicate()
    assert (process.returncode, out.decode().strip(), stage.left) == (42, f"[{int(number)}]", [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_before_the_program_runs_leaves_nothing(stage, number):
    process = await stage.begin(*PARAF, "exec", "-c", str(stage.file), "--", "touch", "ran")
    async with asyncio.timeout(30):
        while not stage.left and process.returncode is None:  # noqa: ASYNC110 -- a folder tells nobody
            await asyncio.sleep(0.001)
        with suppress(ProcessLookupError):  # it may have been quicker than this look
            process.send_signal(number)
        await process.communicate()
    ran = (stage.folder / "ran").exists()
    assert (process.returncode, stage.left) == (0 if ran else 128 + number, [])


LINGERS = """
import os, sys, urllib.request
if os.fork() == 0:
    urllib.request.urlopen(os.environ["PARAF_URL_PAY"] + "/slow", b"{}", 60)
sys.exit(3)
"""


async def test_a_signal_while_the_last_requests_end_leaves_nothing(stage):
    """The program has ended, but what it started still waits for an answer."""
    async with RawPeer(lambda _: [asyncio.Event()]) as peer:
        stage.route["upstream"] = peer.url
        words = (*PARAF, "exec", "-c", str(stage.file), "--", sys.executable, "-c", LINGERS)
        process = await stage.begin(*words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        await peer.until(lambda peer: peer.requests, 30)
        async with asyncio.timeout(15):
            while process.returncode is None:  # the first may find the program still there
                process.terminate()
                await asyncio.sleep(0.1)
        # 143: it was passed on to the program, which was still there; -15: when all was over already
        assert process.returncode in {3, 128 + signal.SIGTERM, -signal.SIGTERM}
        assert stage.left == []


ON_A_TERMINAL = "import os; assert all(map(os.isatty, (0, 1, 2))); assert os.tcgetpgrp(0) == os.getpgrp()\n" + WAITING


async def test_the_terminal_is_the_programs(stage):
    """Ctrl-C comes from the terminal, to both: the program must see it once."""
    master, terminal = pty.openpty()
    words = (*PARAF, "exec", "-c", str(stage.file), "--", sys.executable, "-c", ON_A_TERMINAL)
    options = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    process = await stage.begin(
        *words, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **options
    )
    os.close(terminal)
    said, loop = b"", asyncio.get_running_loop()
    async with asyncio.timeout(30):
        while b"ready" not in said:
            said += await loop.run_in_executor(None, os.read, master, 4096)
        os.write(master, b"\x03")
        while b"]" not in said:
            said += await loop.run_in_executor(None, os.read, master, 4096)
        assert (await process.wait(), stage.left) == (42, [])
    os.close(master)
    assert b"[2]" in said


async def test_exclusive_tokens_are_not_taken_unasked(tmp_path):
    async with tls_stage(tmp_path, "netzme", HOST) as stage:
        call = (*POST, f"https://{HOST}/payment/x")
        done = await stage.behind(*call)
        assert json.loads(done.out)["code"] == "token_unavailable"
        assert "--take-token" in json.loads(done.out)["detail"]
        assert "account pay is exclusive" in done.err
        assert stage.tokens() == []
        done = await stage.behind(*call, options=("--take-token",))
        assert "code" not in json.loads(done.out)
        assert len(stage.tokens()) == 1


async def test_a_shared_store_gives_its_token_and_is_not_told_of_a_failure(tmp_path):
    async with tls_stage(tmp_path, "netzme", HOST) as stage:
        (tmp_path / "tokens").mkdir(mode=0o700)
        stage.configured["store"] = f"file://{tmp_path}/tokens"
        call = (*POST, f"https://{HOST}/payment/x")
        starved = await stage.behind(*call)
        assert json.loads(starved.out)["code"] == "token_unavailable"
        for options in (("--take-token",), ()):  # at once: nothing has failed for anybody; then there is one
            done = await stage.behind(*call, options=options)
            assert "code" not in json.loads(done.out)
        assert len(stage.tokens()) == 1
        assert [entry.part for entry in stage.calls()] == [None, None]


@pytest.mark.parametrize("workers", [1, 2])
async def test_env_leads_to_a_paraf_that_runs(stage, unused_tcp_port, workers):
    stage.configured |= {"listen": f"127.0.0.1:{unused_tcp_port}", "workers": workers}
    stage.configured["ca"] = {"cert": "ca/chain.pem", "key": "ca/key.pem"}
    stage.route["intercept"] = True
    missing = await stage.run(*PARAF, "env", "-c", str(stage.file))
    assert (missing.code, "paraf ca init" in missing.err) == (1, True)
    made = await stage.run(*PARAF, "ca", "init", "-c", str(stage.file))
    assert made.code == 0, made.err
    serving = await stage.begin(*PARAF, "serve", "-c", str(stage.file))
    try:
        async with asyncio.timeout(30):
            while b'"ready"' not in await serving.stderr.readline():
                pass
        for url in (f"https://{HOST}/x", f"http://{HOST}/x", "$PARAF_URL_PAY/x"):
            command = f'eval "$("$0" -m proxy env -c paraf.yaml)"; curl -sS -m 20 -d "{{}}" "{url}"'
            done = await stage.run("sh", "-c", command, sys.executable)
            assert (done.code, done.err) == (0, ""), done
        assert [entry.part for entry in stage.calls()] == [None] * 3
    finally:
        serving.terminate()
        await serving.communicate()


async def test_env_without_an_authority_leads_no_https_anywhere(stage):
    done = await stage.run(*PARAF, "env", "-c", str(stage.file))
    assert "export http_proxy=http://127.0.0.1:8080\n" in done.out
    assert "export PARAF_URL_PAY=http://127.0.0.1:8080/pay\n" in done.out
    assert "https_proxy=" not in done.out
    stage.configured["listen"] = f"unix:{stage.folder}/paraf.sock"
    done = await stage.run(*PARAF, "env", "-c", str(stage.file))
    assert (done.code, "HOST:PORT" in done.err) == (1, True)
