"""What leaves: the bytes on the wire, one sending only, and the certificate asked for first."""

import asyncio
import contextlib
import datetime as dt
import os
import ssl
import subprocess
import sys

import pytest
import trustme
from rawpeer import CLOSE, RESET, RawPeer, answer, ok
from sending import SYSTEM, serving, trusting

from proxy.errors import ProxyError
from proxy.outbound.session import require_compiled_aiohttp
from proxy.outbound.transport import Patience

METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"]


async def test_the_bytes_on_the_wire_are_the_signed_ones_and_no_more(sender):
    async with RawPeer(lambda request: ok(b"{}")) as peer:
        headers = [("X-B", "1"), ("x-a", "Bücher"), ("X-B", "2"), ("Authorization", "Bearer t")]
        await sender.fetch("POST", f"{peer.url}/v1//%2fA%2F~%7e;p=1?q=a+b&c=%C3%A9&d=", headers, b'{"a": 1}')
        assert (
            bytes(peer.received[0])
            == (
                "POST /v1//%2fA%2F~%7e;p=1?q=a+b&c=%C3%A9&d= HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{peer.port}\r\n"
                "X-B: 1\r\nx-a: Bücher\r\nX-B: 2\r\nAuthorization: Bearer t\r\n"
                'Content-Length: 8\r\n\r\n{"a": 1}'
            ).encode()
        )


@pytest.mark.parametrize(
    "target", ["/pay?", "/?", "/pay??", "//", "/a/%2e%2e/b", "/a/./../b", "/%zz", "/x?a=%2F#"[:-1]]
)
async def test_targets_that_url_libraries_rewrite_arrive_as_they_are(sender, target):
    async with RawPeer(lambda request: ok()) as peer:
        await sender.fetch("GET", peer.url + target)
        assert peer.requests[0].target == target.encode()


@pytest.mark.parametrize("method", METHODS)
async def test_nothing_is_added_but_host_and_length(sender, method):
    async with RawPeer(lambda request: ok()) as peer:
        await sender.fetch(method, f"{peer.url}/")
        names = [name for name, _ in peer.requests[0].headers]
        assert names == ([b"Host", b"Content-Length"] if method in ("PUT", "POST", "PATCH") else [b"Host"])


async def test_a_body_of_two_mebibytes_arrives_whole(sender):
    body = os.urandom(2 * 1024 * 1024)
    async with RawPeer(lambda request: ok(b"done")) as peer:
        assert await sender.fetch("POST", f"{peer.url}/", body=body) == (200, b"done")
        assert peer.requests[0].body == body


async def test_what_cannot_be_sent_exactly_is_not_sent(sender):
    async with RawPeer(lambda request: ok()) as peer:
        with pytest.raises(ProxyError) as raised:
            await sender.send("GET", f"{peer.url}/a b")
        assert (raised.value.code, raised.value.sent, sender.attempt.sent) == ("internal", "no", "no")
        assert peer.connections == 0


@pytest.mark.parametrize("method", METHODS)
async def test_no_method_is_sent_twice_when_a_kept_connection_is_closed_without_an_answer(sender, method):
    script = iter([[ok()], [CLOSE], [ok()]])
    async with RawPeer(lambda request: next(script)) as peer:
        await sender.fetch(method, f"{peer.url}/first")
        with pytest.raises(ProxyError) as raised:
            await sender.fetch(method, f"{peer.url}/second")
        assert (raised.value.code, raised.value.sent) == ("upstream_protocol", "maybe")
        assert [request.target for request in peer.requests] == [b"/first", b"/second"]
        assert peer.connections == 1


@pytest.mark.parametrize("method", METHODS)
async def test_no_method_is_sent_twice_when_a_connection_is_reset(sender, method):
    async with RawPeer(lambda request: [RESET]) as peer:
        with pytest.raises(ProxyError) as raised:
            await sender.fetch(method, f"{peer.url}/")
        assert (raised.value.code, raised.value.sent) == ("upstream_protocol", "maybe")
        assert len(peer.requests) == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_answers(sender, status):
    async with RawPeer(lambda request: answer(status, b"", "Location: /elsewhere")) as peer:
        assert (await sender.fetch("GET", f"{peer.url}/"))[0] == int(status[:3])
        assert len(peer.requests) == 1


