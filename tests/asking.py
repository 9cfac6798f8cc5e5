"""One plain request to a running proxy: `answer = await ask(running)`; `code(answer)` is Paraf's own error, or None."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rawpeer import Answer, RawCaller
from running import Running

ROUTE = "doku-nonsnap"
"""A route without a token: what arrives is what was sent."""


def request(method: str = "POST", target: str = "/pay", body: bytes = b"{}") -> bytes:
    return (
        f"{method} /{ROUTE}{target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


async def ask(
    running: Running, method: str = "POST", target: str = "/pay", body: bytes = b"{}", deadline: float = 20
) -> Answer:
    async with RawCaller("127.0.0.1", running.port, deadline) as caller:
        caller.send(request(method, target, body))
        return await caller.answer(to_head=method == "HEAD")


@asynccontextmanager
async def asking(running: Running, target: str = "/pay") -> AsyncIterator[RawCaller]:
    """A caller who has asked and does not read until told to, and who leaves at the end."""
    async with RawCaller("127.0.0.1", running.port) as caller:
        caller.writer.transport.pause_reading()
        caller.send(request(target=target))
        yield caller


def code(answer: Answer) -> tuple[str, str] | None:
    """Paraf's own error and its `sent`; None for the provider's answers."""
    if not answer.values("X-Paraf-Error"):
        return None
    return answer.value("X-Paraf-Error"), json.loads(answer.body)["sent"]
