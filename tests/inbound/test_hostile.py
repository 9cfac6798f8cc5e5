"""Mutants of good requests: whatever comes, each answer is whole HTTP, is told once, and nothing is logged."""

import asyncio
import logging
import random

from rawpeer import NotHttp
from serving import House, get, post

from proxy.inbound.server import ServerLimits

SEEDS = (
    get("/a?b=c", "Authorization: Bearer s3cr3t"),
    post(b'{"a": 1}', "Content-Type: application/json"),
    get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\nX-T: y\r\n\r\n",
    get("/", "Content-Length: 3", "Expect: 100-continue", method="POST") + b"abc",
    get("http://a/b", "Connection: Upgrade", "Upgrade: h2c"),
    get("a:443", method="CONNECT") + b"\x16\x03\x01",
    get("/1") + post(b"x") + get("/3", "Connection: close"),
)
PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"\xff", b"0", b"\r\n\r\n", b";", b"Host: b\r\n"),
    *(b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
)


def mutant(chance):
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[start:start] = chance.choice(PIECES)
            case 1:
                del data[start : start + chance.randint(1, 6)]
            case 2:
                data[start : start + 1] = bytes([chance.randrange(256)])
            case _:
                data[start:start] = data[start : start + chance.randint(1, 40)]
    return bytes(data)


async def answers(house, payload, cut):
    """How many whole final answers these bytes get, sent in two pieces, until the server ends or waits for more."""
    count = 0
    async with house.caller(deadline=2) as caller:
        caller.send(payload[:cut])
        await asyncio.sleep(0.001)
        caller.send(payload[cut:])
        try:
            while True:
                answer = await caller.answer(to_head=payload.startswith(b"HEAD"))
                assert answer.whole
                assert answer.status in (100, 200, 400, 405, 408, 413, 431, 501)
                assert b"s3cr3t" not in answer.body
                count += answer.status != 100
        except ConnectionError:
            return count


async def test_mutants_get_whole_answers_and_leave_no_trace(caplog):
    caplog.set_level(logging.DEBUG)
    chance = random.Random(20)
    limits = ServerLimits(header_seconds=0.8, body_seconds=0.8, idle_seconds=0.8)
    async with House(limits=limits) as house:
        for _ in range(4):
            mutants = [mutant(chance) for _ in range(150)]
            counts = await asyncio.gather(*[answers(house, data, chance.randrange(len(data) + 1)) for data in mutants])
            assert sum(counts) > 50
        assert house.complaints == []
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
        assert (await house.ask(get())).status == 200


async def test_each_told_story_is_one_answer():
    chance = random.Random(21)
    limits = ServerLimits(header_seconds=0.8, body_seconds=0.8, idle_seconds=0.8)
    async with House(limits=limits) as house:
        for data in [mutant(chance) for _ in range(40)]:
            before = len(house.stories)
            try:
                count = await answers(house, data, len(data))
            except NotHttp as flaw:
                raise AssertionError(data) from flaw
            assert len(house.stories) - before == count, data
