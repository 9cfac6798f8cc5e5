"""A worker as its supervisor sees it: whether it lives, what it told last, and when it is to be started again."""

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from socket import socket
from typing import Any, Final

from proxy.line import Line
from proxy.telemetry.merge import from_json, lasting, merge
from proxy.telemetry.metrics import Numbers

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
STEADY: Final = 30.0
"""Seconds of life after which a crash counts as the first one again."""
_DEAD: Final = 1.0
"""Seconds from the end of its line to the end of a worker; after that it is killed."""


class Member:
    """The worker of one number, over all its lives. `changed` is called when it became ready or ended."""

    def __init__(self, number: int, changed: Callable[[], None]) -> None:
        self.number = number
        self.pid: int | None = None
        self.ready = False
        self.due = 0.0
        """When to start it, on the monotonic clock."""
        self.false_starts = 0
        """Lives in a row that ended before it was ready."""
        self.exit_code = 0
        self.lived = 0.0
        self._changed = changed
        self._born = 0.0
        self._pause = 0.0
        self._line: Line | None = None
        self._told: Numbers = {}
        self._lasting: Numbers = {}
        self._answer: asyncio.Future[None] | None = None
        self._questions: dict[int, asyncio.Future[list[Any]]] = {}
        self._count = itertools.count()

    @property
    def numbers(self) -> Numbers:
        """What it told last, and what remains of its earlier lives."""
        return merge([self._lasting, self._told])

    async def begin(self, pid: int, sock: socket) -> None:
        self.pid, self._born = pid, time.monotonic()
        self._line = await Line.over(sock)

    async def live(self) -> None:
        """Follow a life that has begun to its end."""
        pid, line = self.pid, self._line
        if pid is None or line is None:
            raise RuntimeError("a life that has not begun")
        async for word, text in line.heard():
            self._hear(word, text)
        self.exit_code = await _ended(pid)
        await line.close()
        self._bury()

    def fail(self) -> None:
        """It could not even be forked."""
        self._born = time.monotonic()
        self._bury()

    def say(self, word: str, text: str = "") -> None:
        if self._line is not None:
            self._line.say(word, text)

    async def ask(self) -> None:
        """Returns when it has told its numbers, or has ended."""
        if not self.ready:
            return
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            self.say("numbers")
        await asyncio.shield(self._answer)

    async def inquire(self, word: str, value: Any) -> list[Any]:
        """What it answers; nothing if it is not ready, or ends before."""
        if not self.ready:
            return []
        number, answer = next(self._count), asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        self.say("ask", json.dumps([number, word, value]))
        try:
            return list(await answer)
        finally:
            self._questions.pop(number, None)

    def _hear(self, word: str, text: str) -> None:
        if word == "ready":
            self.ready = True
            self._changed()
            return
        if word == "answer":
            number, value = json.loads(text)
            self._settle(number, [value])
            return
        self._told = from_json(text)
        self._answered()

    def _settle(self, number: int, answers: list[Any]) -> None:
        question = self._questions.get(number)
        if question and not question.done():
            question.set_result(answers)

    def _answered(self) -> None:
        if self._answer is not None:
            self._answer.set_result(None)
            self._answer = None

    def _bury(self) -> None:
        now = time.monotonic()
        self.lived = now - self._born
        self.false_starts = 0 if self.ready else self.false_starts + 1
        self._pause = pause(self.lived, self._pause)
        self.due = now + self._pause
        self._lasting, self._told = lasting(self.numbers), {}
        self.pid, self.ready, self._line = None, False, None
        self._answered()
        for number in tuple(self._questions):
            self._settle(number, [])
        self._changed()


def pause(lived: float, before: float) -> float:
    """Seconds until a worker that lived for so long is started again; `before`: that of the last time, 0 for none."""
    return FIRST_PAUSE if lived >= STEADY or not before else min(2 * before, LONGEST_PAUSE)


async def _ended(pid: int) -> int:
    """The exit code of a process whose line has ended; negative: the signal."""
    patience = time.monotonic() + _DEAD
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 -- it does not wait
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > patience:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.005)
