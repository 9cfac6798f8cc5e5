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
from proxy.telemetry.families import Numbers
from proxy.telemetry.merge import from_json, lasting, merge

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
STEADY: Final = 30.0
"""Seconds of life after which a crash counts as the first one again."""
SILENT: Final = 3
"""Pulses in a row that a worker leaves unanswered, 1.5 s each, until nobody counts on it or waits for it."""
HUNG: Final = 20
"""Pulses in a row, 30 s, until it is killed: a loop is never held for a hundredth of that.

Counted, not read from a clock: while the machine or the supervisor sleeps, nobody is asked and so nobody is silent.
"""
_UNKNOWN: Final = 1
"""The exit code of one of which nobody can tell."""
_DEAD: Final = 1.0
"""Seconds from the end of its line to the end of a worker; after that it is killed."""


class Member:
    """The worker of one number, over all its lives. `changed` is called when it became ready, fell silent or ended."""

    def __init__(self, number: int, changed: Callable[[], None]) -> None:
        self.number = number
        self.pid: int | None = None
        self.unanswered = 0
        """Pulses in a row, up to now."""
        self.due = 0.0
        """When to start it, on the monotonic clock."""
        self.false_starts = 0
        """Lives in a row that ended before it was ready."""
        self.exit_code = 0
        self.lived = 0.0
        self._changed = changed
        self._is_up = False
        self._born = 0.0
        self._pause = 0.0
        self._line: Line | None = None
        self._told: Numbers = {}
        self._lasting: Numbers = {}
        self._answer: asyncio.Future[None] | None = None
        self._questions: dict[int, asyncio.Future[list[Any]]] = {}
        self._count = itertools.count()

    @property
    def silent(self) -> bool:
        """Does it live, and tell nothing? It hears later what is said to it now, if it wakes."""
        return self.unanswered >= SILENT

    @property
    def starting(self) -> bool:
        """Does it live, and has yet to say that it is ready?"""
        return self.pid is not None and not self._is_up and not self.silent

    @property
    def ready(self) -> bool:
        """Has it said so, and does it answer still?"""
        return self._is_up and not self.silent

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
        """Returns when it has told its numbers, or has ended. One that begins tells them as soon as it can hear."""
        if self._line is None:
            return
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            self.say("numbers")
        await asyncio.shield(self._answer)

    def count_silence(self) -> None:
        """To be called after each pulse, when there was time to answer it."""
        if self._answer is not None:
            self.unanswered += 1
            if self.unanswered == SILENT:
                self._give_up()

    async def inquire(self, word: str, value: Any) -> list[Any]:
        """What it answers; nothing if it is not ready, or ends or falls silent before."""
        if not self._is_up:
            return []
        number, answer = next(self._count), asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        self.say("ask", json.dumps([number, word, value]))
        if self.silent:
            self._settle(number, [])
        try:
            return list(await answer)
        finally:
            self._questions.pop(number, None)

    def _hear(self, word: str, text: str) -> None:
        woke, self.unanswered = self.silent, 0
        if woke or word == "ready":
            self._changed()
        if word == "ready":
            self._is_up = True
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
        self.false_starts = 0 if self._is_up else self.false_starts + 1
        self._pause = pause(self.lived, self._pause)
        self.due = now + self._pause
        self._lasting, self._told = lasting(self.numbers), {}
        self.pid, self._is_up, self._line, self.unanswered = None, False, None, 0
        self._answered()
        self._give_up()

    def _give_up(self) -> None:
        """Nobody waits for an answer any more."""
        for number in self._questions:
            self._settle(number, [])
        self._changed()


def pause(lived: float, before: float) -> float:
    """Seconds until a worker that lived for so long is started again; `before`: that of the last time, 0 for none."""
    return FIRST_PAUSE if lived >= STEADY or not before else min(2 * before, LONGEST_PAUSE)


async def _ended(pid: int) -> int:
    """The exit code of a process whose line has ended; negative: the signal."""
    patience = time.monotonic() + _DEAD
    while True:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 -- it does not wait
        except ChildProcessError:  # somebody else has asked
            return _UNKNOWN
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > patience:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.005)
