"""Refused requests that are remembered, and the page that shows how things stand: over sockets, and in Chromium."""

import asyncio
import json
import re
import subprocess
import zlib
from contextlib import AsyncExitStack
from html.parser import HTMLParser
from shutil import which

import pytest
from asking import request
from operating import operate, operated, started
from processes import configuration, serving
from rawpeer import RawCaller, RawPeer, answer
from running import accounts
from test_service import ask

from proxy.inbound.operations import merged
from proxy.inbound.page import page
from proxy.inquest import redacted

CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
EVIL = '<img src=x onerror="document.title=1">&"\''


@pytest.fixture
async def control(tmp_path):
    """Two routes, one of which remembers."""
    async with operated(tmp_path, "doku", "netzme") as made:
        made.configuration["routes"]["doku"]["refusals"] = 3
        made.write()
        assert (await made("POST", "/-/reload"))[0] == 200
        yield made


async def refused(control, times=1):
    """Calls that the provider refuses: they lack a header that the sandbox asks for, or repeat an id."""
    for _ in range(times):
        await ask(control.port, "doku", "X-EXTERNAL-ID: 7")


async def rows(control):
    status, _, told = await control("GET", "/debug/refusals")
    assert status == 200
    return told["refusals"]


async def test_nothing_is_kept_unless_a_route_asks(tmp_path):
    async with operated(tmp_path, "doku") as control:
        await refused(control, 2)
        assert await rows(control) == []


async def test_a_refused_request_is_told_with_what_is_known(control):
    await refused(control, 2)
    (row,) = await rows(control)
    assert (row["route"], row["method"], row["status"], row["code_class"]) == ("doku", "POST", 409, "duplicate")
    right, kept = row["findings"][:2]
    assert right == "the signature is what the route signs"
    assert kept.endswith("the provider may have another client_secret for this account")
    assert row["request_id"]
    assert row["attempts"] == 1


async def test_a_fault_in_the_look_at_a_refusal_does_not_keep_the_answer_from_the_caller(control, monkeypatch):
    def broken(*_, **__):
        raise KeyError("zone")

    monkeypatch.setattr("proxy.inquest.diagnose", broken)
    await refused(control)
    status, headers, _ = await ask(control.port, "doku", "X-EXTERNAL-ID: 7")
    assert (status, headers.get("X-Paraf-Error")) == (409, None)
    (row,) = await rows(control)
    (words,) = row["findings"]
    assert words.startswith("a fault in Paraf ended the look at it: KeyError at ")


async def test_no_more_are_kept_than_asked_for_and_the_newest_first(control):
    await refused(control, 6)
    kept = await rows(control)
    assert len(kept) == 3
    assert [row["at"] for row in kept] == sorted((row["at"] for row in kept), reverse=True)


async def test_a_reload_can_keep_fewer(control):
    await refused(control, 4)
    control.configuration["routes"]["doku"]["refusals"] = 0
    control.write()
    await control("POST", "/-/reload")
    assert await rows(control) == []


NO = answer("401 No", b"{}")


async def turned(control, **changes):
    """A reload that changes route `pay`; what it remembers then."""
    control.configuration["routes"]["pay"] |= changes
    control.write()
    assert (await control("POST", "/-/reload"))[0] == 200
    return [row["target"] for row in await rows(control)]


@pytest.fixture
async def remembering(tmp_path):
    """A route that remembers a refusal, and how to have another request refused that began as early."""
    release = asyncio.Event()
    async with RawPeer(lambda sent: [release, NO] if b"late" in sent.target else NO) as peer:
        made = configuration(peer.url)
        made["routes"]["pay"]["refusals"] = 5
        async with started(tmp_path, made, None) as control, AsyncExitStack() as callers:
            one, other = [await callers.enter_async_context(RawCaller("127.0.0.1", control.port, 20)) for _ in "12"]
            other.send(b"GET /pay/late HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await peer.until(lambda peer: peer.requests)
            one.send(b"GET /pay/early HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await one.answer()

            async def late():
                release.set()
                assert (await other.answer()).status == 401

            yield control, late


OTHER = {"credentials": {"client_id": "MCH-2", "client_secret": "another"}}


async def test_a_route_forgets_what_it_is_told_to_remember_no_more(remembering):
    control, late = remembering
    assert await turned(control) == ["/early"]
    assert await turned(control, refusals=0) == []
    await late()
    assert await turned(control, refusals=5) == []


async def test_a_route_forgets_refusals_of_another_merchant(remembering):
    control, late = remembering
    assert await turned(control, **OTHER) == []
    await late()
    assert await rows(control) == []


async def test_a_route_remembers_through_a_reload_that_leaves_it_alone(remembering):
    control, late = remembering
    assert await turned(control, refusals=4, prefix="/elsewhere") == ["/early"]
    await late()
    assert [row["target"] for row in await rows(control)] == ["/late", "/early"]


async def test_no_secret_and_nothing_sent_is_in_it(control):
    await refused(control, 2)
    told = json.dumps(await rows(control)) + (await control("GET", "/"))[2]
    token = await control.app._tokens.kept(control.app.generation.lanes["doku"].account)
    secrets = [each.account.client_secret.reveal() for each in accounts()]
    assert not [each for each in (*secrets, token.value.reveal(), "088899", "INV-1") if each in told]


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/v1/x", "/v1/x"),
        ("/v1/accounts/1234567890/x?phone=0812&a=", "/v1/accounts/…/x?phone=…&a=…"),
        ("/v1/x?abc-secret&1234567890=1&a@b=2&c", "/v1/x?…&…=…&…=…&…"),
        ("/v1.0/cards/4111-1111-1111-1111/by", "/v1.0/cards/…/by"),
        ("/of/someone@example.com/x/%34%31%31%31%31/y", "/of/…/x/…/y"),
        ("/" + "k" * 60, "/…"),
        ("/a/b" * 90, ("/a/b" * 90)[:199] + "…"),
    ],
)
def test_values_in_a_target_are_not_kept(target, shown):
    assert redacted(target) == shown


