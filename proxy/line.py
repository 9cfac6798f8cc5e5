"""What supervisor and worker say to each other, over a socket pair: a word, and for some words a text behind it.

The supervisor says `numbers`, `stop`, `hurry` and `ask [ID, WORD, VALUE]`; the worker says `ready`, `numbers JSON` and
`answer [ID, VALUE]`. Whoever is gone is heard to be: the line ends.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

_LONGEST: Final = 64 << 20
"""Bytes of a line: the numbers of some ten thousand routes."""


class Line:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> "Line":
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=_LONGEST))

    def say(self, word: str, text: str = "") -> None:
        """Nothing comes of it if nobody is there any more."""
        if not self._writer.is_closing():
            self._writer.write(f"{word} {text}\n".encode())

    async def heard(self) -> AsyncIterator[tuple[str, str]]:
        """Each word with its text, until the other end is gone."""
        with suppress(ConnectionError):
            while (line := await self._reader.readline()).endswith(b"\n"):
                word, _, text = line.decode().removesuffix("\n").partition(" ")
                yield word, text

    async def close(self) -> None:
        """What was said is delivered first."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
