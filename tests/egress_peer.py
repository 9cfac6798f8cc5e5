"""An egress proxy on raw sockets: takes CONNECT by hand and pipes bytes, or refuses by script."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Self


@dataclass
class EgressPeer:
    """`says` answers every CONNECT instead of a tunnel. `leads` goes there whatever is asked for."""

    says: bytes = b""
    leads: tuple[str, int] | None = None
    tls: ssl.SSLContext | None = None
    also: bytes = b""
    """Said right behind its 200."""
    heads: list[bytes] = field(default_factory=list)
    piped: bytearray = field(default_factory=bytearray)
    """What went to the provider through it, as it saw it."""
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def asked(self) -> list[bytes]:
        """The targets of every CONNECT."""
        return [head.split(b" ")[1] for head in self.heads]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.append(writer)
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            self.was_asked.set()
            if self.says:
                writer.write(self.says)
                await writer.drain()
                await reader.read()
                return
            host, _, port = self.asked[-1].decode().rpartition(":")
            there, back = await asyncio.open_connection(*(self.leads or (host.strip("[]"), int(port))))
            self._writers.append(back)
            writer.write(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n" + self.also)
            await asyncio.gather(self._pipe(reader, back, self.piped), self._pipe(there, writer))

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, copy: bytearray | None = None
    ) -> None:
        while data := await reader.read(65536):
            if copy is not None:
                copy += data
            writer.write(data)
            await writer.drain()
        writer.close()
