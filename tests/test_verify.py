"""`paraf verify`, in this process: what it says of what `paraf sign` made, as it is and changed by hand."""

import asyncio
import io
import json
import re
import sys
from asyncio.subprocess import PIPE
from base64 import b64decode
from pathlib import Path

import pytest
from rawpeer import RawPeer, ok
from running import EVERY, built, of

from proxy.commands import fresh, main
from proxy.commands.asked import as_curl
from proxy.commands.curl import parse_curl
from proxy.model import SignedRequest

AT = "2026-01-15T10:30:45+07:00"
TOKEN = "tok.Abc-123"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """One route of every profile."""
    folder = tmp_path_factory.mktemp("verify")
    configured = fresh.configuration(of(*EVERY), "https://sandbox.example", "127.0.0.1:0", "off")
    (folder / "paraf.yaml").write_text(fresh.text(configured))
    return str(folder / "paraf.yaml")


@pytest.fixture
def paraf(file, monkeypatch, capsys):
    """Runs a command, and gives its exit status and what it printed."""

    def run(name, *arguments, typed=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            main([name, "-c", file, "--allow-inline-secrets", *arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return run


def signed(paraf, profile, *more):
    """The curl line that `sign` gives for a plain request."""
    target, body, headers = fresh.EXAMPLES[profile]
    given = [word for name, value in headers for word in ("-H", f"{name}: {value}")]
    code, said = paraf(
        "sign", profile, "POST", f"/{profile}{target}", "-d", body, "-H", "Content-Type: application/json", *given,
        "--at", AT, "--token", TOKEN, *more,
    )  # fmt: skip
    assert code == 0
    return said.splitlines()[-1].strip()


@pytest.mark.parametrize("profile", EVERY)
def test_what_paraf_signs_is_right(paraf, profile):
    code, said = paraf("verify", profile, "-", typed=signed(paraf, profile))
    assert code == 0, said
    assert said.startswith("right: ")


@pytest.mark.parametrize("profile", ["klikoo", "netzme"])
def test_a_body_that_was_changed_on_the_way(paraf, profile):
    line = signed(paraf, profile)
    code, said = paraf("verify", profile, "--curl", re.sub(r"--data-raw '(.)", r"--data-raw '\1\"x\":1,", line))
    assert code == 1
    assert "differs" in said


def test_two_parts_in_words_and_for_machines(paraf):
    """A clock that was read twice, and hex where base64 is asked for."""
    line = signed(paraf, "snap").replace("T10:30:45+07:00", "T10:30:46+07:00")
    signature = re.search(r"X-SIGNATURE: ([^']+)", line)[1]
    line = line.replace(signature, b64decode(signature).hex())
    code, said = paraf("verify", "snap", "-", typed=line)
    assert code == 1
    assert "  time      the time that is signed is 1 s behind its header" in said
    assert "  encoding  the signature is written in hex in small letters" in said
    code, said = paraf("verify", "snap", "-", "--json", typed=line)
    told = json.loads(said)
    assert (code, told["right"]) == (1, False)
    assert {each["name"] for each in told["deviations"]} == {"time.drift", "encoding.hex"}


def test_as_flags_and_with_the_callers_own_target(paraf):
    line = signed(paraf, "doku")
    headers = [word for row in re.findall(r"-H '([^']+)'", line) for word in ("-H", row)]
    _, body, _ = fresh.EXAMPLES["doku"]
    target = f"/doku{fresh.EXAMPLES['doku'][0]}"
    assert paraf("verify", "doku", "POST", target, *headers, "-d", body)[0] == 0
    code, said = paraf("verify", "doku", "POST", target, *headers, "-d", body + " ", "--token", "another")
    assert (code, "another token than the one given" in said) == (1, True)


def test_the_time_of_sending(paraf):
    line = signed(paraf, "doku")
    assert paraf("verify", "doku", "-", "--at", AT, typed=line)[0] == 0
    code, said = paraf("verify", "doku", "-", "--at", "2026-01-15T10:30:45Z", typed=line)
    assert (code, "7 h 0 min (whole hours: a time zone) behind the time of sending" in said) == (1, True)


def test_another_host(paraf):
    code, said = paraf("verify", "doku", "-", typed=signed(paraf, "doku").replace("sandbox.example", "api.doku.com"))
    assert (code, "the URL leads to api.doku.com; the route's host is sandbox.example" in said) == (1, True)


def test_the_key_of_a_neighbour(paraf):
    """Signed by one route, read as another's of the same form."""
    line = signed(paraf, "ifortepay-payment").replace("ifortepay-payment/", "ifortepay-disbursement/")
    code, said = paraf("verify", "ifortepay-disbursement", "-", typed=line)
    assert (code, "the key is another: client_secret of route ifortepay-payment" in said) == (1, True)


def test_the_call_for_a_token(paraf):
    configured = fresh.configuration(of("snap"), "https://sandbox.example", "127.0.0.1:0", "off")
    _, generation = built(configured)
    lane = generation.lanes["snap"]
    draft = lane.exchange.draft(1_768_447_845_000)
    request = draft.seal([demand.answer(lane.keys) for demand in draft.demands])
    assert paraf("verify", "snap", "-", typed=as_curl(request))[0] == 0
    wrong = as_curl(request).replace("X-CLIENT-KEY: ", "X-CLIENT-KEY: x")
    code, said = paraf("verify", "snap", "-", typed=wrong)
    assert (code, "X-CLIENT-KEY is not what the route's account has there" in said) == (1, True)


def test_no_secret_is_printed(paraf):
    line = signed(paraf, "netzme").replace("Request-Time: 1", "Request-Time: 2")
    for more in ([], ["--json"]):
        _, said = paraf("verify", "netzme", "-", *more, typed=line)
        secrets = [each.account.client_secret.reveal() for each in of(*EVERY)]
        assert not [secret for secret in (*secrets, TOKEN) if secret in said]


@pytest.mark.parametrize(
    "arguments",
    [["doku"], ["doku", "POST"], ["doku", "-", "--curl", "curl x"], ["nope", "GET", "/x"], ["doku", "GET", "/klikoo/x"],
     ["doku", "--curl", "wget x"], ["doku", "GET", "/doku/x", "-d", "@nowhere"],
     ["doku", "GET", "/doku/x", "--at", "soon"]],
)  # fmt: skip
def test_wrong_usage(paraf, arguments):
    assert paraf("verify", *arguments)[0] == 2


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        (r"curl -H $'X-SIGNATURE: \xff' https://x.example", "no UTF-8"),
        (r"curl $'https://x.example/\xff'", "no UTF-8"),
        (r"curl -H $'A: \U7FFFFFFF' https://x.example", "names no character"),
        (r"curl -H $'A: \ud800' https://x.example", "no UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_in_words(paraf, pasted, words):
    code, said = paraf("verify", "doku", "-", typed=pasted)
    assert (code, words in said) == (2, True)


def test_bytes_that_are_no_text_are_refused_in_words(paraf, monkeypatch):
    """As a terminal's stdin gives them."""
    typed = io.TextIOWrapper(io.BytesIO(b"curl -H 'A: \xff' https://x.example"), "utf-8")
    monkeypatch.setattr(io, "StringIO", lambda _: typed)
    code, said = paraf("verify", "doku", "-")
    assert (code, "no UTF-8" in said) == (2, True)


@pytest.mark.parametrize("text", ["A" * 1_000_000, "ab" * 400_000, "a" * 10 + "-" * 1_000_000])
def test_a_text_that_is_too_long_for_a_signature_is_not_searched(paraf, text):
    line = re.sub(r"X-SIGNATURE: [^']*", f"X-SIGNATURE: {text}", signed(paraf, "doku"))
    code, said = paraf("verify", "doku", "-", typed=line)
    assert (code, "X-SIGNATURE holds no signature in b64" in said) == (1, True)


def test_a_configuration_that_cannot_be_read(monkeypatch, tmp_path):
    (tmp_path / "paraf.yaml").write_text("version: 1\nroutes: {}\nx: 1\n")
    with pytest.raises(SystemExit) as ended:
        main(["verify", "-c", str(tmp_path / "paraf.yaml"), "doku", "GET", "/x"])
    assert ended.value.code == 78


PAGE = Path(__file__).parent.parent / "config" / "refused.md"


def test_the_example_of_the_page(tmp_path, monkeypatch, capsys):
    """What is shown is what is printed, but for the age of the request."""
    route = fresh.configuration(of("doku"), "https://x.example", "127.0.0.1:0", "off")["routes"]["doku"]
    route = {name: route[name] for name in ("provider", "environment", "credentials")}
    route["credentials"] |= {"client_id": "MCH-0001", "client_secret": "sEcReT-1"}
    (tmp_path / "paraf.yaml").write_text(fresh.text({"version": 1, "routes": {"doku": route}}))
    page = PAGE.read_text("utf-8")
    (pasted,) = re.findall(r"<<'END'\n(.*?)END\n", page, re.DOTALL)
    (shown,) = re.findall(r"```text\n(differs.*?)```", page, re.DOTALL)
    monkeypatch.setattr(sys, "stdin", io.StringIO(pasted))
    with pytest.raises(SystemExit):
        main(["verify", "-c", str(tmp_path / "paraf.yaml"), "--allow-inline-secrets", "doku", "-"])
    assert capsys.readouterr().out.startswith(shown)


@pytest.mark.parametrize("body", ['{"a": 1.00,\n "b":"it\'s é \\\\"}', "@home", "ÿ\x01\udcff"])
async def test_the_curl_line_sends_what_was_signed(body, tmp_path):
    """Run by a shell, byte for byte, and read back the same."""
    headers = (("X-A", 'it\'s "b" $HOME `x`'), ("X-SIGNATURE", "a+/="))
    async with RawPeer(lambda _request: [ok(b"{}")]) as peer:
        target = "/a/%2E%2e/[x]?q={1,2}&r=a%20b"
        url = peer.url + target
        request = SignedRequest("PUT", url, headers, body.encode("utf-8", "surrogateescape"))
        line = as_curl(request)
        done = await asyncio.create_subprocess_exec("bash", "-c", line + " -s", cwd=tmp_path, stdout=PIPE)
        assert await done.communicate() == (b"{}", None)
        (arrived,) = peer.requests
    assert (arrived.method, arrived.target.decode(), arrived.body) == ("PUT", target, request.body)
    assert set(headers) <= {(name.decode(), value.decode()) for name, value in arrived.headers}
    read = parse_curl(line, Path.read_bytes)
    assert (read.method, read.target, read.body) == ("PUT", url, request.body)


def test_the_token_that_should_have_been_used_is_tried(paraf):
    """It stands in the string, and an older one in the header."""
    line = signed(paraf, "snap")
    other = line.replace(TOKEN, "tok.Old-1")
    code, said = paraf("verify", "snap", "-", "--token", TOKEN, typed=other)
    assert code == 1
    assert "another token is signed: the one given" in said
    assert TOKEN not in said
