"""A connection that ends around the very moment in which it is used: nothing is lost that need not be."""

import asyncio
import os
import select
from functools import partial

import pytest
from byhand import by_hand, wait_until_it_is_here
from rawpeer import CLOSE, RESET, RawPeer, ok
from sending import Encrypted, Sender, opened

from proxy.errors import ProxyError
from proxy.outbound import pool as pool_module
from proxy.outbound.dial import Dial
from proxy.outbound.line import Line
from proxy.outbound.pool import CleanPool

UVLOOP = os.environ.get("PARAF_TEST_LOOP") == "uvloop"
"""It tells of a failed write below TLS only later."""
METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"]
OWN = ok(b"own")


async def refusal(sender, method, url):
    with pytest.raises(ProxyError) as raised:
        await sender.fetch(method, url, body=b"x" * 100)
    assert sender.attempt.sent == raised.value.sent
    return raised.value.code, raised.value.sent


async def warm(sender, peer):
    """One answered request over a new connection, which then lies in the pool."""
    call = asyncio.create_task(sender.fetch("POST", f"{peer.url}/", body=b"x"))
    await peer.accept()
    await peer.answer(OWN)
    assert await call == (200, b"own")


async def two_idle(sender, peer):
    """Two connections with an answered request each, in the order in which they came to rest."""
    calls = [asyncio.create_task(sender.fetch("POST", f"{peer.url}/", body=b"x")) for _ in range(2)]
    for each in range(2):
        await peer.accept()
        await peer.answer(OWN, of=each)
    assert await asyncio.gather(*calls) == [(200, b"own")] * 2
    (lines,) = ([*origin.idle] for origin in sender.transport._origins.values())
    return lines


def end_unseen(line, peer):
    """By the peer, until the kernel has heard of it; the loop has not."""
    ours = line.transport.get_extra_info("socket")
    peer.fin(of=[each.getpeername() for each in peer._accepted].index(ours.getsockname()))
    wait_until_it_is_here(ours.fileno())


