"""Real programs and providers' own libraries, behind `paraf exec`: each has one call signed, and accepted over TLS."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rawpeer import RawPeer, ok
from tls_stage import TlsStage, tls_stage

from proxy.authority import Authority, make_authority, utc_now
from proxy.inbound.leaves import LeafContext
from proxy.surroundings import Trust, environment

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent / "programs"
MADE = Path(sys.prefix) / "programs"
"""In the environment of the tests: what is made there lasts until its sources change."""
DOKU = "api-sandbox.doku.com"
PAY = "/virtual-accounts/bi-snap-va/v1.1/transfer-va/create-va"
PYTHON = (str(MADE / "python" / "bin" / "python"),)
NODE = ("node",)
NODE_PATH = {"NODE_PATH": str(MADE / "node" / "node_modules")}

PROGRAMS = {
    "curl": ("curl", "-sS", "-m", "20", "-H", "Content-Type: application/json", "-d", '{"trxId": "curl"}'),
    "requests": (*PYTHON, str(HERE / "call_requests.py")),
    "httpx": (*PYTHON, str(HERE / "call_httpx.py")),
    "aiohttp": (*PYTHON, str(HERE / "call_aiohttp.py")),
    "undici": (*NODE, str(HERE / "call_undici.mjs")),
    "https": (*NODE, str(HERE / "call_https.cjs")),
    "fetch": (*NODE, str(HERE / "call_fetch.mjs")),
    "go": (str(MADE / "go" / "call"),),
    "java": ("java", "-cp", str(MADE / "java"), "Call"),
}
WAYS = {
    "CONNECT": f"https://{DOKU}{PAY}",
    "forward": f"http://{DOKU}{PAY}",
    "prefix": f"$PARAF_URL_PAY{PAY}",
}
LED = [
    *((name, "CONNECT") for name in ("curl", "requests", "httpx", "aiohttp", "undici", "https", "go", "java")),
    *((name, "forward") for name in ("curl", "requests", "httpx", "aiohttp", "go", "java")),
    *((name, "prefix") for name in ("curl", "fetch", "java")),
]


@pytest.fixture(scope="module", autouse=True)
def programs():
    async def make() -> int:
        environ = os.environ | {"PYTHON": sys.executable}
        process = await asyncio.create_subprocess_exec(str(HERE / "setup"), str(MADE), env=environ)
        return await asyncio.wait_for(process.wait(), 600)

    assert asyncio.run(make()) == 0


async def called(stage: TlsStage, *words: str):
    """The program's words under a shell, so that a URL may name a variable."""
    return await stage.behind(
        "sh",
        "-c",
        'url=$(eval "printf %s \\"$0\\""); "$@" "$url"',
        *words,
        NODE_PATH=str(MADE / "node" / "node_modules"),
    )


@pytest.mark.parametrize(("name", "way"), LED)
async def test_a_program_is_signed_for(name, way, tmp_path):
    async with tls_stage(tmp_path, "doku", DOKU) as stage:
        done = await called(stage, WAYS[way], *PROGRAMS[name])
        assert done.code == 0, done.err
        assert [(entry.target, entry.part) for entry in stage.calls()] == [(PAY, None)], done
        assert '"responseCode": "200' in done.out
        assert stage.left == []


def dummy_key(folder: Path) -> str:
    """Good for nothing: no provider knows it."""
    key = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "dummy.pem").write_bytes(key)
    return str(folder / "dummy.pem")


async def sdk(stage: TlsStage, *words: str):
    return await stage.behind(*words, dummy_key(stage.folder), **NODE_PATH)


@pytest.mark.parametrize("words", [(*PYTHON, str(HERE / "sdk_doku.py")), (*NODE, str(HERE / "sdk_doku.cjs"))])
async def test_a_library_of_doku_logs_in_here_and_its_call_is_signed_anew(words, tmp_path):
    async with tls_stage(tmp_path, "doku", DOKU, token_standin=True) as stage:
        done = await sdk(stage, *words)
        assert done.code == 0, done.err
        assert [(entry.target, entry.part) for entry in stage.calls()] == [(PAY, None)], done
        assert len(stage.tokens()) == 1, "the one that Paraf fetched; the library's own login never left"