class Reader(HTMLParser):
    """What is in the page: tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data.strip())


async def test_the_page_says_how_things_stand(control):
    await refused(control, 2)
    status, headers, text = await control("GET", "/")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "text/html; charset=utf-8", "no-store")
    read = Reader(text)
    assert {"doku", "netzme", "closed", "live", "409 4092700 duplicate", "not kept:"} <= set(read.texts)
    assert "1 process ready" in read.texts


async def test_a_reload_that_was_refused_is_on_the_page(control):
    control.configuration["routes"]["doku"]["prefix"] = "no slash"
    control.write()
    assert (await control("POST", "/-/reload"))[0] == 422
    _, _, text = await control("GET", "/")
    assert "A newer one was refused" in text
    assert re.search(r"paraf\.yaml:\d+:\d+: routes\.doku\.prefix", text)


async def test_the_page_brings_nothing_and_takes_nothing_along(control):
    _, headers, text = await control("GET", "/")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    tags = Reader(text).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "form", "object", "base"}
    named = {name for _, attributes in tags for name in attributes}
    assert not {name for name in named if name in ("src", "href", "style") or name.startswith("on")}
    assert "http-equiv" not in text


def state(words):
    """Every text of a state is this one."""
    route = {
        "route": words, "provider": words, "environment": words, "upstream": words, "account": words,
        "circuit": words, "skew_s": 200.0, "skew_at": 7.0, "window_s": 120.0, "in_flight": 1.0,
        "requests": {words: 1.0}, "remembers": 1,
    }  # fmt: skip
    refusal = {
        "at": words, "route": words, "method": words, "target": words, "status": 401, "provider_code": words,
        "code_class": words, "request_id": words, "findings": [words],
    }  # fmt: skip
    token = {"account": words, "state": words, "exclusive": True, "fingerprint": words, "holder": words, "age_s": 1.0}
    told = {"generation": 1, "loaded_at_ms": 0, "refused_at_ms": 0, "refused": [words]}
    return {
        "now_ms": 0, "processes": 2, "configuration": told, "routes": [route], "tokens": [token], "refusals": [refusal],
    }  # fmt: skip


def test_everything_is_escaped():
    plain, evil = Reader(page(state("x")).decode()), Reader(page(state(EVIL)).decode())
    assert [(tag, sorted(named)) for tag, named in evil.tags] == [(tag, sorted(named)) for tag, named in plain.tags]
    assert EVIL in "".join(evil.texts)


def test_several_processes_are_one_row():
    one, other = state("a")["routes"][0] | {"circuit": "closed"}, state("a")["routes"][0] | {"circuit": "open"}
    (row,) = merged([[one], [other | {"skew_s": 0.5, "skew_at": 8.0, "requests": {"a": 2.0, "b": 1.0}}]])
    assert (row["circuit"], row["skew_s"], row["in_flight"]) == ("open", 0.5, 2.0)
    assert row["requests"] == {"a": 3.0, "b": 1.0}


async def browsed(url, folder, *arguments):
    """What Chromium prints, with a profile of its own."""
    command = [which("chromium"), *CHROMIUM, f"--user-data-dir={folder / 'profile'}", *arguments, url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout


async def test_in_a_browser(control, tmp_path):
    """It is laid out by its own style, which the policy lets in."""
    await refused(control, 2)
    url = f"http://{control.control}/"
    dom = await browsed(url, tmp_path, "--dump-dom")
    assert {"doku", "netzme"} <= set(Reader(dom).texts)
    assert corner(await picture(control, tmp_path, "plain.png")) == bytes.fromhex("f6f7f9")
    dark = await picture(control, tmp_path, "dark.png", "--blink-settings=preferredColorScheme=0")
    assert corner(dark) == bytes.fromhex("14171b")


def corner(png):
    """The first pixel, which no filter of the format changes."""
    at, packed = 8, b""
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        packed += png[at + 8 : at + 8 + size] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += size + 12
    return zlib.decompress(packed)[1:4]


async def picture(control, folder, name, *arguments):
    url, size = f"http://{control.control}/", "--window-size=1200,900"
    await browsed(url, folder, f"--screenshot={folder / name}", size, *arguments)
    return (folder / name).read_bytes()


async def test_workers_are_taken_together(tmp_path):
    """Each remembers what it served itself; a body of this provider says nothing that is kept."""
    async with RawPeer(lambda _request: [answer("401 Unauthorized", b'{"error":"a-secret-word"}')]) as peer:
        made = configuration(peer.url, control=f"unix:{tmp_path}/control.sock")
        for route in made["routes"].values():
            route["refusals"] = 50
        async with serving(tmp_path, made, "--workers", "2") as paraf:
            for _ in range(8):
                assert (await exchanged(paraf.address)).status == 401
            status, _, told = await operate(paraf.ready["control"], "GET", "/debug/refusals")
            _, _, text = await operate(paraf.ready["control"], "GET", "/")
    assert (status, len(told["refusals"])) == (200, 8)
    assert {row["findings"][0] for row in told["refusals"]} == {"the signature is what the route signs"}
    assert "2 processes ready" in Reader(text).texts
    assert "forwarded 8" in Reader(text).texts
    assert "a-secret-word" not in text


async def exchanged(address):
    async with RawCaller(*address) as caller:
        caller.send(request().replace(b"/doku-nonsnap", b"/pay"))
        return await caller.answer()