async def trusts(sender, peer):
    """Is a connection that was used a moment ago used again?"""
    await warm(sender, peer)
    call = asyncio.create_task(sender.fetch("POST", f"{peer.url}/", body=b"x"))
    again = asyncio.create_task(peer.accept())
    await asyncio.wait({call, again}, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    return not again.done()


def between_look_and_write(monkeypatch, opening, end):
    """`end()` in the moment after the last look that is taken at the socket of a kept connection."""
    places = {"session": (pool_module, "is_silent", [None, end]), "wire": (Line, "is_silent", [end])}
    behind(monkeypatch, *places[opening.args[0]])


def behind(monkeypatch, place, name, acts):
    """Each of `acts` after one more look of that name, until the kernel has heard of it."""
    look = getattr(place, name)

    def looked(of, *more):
        found = look(of, *more)
        if acts and (act := acts.pop(0)):
            act()
            wait_until_it_is_here(of if isinstance(of, int) else of.transport.get_extra_info("socket").fileno())
        return found

    monkeypatch.setattr(place, name, looked)


def at_once(monkeypatch, opening, act):
    """`await act(fileno)` on every connection that is made, before it is written to."""
    place, name = {"session": (CleanPool, "_create_connection"), "wire": (Dial, "open")}[opening.args[0]]
    create = getattr(place, name)

    async def made_and_acted_on(self, *args):
        made = await create(self, *args)
        await act(made.transport.get_extra_info("socket").fileno())
        return made

    monkeypatch.setattr(place, name, made_and_acted_on)


@pytest.mark.parametrize("method", METHODS)
async def test_a_reset_between_the_last_look_and_the_write_leaves_the_request_unsent(
    opening, monkeypatch, wires, method
):
    """The kernel takes not a byte then, so it may be sent again."""
    with by_hand(wires.server) as peer:
        async with opening(tls=wires.client) as sender:
            await warm(sender, peer)
            between_look_and_write(monkeypatch, opening, peer.rst)
            hidden = UVLOOP and wires.server
            told = ("upstream_protocol", "maybe") if hidden else ("upstream_unreachable", "no")
            assert await refusal(sender, method, f"{peer.url}/") == told


async def test_after_a_reset_at_the_write_other_kept_connections_are_not_trusted(opening, monkeypatch):
    with by_hand() as peer:
        async with opening() as sender:
            await warm(sender, peer)
            between_look_and_write(monkeypatch, opening, peer.rst)
            await refusal(sender, "POST", f"{peer.url}/")
            monkeypatch.undo()
            assert not await trusts(sender, peer)


@pytest.mark.parametrize("method", METHODS)
async def test_an_end_between_the_last_look_and_the_write_is_told_as_it_is(opening, monkeypatch, wires, method):
    """The bytes are under way, and whoever has closed one direction may still read the other."""
    with by_hand(wires.server) as peer:
        async with opening(tls=wires.client) as sender:
            await warm(sender, peer)
            between_look_and_write(monkeypatch, opening, peer.fin)
            assert await refusal(sender, method, f"{peer.url}/") == ("upstream_protocol", "maybe")
        assert peer.unread() != b""
        assert peer.connections == 1


@pytest.mark.parametrize("act", ["fin", "rst", "say"])
async def test_what_comes_in_the_turn_of_asking_leaves_the_request_unsent(monkeypatch, wires, act):
    """It is written at the end of that turn. Words that came before were meant for somebody else, and are no answer."""
    with by_hand(wires.server) as peer:
        async with opened("wire", tls=wires.client) as sender:
            await warm(sender, peer)
            behind(monkeypatch, Line, "wakes", [partial(peer.say, OWN) if act == "say" else getattr(peer, act)])
            assert await refusal(sender, "POST", f"{peer.url}/") == ("upstream_unreachable", "no")
        if act != "rst" and not wires.server:
            assert peer.unread() == b""
        assert peer.connections == 1


@pytest.mark.both_loops
async def test_where_one_has_ended_no_other_of_its_age_is_taken_in_the_same_turn():
    """The provider may be ending them all: what is written to one that is about to be ended is lost."""
    with by_hand() as peer:
        async with opened("wire") as sender:
            lines = await two_idle(sender, peer)
            end_unseen(lines[-1], peer)
            calls = [asyncio.create_task(sender.fetch("POST", f"{peer.url}/", body=b"x")) for _ in range(2)]
            for _ in calls:
                await peer.accept()
                await peer.answer(OWN)
            assert await asyncio.gather(*calls) == [(200, b"own")] * 2
            assert [peer.unread(of=each) for each in range(2)] == [b"", b""]


@pytest.mark.both_loops
async def test_what_was_asked_of_others_before_the_first_end_was_seen_does_not_leave(monkeypatch):
    """Their message waits for the end of the turn, and by then they are not trusted any more."""
    with by_hand() as peer:
        async with opened("wire") as sender:
            lines = await two_idle(sender, peer)
            wakes = Line.wakes

            def taken_and_ended(line, *args):
                taken = wakes(line, *args)
                if line is lines[0]:  # the last to be taken; the first is to leave first
                    end_unseen(lines[1], peer)
                return taken

            monkeypatch.setattr(Line, "wakes", taken_and_ended)
            calls = [asyncio.create_task(refusal(Sender(sender.transport), "POST", f"{peer.url}/")) for _ in range(2)]
            assert await asyncio.gather(*calls) == [("upstream_unreachable", "no")] * 2
            assert [peer.unread(of=each) for each in range(2)] == [b"", b""]


@pytest.mark.both_loops
async def test_who_gives_up_in_the_turn_of_the_answer_takes_nothing_from_who_asks_next(monkeypatch):
    """The connection is another's by then: cut off, that one would wait for ever."""
    go = asyncio.get_running_loop().create_future()
    updated = Line.buffer_updated

    def between(line, nbytes):
        if not go.done():
            go.set_result(None)
            updated(line, nbytes)
            first.cancel()
        else:
            updated(line, nbytes)

    async def after():
        await go
        return await sender.fetch("POST", f"{peer.url}/", body=b"next")

    monkeypatch.setattr(Line, "buffer_updated", between)
    async with opened("wire") as sender, RawPeer(lambda request: ok(request.body)) as peer:
        first = asyncio.create_task(sender.fetch("POST", f"{peer.url}/", body=b"first"))
        following = asyncio.create_task(after())
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await asyncio.wait_for(following, 1) == (200, b"next")
        assert [request.body for request in peer.requests] == [b"first", b"next"]
        assert peer.connections == 1


@pytest.mark.both_loops
async def test_of_a_long_body_that_was_begun_nobody_says_that_nothing_was_sent(monkeypatch, wires, caplog):
    """The peer has the head, and the end comes while the rest is being written."""
    with by_hand(wires.server) as peer:
        async with opened("wire", tls=wires.client) as sender:
            await warm(sender, peer)
            pump = Line._pump

            def cut_off(line):
                if line._unsent:
                    assert peer.unread() != b""
                    peer.rst()
                    wait_until_it_is_here(line.transport.get_extra_info("socket").fileno())
                pump(line)

            monkeypatch.setattr(Line, "_pump", cut_off)
            with pytest.raises(ProxyError) as raised:
                await sender.fetch("POST", f"{peer.url}/", body=b"x" * 2**22)
            assert (raised.value.code, raised.value.sent) == ("upstream_protocol", "maybe")
            assert sender.attempt.sent == "maybe"
            assert not caplog.records  # nothing is written to what is gone


async def test_what_is_closed_in_the_turn_of_asking_is_not_written():
    with by_hand() as peer:
        async with opened("wire") as sender:
            await warm(sender, peer)
            call = asyncio.create_task(refusal(sender, "POST", f"{peer.url}/"))
            await asyncio.sleep(0)  # asked by now
            await sender.transport.close()
            assert await call == ("upstream_unreachable", "no")
            assert peer.unread() == b""


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_an_end_that_the_loop_has_not_come_to_read_yet(opening, wires, end):
    """The first connection is found dead before a byte is written, the request goes over the second."""
    with by_hand(wires.server) as peer:
        async with opening(tls=wires.client) as sender:
            await warm(sender, peer)
            fileno = sender.idle_socket().fileno()
            getattr(peer, end)()
            wait_until_it_is_here(fileno)
            assert not await trusts(sender, peer)
            assert peer.connections == 3


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_fresh_connection_that_ended_before_the_request_is_not_written_to(opening, monkeypatch, wires, end):
    with by_hand(wires.server) as peer:

        async def end_it(fileno):
            await accepted
            getattr(peer, end)()
            wait_until_it_is_here(fileno)

        at_once(monkeypatch, opening, end_it)
        async with opening(tls=wires.client) as sender:
            accepted = asyncio.create_task(peer.accept())
            assert await refusal(sender, "POST", f"{peer.url}/") == ("upstream_unreachable", "no")


async def test_a_fresh_connection_on_which_the_provider_speaks_first_is_not_written_to(opening, monkeypatch):
    """Its words would be taken for the answer. Below TLS they cannot be told from session tickets."""
    with by_hand() as peer:

        async def speak(fileno):
            await accepted
            peer.say(ok(b"forged"))
            wait_until_it_is_here(fileno)

        at_once(monkeypatch, opening, speak)
        async with opening() as sender:
            accepted = asyncio.create_task(peer.accept())
            assert await refusal(sender, "POST", f"{peer.url}/") == ("upstream_unreachable", "no")


@pytest.mark.both_loops
async def test_what_lies_unread_on_a_fresh_connection_below_tls_does_not_end_it(monkeypatch, authority):
    """There it is session tickets, as a rule: a loop that has not come to read them yet has lost nothing."""
    opening, wires, look = partial(opened, "wire"), Encrypted(authority), Line.is_silent

    def tickets(line):
        monkeypatch.setattr(line, "_look", lambda _: [(0, select.POLLIN)])
        return look(line)

    with by_hand(wires.server) as peer:
        async with opening(tls=wires.client) as sender:
            monkeypatch.setattr(Line, "is_silent", tickets)
            call = asyncio.create_task(sender.fetch("POST", f"{peer.url}/"))
            await peer.accept()
            await peer.answer(OWN)
            assert await call == (200, b"own")


async def used(sender, peer):
    """Which connections of the peer a request goes over."""
    await sender.fetch("POST", f"{peer.url}/")
    return peer.requests[-1].connection


async def test_the_connection_that_was_idle_least_is_used_first(sender):
    """The others grow old and are closed by us, not by the provider."""
    gates = [asyncio.Event() for _ in range(3)]
    script = iter(gates)
    async with RawPeer(lambda request: [next(script), OWN] if request.target == b"/held" else OWN) as peer:
        held = [asyncio.create_task(sender.fetch("GET", f"{peer.url}/held")) for _ in gates]
        await peer.until(lambda peer: len(peer.requests) == 3)
        for number in (1, 2, 0):
            gates[number].set()
            await asyncio.sleep(0.02)
        await asyncio.gather(*held)
        last = peer.requests[0].connection
        assert [await used(sender, peer) for _ in range(4)] == [last] * 4


@pytest.mark.parametrize("ending", [CLOSE, RESET])
async def test_a_provider_that_ends_connections_after_every_answer_loses_one_request_at_most(sender, ending):
    """It does not announce it. From then on nothing is written into a connection that is about to end."""
    async with RawPeer(lambda request: [OWN, 0.003, ending]) as peer:
        errors = []
        for number in range(30):
            try:
                await sender.fetch("POST", f"{peer.url}/{number}")
            except ProxyError as error:
                errors.append((error.code, error.sent))
        assert errors in ([], [("upstream_protocol", "maybe")])
        assert len({request.target for request in peer.requests}) == len(peer.requests) >= 29


async def test_words_on_an_idle_connection_end_the_trust_in_the_others(sender):
    release = asyncio.Event()
    async with RawPeer(lambda request: [release, OWN]) as peer:
        calls = [asyncio.create_task(sender.fetch("GET", f"{peer.url}/")) for _ in range(2)]
        await peer.until(lambda peer: len(peer.requests) == 2)
        release.set()
        await asyncio.gather(*calls)
        peer.writers[0].write(ok(b"forged"))
        await peer.until(lambda peer: peer.hangups == 1)
        assert await used(sender, peer) == 2
        await peer.until(lambda peer: peer.hangups == 2)


async def test_an_answer_that_breaks_off_says_nothing_of_idle_connections(sender):
    script = iter([OWN, [OWN[:-1], 0.005, CLOSE], OWN, OWN])
    async with RawPeer(lambda request: next(script)) as peer:
        await sender.fetch("POST", f"{peer.url}/")
        assert await refusal(sender, "POST", f"{peer.url}/") == ("upstream_protocol", "maybe")
        assert [await used(sender, peer) for _ in range(2)] == [1, 1]


async def test_origins_are_trusted_each_for_itself(sender):
    async with RawPeer(lambda request: [OWN, 0.01, CLOSE]) as rude, RawPeer(lambda request: OWN) as peer:
        await sender.fetch("GET", f"{rude.url}/")
        await sender.fetch("GET", f"{peer.url}/")
        await asyncio.sleep(0.03)
        assert await used(sender, peer) == 0


@pytest.mark.parametrize(("header", "connections"), [("timeout=1", 2), ("timeout=1, max=9", 2), ("timeout=60", 1)])
async def test_a_keep_alive_header_is_believed(sender, header, connections):
    async with RawPeer(lambda request: ok(b"own", f"Keep-Alive: {header}")) as peer:
        await sender.fetch("GET", f"{peer.url}/")
        await sender.fetch("GET", f"{peer.url}/")
        assert peer.connections == connections


async def test_nothing_is_kept_when_keeping_is_off(opening):
    async with opening(keep=0) as sender, RawPeer(lambda request: OWN) as peer:
        for number in range(3):
            assert await used(sender, peer) == number
        await peer.until(lambda peer: peer.hangups == 3)


async def test_what_we_close_ourselves_says_nothing_of_the_provider(opening):
    """Not an answer given up, a call cancelled, or an idle time that is over."""
    script = iter([OWN[:-1], OWN, OWN, OWN])
    async with opening(keep=0.7) as sender, RawPeer(lambda request: next(script)) as peer:
        reply = await sender.send("GET", f"{peer.url}/")
        await reply.close()
        await sender.fetch("GET", f"{peer.url}/")
        await peer.until(lambda peer: peer.hangups == 2)
        connection = await used(sender, peer)
        assert await used(sender, peer) == connection
