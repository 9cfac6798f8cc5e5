"""One POST with aiohttp, which looks at the variables of the environment when it is told to: `trust_env`."""

import asyncio
import sys

import aiohttp


async def call() -> None:
    async with (
        aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(20)) as session,
        session.post(sys.argv[1], json={"trxId": "aiohttp"}) as answer,
    ):
        print(answer.status, await answer.text())


asyncio.run(call())
