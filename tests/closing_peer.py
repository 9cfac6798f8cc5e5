"""A provider in a process of its own that closes kept connections whenever it likes, and knows what arrived.

    python tests/closing_peer.py SEED YOUNGEST OLDEST [tidy]

YOUNGEST and OLDEST: between which ages, in seconds, it ends an idle connection. A tidy one ends a connection otherwise
only in the middle of an answer. It prints its port, serves until its standard input ends, and then prints what it saw
as one JSON object. What becomes of a request depends on its id (the end of its target) and the seed alone, so that two
runs meet the same faults; what becomes of the idle connection afterwards is a throw of dice each time.
"""

import asyncio
import json
import random
import socket
import struct
import sys
from collections import Counter
from typing import Any, Final

FAULTS: Final = {
    "whole": 92.0,  # the answer, and nothing else until the connection is idle
    "whole, FIN": 2.0,
    "whole, RST": 2.0,
    "silent FIN": 1.0,  # the request was read: nobody but the provider knows what became of it
    "silent RST": 1.0,
    "cut FIN": 1.0,
    "cut RST": 1.0,
}
"""What becomes of a request that arrived, by weight."""
TIDY: Final = {"whole": 96.0, "cut FIN": 2.0, "cut RST": 2.0}
ANSWERED: Final = frozenset({"whole", "whole, FIN", "whole, RST"})

IDLE: Final = {
    "stay": 30.0,
    "FIN": 25.0,
    "RST": 25.0,
    "408 FIN": 10.0,  # what HAProxy and Apache say when they end an idle connection
    "half": 5.0,  # ended in one direction, and still listening in the other
    "forged": 5.0,  # an answer that nobody asked for
}
"""What becomes of a connection that has been idle for a while, by weight."""


def chosen(dice: random.Random, weights: dict[str, float]) -> str:
    return dice.choices(tuple(weights), tuple(weights.values()))[0]


class Log:
    def __init__(self, seed: str, youngest: float, oldest: float, faults: dict[str, float]) -> None:
        self.seed = seed
        self.ages = youngest, oldest
        self.faults = faults
        self.dice = random.Random()
        self.arrived: Counter[str] = Counter()
        self.answered: set[str] = set()
        self.endings: Counter[str] = Counter()
        self.connections = 0

    def told(self) -> dict[str, Any]:
        return {
            "arrived": self.arrived,
            "answered": sorted(self.answered),
            "endings": self.endings,
            "connections": self.connections,
        }


class Conversation(asyncio.Protocol):
    def __init__(self, log: Log) -> None:
        self.log = log
        self.read = b""
        self.timer: asyncio.TimerHandle | None = None
        self.deaf = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.log.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.read += data
        while (request := self.next_request()) is not None:
            self.log.arrived[request] += 1
            self.answer(request)

    def next_request(self) -> str | None:
        """The id of a request that is here as a whole."""
        head, end, rest = self.read.partition(b"\r\n\r\n")
        if not end:
            return None
        line, *headers = head.decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
        length = int(fields.get("content-length", "0"))
        if len(rest) < length:
            return None
        self.read = rest[length:]
        return line.split(" ")[1].rpartition("/")[2]

    def answer(self, number: str) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.deaf or self.transport.is_closing():
            return
        fault = chosen(random.Random(f"{self.log.seed}/{number}"), self.log.faults)
        body = json.dumps({"id": number}).encode()
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        if fault in ANSWERED:
            self.transport.write(whole)
            self.log.answered.add(number)
        elif fault.startswith("cut"):
            self.transport.write(whole[:-4])
        if fault == "whole":
            age = self.log.dice.uniform(*self.log.ages)
            self.timer = asyncio.get_running_loop().call_later(age, self.end_idle)
        else:
            self.hang_up(fault[-3:])

    def end_idle(self) -> None:
        how = chosen(self.log.dice, IDLE)
        self.log.endings[how] += 1
        if how == "forged":
            self.transport.write(b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"id": "forged"}')
        elif how == "408 FIN":
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif how == "half":
            self.transport.write_eof()
            self.deaf = True
        if how[-3:] in ("FIN", "RST"):
            self.hang_up(how[-3:])

    def hang_up(self, how: str) -> None:
        if how == "RST":
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        else:
            self.transport.close()


async def serve(log: Log) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Conversation(log), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 -- a program's output
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps(log.told()), flush=True)  # noqa: T201 -- a program's output


if __name__ == "__main__":
    seed, youngest, oldest, *manners = sys.argv[1:]
    asyncio.run(serve(Log(seed, float(youngest), float(oldest), TIDY if manners == ["tidy"] else FAULTS)))
