"""How it ends for callers who are there: nobody loses a request that was sent in time."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from processes import Callers, ask, hung_up
from rawpeer import RawPeer, ok
from running import of, proxy, routes

from proxy.inbound.server import LAST_CALL

AT_LEISURE = 10
"""Seconds: far from `drain.timeout`, which is 25, and enough for a slow machine."""


@asynccontextmanager
async def stopping(script):
    """Yields callers, and what begins the stop and waits for its end."""
    async with RawPeer(script) as peer:
        configured = routes(of("doku-nonsnap"), peer.url, prefix="/pay")
        running = proxy(configured)
        async with Callers(("127.0.0.1", (await running.__aenter__()).port)) as callers:
            ended = asyncio.Event()

            async def stop():
                began = time.monotonic()
                await running.__aexit__(None, None, None)
                ended.set()
                return time.monotonic() - began

            yield callers, stop
            if not ended.is_set():
                await stop()


@pytest.mark.parametrize("used", [True, False])
async def test_a_connected_caller_may_send_once_more(used):
    async with stopping(lambda _request: ok(b"{}")) as (callers, stop):
        pair = await callers.connect()
        if used:
            assert (await ask(*pair))[:2] == (200, True)
        stopped = asyncio.create_task(stop())
        await asyncio.sleep(0.1)
        assert (await ask(*pair))[:2] == (200, False)
        assert await stopped < AT_LEISURE
        with pytest.raises(ConnectionRefusedError):
            await callers.connect()


async def test_an_idle_connection_is_closed_after_the_last_call():
    async with stopping(lambda _request: ok(b"{}")) as (callers, stop):
        reader, _ = await callers.connect()
        assert 0.4 < await stop() < AT_LEISURE
        assert await asyncio.wait_for(reader.read(), 1) == b""


async def test_with_nobody_there_it_ends_at_once():
    async with stopping(lambda _request: ok(b"{}")) as (callers, stop):
        pair = await callers.connect()
        assert (await ask(*pair, keep=False))[0] == 200
        await hung_up(pair[1])
        assert await stop() < LAST_CALL


async def test_what_is_under_way_is_waited_for():
    async with stopping(lambda _request: [0.8, ok(b"{}")]) as (callers, stop):
        pair = await callers.connect()
        asked = asyncio.create_task(ask(*pair))
        await asyncio.sleep(0.1)
        assert 0.6 < await stop() < AT_LEISURE
        assert (await asked)[:2] == (200, False)
