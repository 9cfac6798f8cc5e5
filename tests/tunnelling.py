"""A proxy that intercepts, with an authority of its own, and what a program needs to trust it."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rawpeer import Answer, RawCaller
from running import ANY, Running, of, proxy, routes

from proxy.authority import MadeAuthority, make_authority, utc_now

HOST = "api.provider.example"
OTHER = "other.provider.example"


@cache
def authority(*hosts: str) -> MadeAuthority:
    return make_authority(hosts or (HOST,), utc_now())


def on_disk(made: MadeAuthority, folder: Path) -> dict[str, str]:
    """As `ca` names it."""
    (folder / "chain.pem").write_text(made.chain)
    (folder / "root.pem").write_text(made.root)
    descriptor = os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(made.key.reveal())
    return {"cert": str(folder / "chain.pem"), "key": str(folder / "key.pem")}


def trusting(root: str, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root)
    context.set_alpn_protocols(protocols or ["http/1.1"])
    return context


@dataclass
class Intercepting:
    running: Running
    made: MadeAuthority
    folder: Path

    @property
    def tls(self) -> ssl.SSLContext:
        return trusting(self.made.root)

    def caller(self, deadline: float = 10) -> RawCaller:
        return RawCaller("127.0.0.1", self.running.port, deadline)

    async def ask(self, request: bytes, tls: ssl.SSLContext | None = None, host: str | None = None) -> Answer:
        """One request in a tunnel of its own. `host`: what TLS asks for, if it is another."""
        async with self.caller() as caller:
            opened = await caller.tunnel(f"{HOST}:443", tls or self.tls, host)
            assert opened.status == 200
            caller.send(request)
            return await caller.answer()

    def remarks(self) -> list[dict[str, Any]]:
        return [line for line in self.running.lines if line["event"] == "interception"]

    async def remarked(self, count: int = 1) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            while len(found := self.remarks()) < count:  # noqa: ASYNC110 -- a log tells nobody
                await asyncio.sleep(0.01)
        return found


def configuration(upstream: str, ca: dict[str, str], listen: str = ANY, **each: Any) -> dict[str, Any]:
    """One route without a token, found by HOST."""
    configured = routes(of("doku-nonsnap"), upstream, **{"hosts": [HOST], "intercept": True, **each})
    configured["routes"]["doku-nonsnap"]["upstream"] = upstream
    return configured | {"ca": ca, "listen": listen}


@asynccontextmanager
async def intercepting(upstream: str, folder: Path, *, listen: str = ANY, **each: Any) -> AsyncIterator[Intercepting]:
    made = authority(HOST)
    configured = configuration(upstream, on_disk(made, folder), listen, **each)
    async with proxy(configured) as running:
        yield Intercepting(running, made, folder)


def post(target: str = "/pay", body: bytes = b'{"a": 1}', host: str = HOST, *lines: str) -> bytes:
    head = (f"POST {target} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *lines)
    return "\r\n".join((*head, f"Content-Length: {len(body)}", "", "")).encode() + body