async def test_cookies_are_not_kept(sender):
    async with RawPeer(lambda request: ok(b"", "Set-Cookie: a=b; Path=/")) as peer:
        await sender.fetch("GET", f"{peer.url}/")
        await sender.fetch("GET", f"{peer.url}/")
        assert peer.requests[1].values("cookie") == []


async def test_proxies_of_the_environment_are_not_used(sender, monkeypatch):
    async with RawPeer(lambda request: ok()) as trap, RawPeer(lambda request: ok()) as peer:
        monkeypatch.setenv("http_proxy", trap.url)
        monkeypatch.setenv("ALL_PROXY", trap.url)
        await sender.fetch("GET", f"{peer.url}/")
        assert (trap.connections, peer.connections) == (0, 1)


async def test_sent_turns_to_maybe_with_the_first_byte(sender):
    held = asyncio.Event()
    async with RawPeer(lambda request: [held, ok()]) as peer:
        call = asyncio.create_task(sender.send("POST", f"{peer.url}/", body=b"x"))
        await peer.until(lambda peer: peer.requests)
        assert sender.attempt.sent == "maybe"
        held.set()
        await (await call).close()


async def test_a_cancelled_call_closes_its_connection(sender):
    async with RawPeer(lambda request: [asyncio.Event()]) as peer:
        call = asyncio.create_task(sender.send("POST", f"{peer.url}/", body=b"x"))
        await peer.until(lambda peer: peer.requests)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await peer.until(lambda peer: peer.hangups == 1)


async def test_an_upload_given_up_is_not_carried_on(opening, wires):
    """The peer reads nothing for a while, so most of the body still waits in this process."""
    body = bytes(32 * 1024 * 1024)
    async with (
        opening(tls=wires.client) as sender,
        RawPeer(lambda request: [asyncio.Event()], reads_bodies=False, tls=wires.server) as peer,
    ):
        with pytest.raises(ProxyError) as raised:
            await sender.fetch("POST", f"{peer.url}/", body=body, patience=Patience(1, 0.1, 1))
        assert (raised.value.code, raised.value.sent) == ("upstream_timeout", "maybe")
        arrived = 0
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while piece := await peer.readers[0].read(2**20):
                arrived += len(piece)
        assert arrived < len(body) // 2


async def test_no_listener_is_unreachable(sender):
    async with RawPeer(lambda request: ok()) as peer:
        url = peer.url
    with pytest.raises(ProxyError) as raised:
        await sender.send("GET", f"{url}/")
    assert (raised.value.code, raised.value.sent, sender.attempt.sent) == ("upstream_unreachable", "no", "no")


@pytest.mark.parametrize("host", ["no-such-name.invalid", "2130706433", "a..b"])
async def test_a_name_without_address_is_unreachable(sender, host):
    with pytest.raises(ProxyError) as raised:
        await sender.send("GET", f"http://{host}/")
    assert (raised.value.code, raised.value.sent) == ("upstream_unreachable", "no")


async def test_a_connect_that_takes_too_long_is_a_timeout_before_sending(sender):
    """TLS to a peer that accepts and says nothing: the handshake never ends."""
    async with RawPeer(lambda request: ok()) as peer:
        with pytest.raises(ProxyError) as raised:
            await sender.send("GET", f"https://127.0.0.1:{peer.port}/", patience=Patience(0.1, 5, 5))
        assert (raised.value.code, raised.value.sent) == ("upstream_timeout", "no")
        peer.flaws.clear()


