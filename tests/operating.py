"""An operator at the control listener: one request, its status, headers and JSON."""

import asyncio
import json
from typing import Any

Answered = tuple[int, dict[str, str], Any]


async def operate(address: str, method: str, target: str, *lines: str, host: str | None = "localhost") -> Answered:
    """`address` as the ready line has it: `127.0.0.1:1234` or `unix:/PATH`. `lines` are further header lines."""
    kind, _, rest = address.rpartition(":")
    unix = kind == "unix"
    connected = asyncio.open_unix_connection(rest) if unix else asyncio.open_connection(kind.strip("[]"), int(rest))
    reader, writer = await connected
    own = [f"Host: {host}"] if host is not None else []
    head = "\r\n".join((f"{method} {target} HTTP/1.1", *own, *lines))
    writer.write(f"{head}\r\n\r\n".encode())
    try:
        raw = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
    return answered(raw)


def answered(raw: bytes) -> Answered:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    told = json.loads(body) if body and "json" in headers["content-type"] else body.decode()
    return int(status.split()[1]), headers, told
