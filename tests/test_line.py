import asyncio
import socket

from proxy.line import Line


async def pair():
    return [await Line.over(sock) for sock in socket.socketpair()]


async def all_of(line):
    return [said async for said in line.heard()]


async def test_words_and_texts_arrive_in_order_and_before_the_end():
    one, two = await pair()
    long = '{"a": "' + "x" * 1_000_000 + '"}'
    one.say("ready")
    one.say("numbers", long)
    heard = asyncio.create_task(all_of(two))
    await one.close()
    assert await asyncio.wait_for(heard, 5) == [("ready", ""), ("numbers", long)]
    await two.close()


async def test_what_is_said_to_nobody_is_lost_without_a_fault():
    one, two = await pair()
    await two.close()
    assert await asyncio.wait_for(all_of(one), 5) == []
    one.say("stop")
    await one.close()
    one.say("hurry")


async def test_half_a_line_is_none():
    ours, theirs = socket.socketpair()
    line = await Line.over(ours)
    theirs.sendall(b"ready \nnumb")
    theirs.close()
    assert await asyncio.wait_for(all_of(line), 5) == [("ready", "")]
    await line.close()