async def test_the_library_of_nicepay(tmp_path):
    async with tls_stage(tmp_path, "snap", "dev.nicepay.co.id", base="/nicepay", token_standin=True) as stage:
        done = await sdk(stage, *PYTHON, str(HERE / "sdk_nicepay.py"))
        assert done.code == 0, done.err
        assert [entry.part for entry in stage.calls()] == [None], done


async def test_the_library_of_dana_is_led_by_its_own_configuration(tmp_path):
    async with tls_stage(tmp_path, "snap", "api.sandbox.dana.id", signature="asymmetric") as stage:
        done = await stage.behind(*PYTHON, str(HERE / "sdk_dana.py"), dummy_key(tmp_path), "--prefix")
        assert done.code == 0, done.err
        assert [entry.part for entry in stage.calls()] == [None], done


SAYS = {
    # what a program is, and its call: the first line that a proxy named by the variables gets of it
    ("curl", "https"): "CONNECT api.provider.invalid:443 HTTP/1.1",
    ("curl", "http"): "POST http://api.provider.invalid/x HTTP/1.1",
    ("requests", "https"): "CONNECT api.provider.invalid:443 HTTP/1.0",
    ("requests", "http"): "POST http://api.provider.invalid/x HTTP/1.1",
    ("httpx", "https"): "CONNECT api.provider.invalid:443 HTTP/1.1",
    ("httpx", "http"): "POST http://api.provider.invalid/x HTTP/1.1",
    ("aiohttp", "https"): "CONNECT api.provider.invalid:443 HTTP/1.1",
    ("aiohttp", "http"): "POST http://api.provider.invalid/x HTTP/1.1",
    ("undici", "https"): "CONNECT api.provider.invalid:443 HTTP/1.1",
    ("undici", "http"): "CONNECT api.provider.invalid:80 HTTP/1.1",
    ("https", "https"): "CONNECT api.provider.invalid:443 HTTP/1.1",
    ("fetch", "https"): None,
    ("fetch", "http"): None,
    ("go", "https"): "CONNECT api.provider.invalid:443 HTTP/1.1",
    ("go", "http"): "POST http://api.provider.invalid/x HTTP/1.1",
    ("java", "https"): "CONNECT api.provider.invalid:443 HTTP/1.1",
    ("java", "http"): "POST http://api.provider.invalid/x HTTP/1.1",
}


@pytest.mark.parametrize(("name", "scheme"), SAYS)
async def test_what_a_program_says_to_a_proxy(name, scheme):
    """As captured: so that the page of the ways in says what is so. The host is one that cannot exist."""
    said: list[str] = []

    async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append((await reader.readline()).decode().strip())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(heard, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        trust = Trust.within(HERE)  # its files are not there, and no handshake comes to need them
        led = environment(address, {}, (), trust, {}) | NODE_PATH
        for file in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
            del led[file]
        process = await asyncio.create_subprocess_exec(
            *PROGRAMS[name], f"{scheme}://api.provider.invalid/x", env=os.environ | led,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(60):
            await process.wait()
    assert next(iter(said), None) == SAYS[name, scheme]


@pytest.mark.parametrize("name", ["curl", "requests", "httpx", "aiohttp", "fetch", "go", "java"])
@pytest.mark.parametrize("covered", [True, False])
async def test_programs_hold_the_authority_to_its_hosts(name, covered, tmp_path):
    """They trust its root; its key signs for `localhost`, whether it may or not; who takes that is called by name."""
    made = make_authority(["localhost" if covered else "api.provider.example"], utc_now())
    trust = Trust.within(tmp_path)
    trust.write(made.root)
    leaf = LeafContext("localhost", Authority.read(made.chain, made.key).leaf("localhost", utc_now()))
    async with RawPeer(lambda _: ok(b"{}"), tls=leaf.tls) as peer:
        around = os.environ | NODE_PATH | environment("127.0.0.1:9", {}, (), trust, {})
        process = await asyncio.create_subprocess_exec(
            *PROGRAMS[name], f"{peer.url}/x", env=around,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            _, said = await process.communicate()
    assert len(peer.requests) == covered, said.decode()
