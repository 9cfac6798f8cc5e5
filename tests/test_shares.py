"""Limits are for all workers together: never more in sum, and what cannot be shared is said before anybody serves."""

import asyncio
import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import Callers, ask, configuration, serving
from rawpeer import RawPeer, ok

from proxy.errors import ConfigError
from proxy.generation import build
from proxy.settings import Limits, read_settings
from proxy.shares import limits_of, share, unshared
from proxy.standing import part_of

ROUTE = "{provider: doku-nonsnap, environment: sandbox, credentials: {client_id: a, client_secret: {env: S}}"


def settings(line="", limits="{}"):
    text = f"version: 1\n{line}\nroutes:\n  doku: {ROUTE}, limits: {limits}}}\n"
    return read_settings(text, "paraf.yaml", environ={})[0]


def found(line, limits="{}"):
    return [(str(each), each.severity) for each in unshared(settings(line, limits))]


@given(whole=st.integers(0, 2000), workers=st.integers(1, 64))
def test_shares_sum_to_what_is_written_and_are_as_even_as_can_be(whole, workers):
    shares = [share(whole, number, workers) for number in range(workers)]
    assert sum(shares) == whole
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("workers", "limits", "parts"),
    [
        (1, Limits(), [(256, 1024)]),
        (2, Limits(), [(128, 512)] * 2),
        (3, Limits(concurrency=8, queue=10), [(3, 4), (3, 3), (2, 3)]),
        (2, Limits(concurrency=2, queue=1), [(1, 1), (1, 0)]),
        (2, Limits(concurrency=math.inf, queue=0), [(math.inf, 0)] * 2),
    ],
)
def test_limits_are_shared_out(workers, limits, parts):
    made = [limits_of(limits, number, workers) for number in range(workers)]
    assert [(each.concurrency, each.queue) for each in made] == parts
    assert {each.body for each in made} == {1 << 20}  # of each request


def test_a_worker_serves_its_part(tmp_path):
    made = build(settings("workers: 3", "{concurrency: 8}"), environ={"S": "s3cret"}, folder=tmp_path)
    parts = [part_of(made, number, 3).lanes["doku"] for number in range(3)]
    assert [lane.gate.free for lane in parts] == [lane.route.limits.concurrency for lane in parts] == [3, 3, 2]
    assert made.lanes["doku"].gate.free == 8


@pytest.mark.parametrize(
    ("line", "body", "room"),
    [
        ("workers: 1", "1MiB", 64),
        ("workers: 1", "32MiB", 128),
        ("workers: 8", "1MiB", 64),
        ("workers: 8", "16MiB", 128),
        ("workers: 64", "2MiB", 128),
        ("bodies: 10MiB", "1MiB", 10),
        ("workers: 2\nbodies: 10MiB", "1MiB", 10),
    ],
)
def test_room_for_bodies_is_what_is_written_or_else_enough_for_one_of_the_largest_in_each_worker(line, body, room):
    made = settings(line, f"{{body: {body}}}")
    assert made.room == room << 20
    assert list(unshared(made)) == []


def test_the_default_room_follows_the_workers_of_the_command_line():
    made = replace(settings("workers: 1", "{body: 16MiB}"), workers=8)
    assert made.room == 128 << 20
    assert list(unshared(made)) == []


def test_fewer_at_once_than_workers_cannot_be_shared():
    words = "is less than one for each of 8 workers: write 8 or more, or have fewer workers"
    place = "paraf.yaml:4:132: routes.doku.limits.concurrency"
    assert found("workers: 8", "{concurrency: 4}") == [(f"{place}: {words}", "error")]
    assert found("workers: 4", "{concurrency: 4, queue: 1}") == []
    assert found("workers: 64", "{concurrency: off}") == []


def test_nothing_is_built_of_limits_that_cannot_be_kept(tmp_path):
    with pytest.raises(ConfigError, match=r"limits\.concurrency: is less than one for each of 8 workers"):
        build(settings("workers: 8", "{concurrency: 4}"), environ={"S": "s3cret"}, folder=tmp_path)


def test_bodies_that_a_worker_cannot_hold_one_of_cannot_be_shared():
    words = "has no room for the largest `limits.body` in each of 8 workers: write 64MiB or more, or have fewer workers"
    assert found("workers: 8\nbodies: 16MiB", "{body: 8MiB}") == [(f"paraf.yaml:3:9: bodies: {words}", "error")]
    assert found("workers: 2\nbodies: 16MiB", "{body: 8MiB}") == []
    assert found("workers: 64\nbodies: 64GiB", "{body: 1GiB}") == []
    ((said, _),) = found("workers: 3\nbodies: 2B", "{body: 1B}")
    assert "write 3B or more" in said


def test_a_body_over_the_room_of_all_is_said_once():
    ((said, _),) = found("workers: 2\nbodies: 1MiB", "{body: 8MiB}")
    assert "routes.doku.limits.body: is more than `bodies`" in said


def limited(upstream, **more):
    made = configuration(upstream, **more)
    made["routes"]["pay"]["limits"] = {"concurrency": 3, "queue": 1, "body": "64KiB"}
    made["routes"]["pay"]["timeouts"] = {"total": "20s"}
    return made


async def test_workers_on_the_command_line_get_the_finding_too(tmp_path):
    async with serving(tmp_path, limited("http://127.0.0.1:9"), "--workers", "4") as paraf:
        assert await paraf.ended() == 78
        (said,) = paraf.other
        assert "routes.pay.limits.concurrency: is less than one for each of 4 workers: write 4" in said


async def test_all_workers_together_keep_the_limits_after_a_reload_as_before(tmp_path):
    release = asyncio.Event()
    async with (
        RawPeer(lambda _request: [release, ok(b"{}")]) as peer,
        serving(tmp_path, limited(peer.url, control="127.0.0.1:0"), "--workers", "2") as paraf,
    ):
        for rounds in (1, 2):
            async with Callers(paraf.address) as callers:
                asked = [asyncio.create_task(ask(*await callers.connect())) for _ in range(24)]
                for number, done in enumerate(asyncio.as_completed(asked), 1):
                    assert (await done)[0] == (503 if number <= 20 else 200)
                    if number == 20:  # three are at the provider, and one is in line
                        assert len(peer.requests) == 3 + 4 * (rounds - 1)
                        release.set()
            assert len(peer.requests) == 4 * rounds
            release.clear()
            if rounds == 1:
                file = tmp_path / "paraf.yaml"
                file.write_text(file.read_text().replace("20s", "21s"))
                await reloaded(paraf)


async def reloaded(paraf):
    reader, writer = await asyncio.open_connection(*paraf.ready["control"].rsplit(":", 1))
    writer.write(b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_all_workers_together_hold_no_more_than_the_bodies_that_are_written(tmp_path):
    """Announced, all but a byte of each: what has no room is refused before it is read."""
    body = 64 << 10
    async with (
        serving(tmp_path, limited("http://127.0.0.1:9", bodies="192KiB"), "--workers", "2") as paraf,
        Callers(paraf.address) as callers,
    ):
        pairs = [await callers.connect() for _ in range(16)]
        answers = await asyncio.gather(*(held(*pair, body) for pair in pairs))
        # 96 KiB a worker: one in each, and not a second
        assert Counter(answers) == {"held": 2, "503": 14}


async def held(reader, writer, size):
    writer.write(f"POST /pay/v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
    writer.write(bytes(size - 1))
    try:
        async with asyncio.timeout(2):
            return (await reader.readuntil(b"\r\n")).split()[1].decode()
    except TimeoutError:
        return "held"