async def test_calls_beyond_the_limit_wait_for_a_connection_and_no_longer_than_for_one(opening):
    async with RawPeer(lambda request: [asyncio.Event()]) as peer, opening(tls=SYSTEM, connections=2) as sender:
        held = [asyncio.create_task(sender.send("GET", f"{peer.url}/")) for _ in range(2)]
        await peer.until(lambda peer: len(peer.requests) == 2)
        with pytest.raises(ProxyError) as raised:
            await sender.send("GET", f"{peer.url}/", patience=Patience(0.1, 5, 5))
        assert (raised.value.code, raised.value.sent) == ("upstream_timeout", "no")
        assert peer.connections == 2
        for call in held:
            call.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_many_connections_to_one_host_are_fine(sender):
    release = asyncio.Event()
    async with RawPeer(lambda request: [release, ok()]) as peer:
        calls = [asyncio.create_task(sender.fetch("GET", f"{peer.url}/{number}")) for number in range(150)]
        await peer.until(lambda peer: len(peer.requests) == 150)
        release.set()
        assert {status for status, _ in await asyncio.gather(*calls)} == {200}


async def test_a_closed_transport_says_so(sender):
    await sender.transport.close()
    with pytest.raises(ProxyError) as raised:
        await sender.send("GET", "http://127.0.0.1/")
    assert raised.value.code == "shutting_down"


async def fetched_over_tls(opening, peer, tls):
    async with opening(tls=tls) as sender:
        return (await sender.fetch("GET", f"{peer.url}/"))[1]


async def test_a_trusted_certificate_with_the_right_name_is_served(opening, authority):
    async with RawPeer(lambda request: ok(b"secret"), tls=serving(authority, "localhost")) as peer:
        assert await fetched_over_tls(opening, peer, trusting(authority)) == b"secret"


async def test_a_wrong_name_an_unknown_root_and_an_old_date_are_refused_before_a_byte_is_sent(opening, authority):
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    cases = [
        (serving(authority, "elsewhere.example"), trusting(authority)),
        (serving(trustme.CA(), "localhost"), trusting(authority)),
        (serving(authority, "localhost", not_after=past), trusting(authority)),
        (serving(authority, "localhost"), None),
    ]
    for server, client in cases:
        async with RawPeer(lambda request: ok(), tls=server) as peer:
            with pytest.raises(ProxyError) as raised:
                await fetched_over_tls(opening, peer, client)
            assert (raised.value.code, raised.value.sent) == ("upstream_tls", "no")
            assert peer.requests == []


async def test_ssl_cert_file_is_honoured(opening, authority, tmp_path, monkeypatch):
    roots = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(str(roots))
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    async with RawPeer(lambda request: ok(b"secret"), tls=serving(authority, "localhost")) as peer:
        assert await fetched_over_tls(opening, peer, None) == b"secret"


async def test_what_a_server_says_before_it_was_asked_is_no_answer(opening, authority):
    """In TLS 1.2 the server's side of the handshake ends last, so its greeting comes together with that."""
    context = serving(authority, "localhost")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with RawPeer(lambda request: ok(b"own"), tls=context, greeting=ok(b"forged")) as peer:
        with pytest.raises(ProxyError) as raised:
            await fetched_over_tls(opening, peer, trusting(authority))
        assert (raised.value.code, raised.value.sent) == ("upstream_unreachable", "no")
        assert peer.requests == []


async def test_a_peer_that_does_not_speak_tls_is_a_tls_fault(sender):
    async with RawPeer(lambda request: ok(), greeting=b"220 mail.example ESMTP\r\n") as peer:
        with pytest.raises(ProxyError) as raised:
            await sender.send("GET", f"https://127.0.0.1:{peer.port}/")
        assert (raised.value.code, raised.value.sent) == ("upstream_tls", "no")
        peer.flaws.clear()


def test_the_compiled_parser_is_in_use():
    require_compiled_aiohttp()


def test_without_the_compiled_parser_there_is_a_plain_sentence():
    program = "from proxy.outbound.session import require_compiled_aiohttp as check; check()"
    environment = os.environ | {"AIOHTTP_NO_EXTENSIONS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "StartError: aiohttp's compiled HTTP parser is missing or switched off" in done.stderr
