"""A route's connections from its configuration on: what is read, what is found wrong, and that all of it is used."""

import asyncio
import ssl

import pytest
import trustme
from asking import code
from egress_peer import EgressPeer
from rawpeer import RawCaller, RawPeer, ok, side_by_side
from running import built, of, proxy, routes

from proxy.errors import ConfigError

TOKEN = b'{"responseCode":"2007300","accessToken":"tok","tokenType":"Bearer","expiresIn":"900"}'


async def ask(running, target="/doku-nonsnap/pay"):
    async with RawCaller("127.0.0.1", running.port, 10) as caller:
        caller.send(f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        return await caller.answer()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An authority, what it issued, and a stranger's key."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("client", "other"):
        made = authority.issue_cert(f"{name}.example")
        made.private_key_pem.write_to_path(folder / f"{name}.key")
        (folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        (folder / f"{name}.key").chmod(0o600)
    (folder / "none.pem").write_text("nothing\n")
    (folder / "password").write_text("open sesame\n")
    (folder / "password").chmod(0o600)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server)
    return folder, server


def found(**route):
    with pytest.raises(ConfigError) as caught:
        built(routes(of("doku"), "https://localhost:9", **route))
    return [(each.path.removeprefix("routes.doku."), each.message) for each in caught.value.findings
            if each.severity == "error"]  # fmt: skip


def test_what_is_found_wrong(files):
    folder, _ = files
    pair = {"client_cert": f"{folder}/client.pem", "client_key": {"file": f"{folder}/other.key"}}
    assert found(tls=pair) == [("tls.client_key", "is not the key of the certificate in client_cert")]
    assert found(tls=pair | {"client_cert": f"{folder}/none.pem"}) == [
        ("tls.client_cert", "holds no PEM certificate that can be read")
    ]
    assert found(tls=pair | {"client_key": {"file": f"{folder}/gone.key"}}) == [
        ("tls.client_key", f"{folder}/gone.key does not exist")
    ]
    assert found(tls=pair | {"client_key": {"env": "UNSET"}}) == [
        ("tls.client_key", "environment variable UNSET is not set")
    ]
    egress = {"url": "https://proxy:1", "username": "me", "password": {"env": "UNSET"}, "ca": f"{folder}/none.pem"}
    assert sorted(found(egress_proxy=egress)) == [
        ("egress_proxy.ca", "holds no PEM certificate that can be read"),
        ("egress_proxy.password", "environment variable UNSET is not set"),
    ]


def test_what_is_warned_of(files):
    folder, _ = files
    (folder / "open.key").write_bytes((folder / "client.key").read_bytes())
    (folder / "open.key").chmod(0o644)
    tls = {"client_cert": f"{folder}/client.pem", "client_key": {"file": f"{folder}/open.key"}}
    egress = {"url": "http://proxy:1", "username": "me", "password": {"file": f"{folder}/password"}}
    _, generation = built(routes(of("doku"), "https://localhost:9", tls=tls, egress_proxy=egress))
    warned = {each.path.removeprefix("routes.doku."): each.message for each in generation.findings}
    assert "chmod o-rwx" in warned["tls.client_key"]
    assert "does not see the provider's address" in warned["egress_proxy"]
    assert "in the clear" in warned["egress_proxy.url"]
    assert "sesame" not in str(generation.lanes)
    assert "PRIVATE" not in str(generation.lanes)


async def test_calls_and_token_calls_use_all_of_it(files):
    """A provider that asks for a certificate, behind a proxy that asks for a login, with an authority of our own."""
    folder, server = files
    tls = {"ca": f"{folder}/ca.pem", "client_cert": f"{folder}/client.pem", "min_version": "1.3"}
    tls["client_key"] = {"file": f"{folder}/client.key"}

    def provider(request):
        return ok(TOKEN if b"access-token" in request.target else b"{}")

    async with RawPeer(provider, tls=server) as peer, EgressPeer() as egress:
        password = {"file": f"{folder}/password"}
        through = {"url": f"http://localhost:{egress.port}", "username": "me", "password": password}
        async with proxy(routes(of("doku", "doku-nonsnap"), peer.url, tls=tls, egress_proxy=through)) as running:
            for route in ("doku", "doku-nonsnap"):
                assert (await ask(running, target=f"/{route}/pay")).status == 200
            assert "sesame" not in running.log.getvalue()
        assert len(peer.requests) == 3
        assert egress.asked == [f"localhost:{peer.port}".encode()] * 3
        assert all(b"Proxy-Authorization: Basic bWU6b3BlbiBzZXNhbWU=" in head for head in egress.heads)


async def test_a_proxys_407_is_not_the_providers():
    async with EgressPeer(says=b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n") as egress:
        through = f"http://127.0.0.1:{egress.port}"
        async with proxy(routes(of("doku-nonsnap"), "https://api.example.com", egress_proxy=through)) as running:
            answer = await ask(running)
            assert (answer.status, code(answer)) == (502, ("upstream_unreachable", "no"))
            assert b"egress_proxy" in answer.body
            assert not answer.values("Proxy-Authenticate")


async def test_a_provider_that_moved_is_followed_without_a_restart(named, monkeypatch):
    """The old connection is open and good all the while; it comes of age."""
    monkeypatch.setattr("proxy.outbound.dial.FRESH", 0.0)
    names = named(pay_example=["127.0.0.1"])
    route = {"allow_private": True, "pool": {"age": "200ms"}}
    async with side_by_side(lambda _: ok(b"old"), lambda _: ok(b"new"), "::1") as (old, new):
        configured = routes(of("doku-nonsnap"), f"http://pay.example:{old.port}", **route)
        async with proxy(configured) as running:
            assert (await ask(running)).body == b"old"
            names.known["pay.example"] = ["::1"]
            async with asyncio.timeout(10):
                while (await ask(running)).body == b"old":
                    pass
            assert (await ask(running)).body == b"new"
            assert (old.connections, len(new.requests)) == (1, 2)
