"""One request and how far its answer is: all that aiohttp's connection handling needs in place of its own objects."""

import asyncio
from typing import Any

from aiohttp import HttpVersion11
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from proxy.inbound.connection import CallerConnection
from proxy.telemetry.story import Story


class Call:
    """One request whose head is whole, and how far its answer is. Made by aiohttp as its `request_factory`.

    `_task`, `_finish` and `_cancel` are what its RequestHandler uses of a request.
    """

    __slots__ = (
        "_running",
        "_task",
        "begun",
        "connection",
        "held",
        "keeps",
        "left",
        "message",
        "passed_on",
        "payload",
        "story",
    )

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: CallerConnection,
        _writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> None:
        self.message = message
        self.payload = payload
        self.connection = connection
        self.story: Story | None = None
        self.begun = False
        self.left = False
        self.keeps = False
        self.held = 0
        """Bytes of its body that were taken of `Bodies`."""
        self.passed_on = False
        """Its connection is a tunnel now: the requests inside are told, this one is not."""
        self._task = task
        self._running: asyncio.Task[Any] | None = None

    def start(self, story: Story) -> None:
        self.story = story
        self._running = asyncio.current_task()

    @property
    def may_keep(self) -> bool:
        """Can another request follow? Not behind an unread body, nor behind an upgrade that was ignored.

        In the latter case aiohttp 3.14.5 drops what came in the same read (measured).
        """
        message = self.message
        return (
            message.version == HttpVersion11
            and not message.should_close
            and not message.upgrade
            and self.payload.is_eof()
            and self.payload.exception() is None
            and not self.connection.retiring
        )

    def begin(self, status: int, data: bytes, *, keeps: bool) -> None:
        """Write the head of the final answer. Raises CallerLeft."""
        self.connection.write(data)
        self.begun = True
        self.keeps = keeps
        if self.story is not None:
            self.story.status = status

    def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()

    def _finish(self) -> None:
        """Nothing is kept that would have to be let go."""

    def _cancel(self, _reason: BaseException) -> None:
        """The connection is gone. Before the first byte to the provider all stops; after it the outcome is awaited.

        What is only being relayed has its outcome.
        """
        self.left = True
        if self.begun or self.story is None or self.story.sent == "no":
            self.stop()


class Written:
    """An answer that aiohttp has nothing to do for any more."""

    __slots__ = ("keep_alive",)

    def __init__(self, call: Call) -> None:
        self.keep_alive = call.keeps and not call.connection.retiring

    async def prepare(self, _request: object) -> None: ...

    async def write_eof(self) -> None: ...
