"""What a process holds when nothing is under way."""

import asyncio
import re
from pathlib import Path

import pytest
from processes import Callers, configuration, measured, serving
from rawpeer import CLOSE, RawPeer

MB = 1_000_000
REQUEST = b"POST /pay/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


def resident(pid):
    """Millions of bytes."""
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) * 1024 / MB


@pytest.mark.parametrize("script", [[asyncio.Event()], [CLOSE]], ids=["silent", "closed"])
async def test_bodies_of_failed_calls_go_at_once(tmp_path, script):
    """`bodies` counts them as gone: what stayed in circles until a collection was ten times of it."""
    body = b'{"a": "' + b"x" * (8 * MB) + b'"}'
    async with RawPeer(lambda _request: script) as peer:
        made = configuration(peer.url)
        made["routes"]["pay"] |= {"timeouts": {"first_byte": "100ms"}, "limits": {"body": "9MiB"}, "circuit": "off"}
        async with serving(tmp_path, made) as paraf, Callers(paraf.address) as callers:
            sizes = []
            for _ in range(12):
                reader, writer = await callers.connect()
                writer.write(REQUEST % len(body) + body)
                assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 50")
                sizes.append(resident(paraf.process.pid))
            measured("MB after each:", [round(size) for size in sizes])
            assert max(sizes) - sizes[0] < 4 * 8
