"""A log that nobody reads any more: requests go on, and the process still ends."""

import asyncio
import json
import os
import signal
import sys

import pytest
from processes import configuration, hung_up
from rawpeer import RawPeer, ok

from proxy.commands import fresh

ENOUGH = 1500
"""Requests; their lines are several times what a pipe holds."""


@pytest.mark.parametrize("workers", [1, 2])
async def test_requests_are_served_though_nobody_reads_the_log(workers, tmp_path):
    file = tmp_path / "paraf.yaml"
    async with RawPeer(lambda request: ok(b"{}")) as peer:
        file.write_text(fresh.text({**configuration(peer.url), "workers": workers}))
        reading, writing = os.pipe()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", "-c", str(file), "--allow-inline-secrets", stderr=writing,
            env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)}, start_new_session=True,
        )  # fmt: skip
        try:
            os.close(writing)
            address = await asyncio.to_thread(address_of, reading)
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(ENOUGH):
                writer.write(b"POST /pay/v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                assert head.startswith(b"HTTP/1.1 200")
                await reader.readexactly(2)
            await hung_up(writer)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 40) == 0
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            os.close(reading)


def address_of(reading):
    """The last that is ever read of the log."""
    said = b""
    while b'"event": "ready"' not in said or not said.endswith(b"\n"):
        said += os.read(reading, 4096)
    (ready,) = [line for line in map(json.loads, said.splitlines()) if line["event"] == "ready"]
    return ready["listen"][0].rsplit(":", 1)
