import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from proxy.inbound import admin
from proxy.inbound.admin import AdminServer, State

pytestmark = pytest.mark.usefixtures("silence")


@dataclass
class Admin:
    port: int
    state: State = "ready"
    page: bytes = b"paraf_requests_total 0\n"
    broken: bool = False

    async def render(self) -> tuple[bytes, str]:
        if self.broken:
            raise ValueError("hunter2")
        return self.page, "text/plain; version=0.0.4; charset=utf-8"

    async def say(self, raw: bytes) -> bytes:
        """All that comes back until the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()

    async def ask(self, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        answer = await self.say(f"{method} {target} HTTP/1.1\r\nHost: any.test\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        return int(status.split()[1]), {k.lower(): v for k, v in (field.split(": ", 1) for field in fields)}, body


@asynccontextmanager
async def serving() -> AsyncIterator[Admin]:
    listener = socket.create_server(("127.0.0.1", 0))
    served = Admin(listener.getsockname()[1])
    server = AdminServer(served.render, lambda: served.state)
    await server.start(listener)
    yield served
    await server.stop()


@pytest.fixture
async def served() -> AsyncIterator[Admin]:
    async with serving() as served:
        yield served


@pytest.fixture
def silence(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever happens, nothing is logged or printed."""
    caplog.set_level(logging.DEBUG, "aiohttp")
    yield
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []
    assert "".join(capsys.readouterr()) == ""


async def test_metrics_as_rendered(served: Admin) -> None:
    status, headers, body = await served.ask("/metrics")
    assert (status, body) == (200, served.page)
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["server"] == "paraf"
    assert (await served.ask("/metrics?name[]=up"))[0] == 200


@pytest.mark.parametrize(
    ("state", "startup", "live", "ready"),
    [("starting", 503, 200, 503), ("ready", 200, 200, 200), ("stopping", 200, 200, 503)],
)
async def test_probes(served: Admin, state: State, startup: int, live: int, ready: int) -> None:
    served.state = state
    for path, expected in (("/startupz", startup), ("/livez", live), ("/readyz", ready)):
        status, headers, body = await served.ask(path)
        assert (status, body.decode()) == (expected, "ok\n" if expected == 200 else f"{state}\n")
        assert headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/metrics", "/startupz", "/livez", "/readyz"])
async def test_head_is_get_without_a_body(served: Admin, path: str) -> None:
    status, headers, body = await served.ask(path, "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize(
    "target", ["/", "/metricz", "/metrics/", "/%6detrics", "//metrics", "http://any.test/livez", "*"]
)
async def test_anything_else_is_not_found(served: Admin, target: str) -> None:
    status, headers, body = await served.ask(target, "OPTIONS" if target == "*" else "GET")
    assert (status, body) == (404, b"not found\n")
    assert headers["connection"] == "close"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_are_not_allowed(served: Admin, method: str) -> None:
    status, headers, body = await served.ask("/metrics", method)
    assert (status, body, headers["allow"]) == (405, b"method not allowed\n", "GET, HEAD")


HOSTILE = [
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: hunter2\x01\r\n\r\n",
    b"GET /hunter2\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"hunter2\r\n\r\n",
    b"HUNTER2 /metrics HTTP/1.1\r\nHost: hunter2\r\n\r\n",
    b"\x16\x03\x01hunter2\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nhunter2: " + b"x" * 9_000 + b"\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"".join(b"h%d: hunter2\r\n" % i for i in range(200)) + b"\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhunter2",
]


@pytest.mark.parametrize("raw", HOSTILE)
async def test_what_cannot_be_read_is_neither_repeated_nor_logged(served: Admin, raw: bytes) -> None:
    answer = await served.say(raw)
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.endswith(b"\r\n\r\nbad request\n")
    assert b"hunter2" not in answer
    assert (await served.ask("/livez"))[0] == 200


async def test_a_fault_of_ours_tells_nothing(served: Admin) -> None:
    served.broken = True
    status, _, body = await served.ask("/metrics")
    assert (status, body) == (500, b"internal\n")


async def test_the_body_of_a_request_is_not_waited_for(served: Admin) -> None:
    answer = await served.say(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_connection_serves_one_request(served: Admin) -> None:
    ask = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    assert (await served.say(ask + ask)).count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize("raw", [b"", b"GET /livez HTTP/1.1\r\nHo", b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_nobody_holds_a_connection(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "PATIENCE", 0.2)
    async with serving() as served:
        await holds_in_vain(served, raw)


async def holds_in_vain(served: Admin, raw: bytes) -> None:
    served.page = b"x" * 20_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
    writer.write(raw)
    await asyncio.sleep(0.3)  # reads nothing all the while
    assert (await served.ask("/livez"))[0] == 200
    got = 0
    try:
        while chunk := await asyncio.wait_for(reader.read(1 << 20), 5):
            got += len(chunk)
    except ConnectionError:
        pass
    assert got < len(served.page)
    writer.close()


async def test_stopping_with_a_connection_open() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = AdminServer(Admin(port).render, lambda: "ready")
    await server.start(listener)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0.05)
    await asyncio.wait_for(server.stop(), 5)
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
