"""Callers taken out of the queue of a listening socket, which other workers may be taking from too."""

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Final

from proxy.inbound.turns import Seat

_COURTESY: Final = 0.001
"""Seconds that a caller is left to the worker whose turn it is, for each connection that this one is ahead of it."""
_FARTHEST: Final = 10
_PATIENCE: Final = 0.25
"""Seconds that callers wait for the worker whose turn it is, after which this one takes what is there: the other is
busy, or stopped."""
_MANY: Final = 32
"""Callers taken at once then."""
_QUEUE: Final = 4096
"""Callers taken at once when Paraf ends: more than a queue holds, so that one which is filled meanwhile ends too."""
_SHORTAGE: Final = 1.0
"""Seconds of rest when the system has no file or memory for one more caller, as asyncio does it."""


class Accepting:
    """Accepts from now until `stop`. `connect` makes the protocol of a connection.

    asyncio's own server takes up to its backlog at once: of 200 callers that came together, one of two workers got
    all (measured).
    """

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[], asyncio.Protocol],
        seat: Seat,
        complain: Callable[[BaseException], None],
    ) -> None:
        self._listener = listener
        self._connect = connect
        self._seat = seat
        self._complain = complain
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._alone_since: float | None = None
        self._awaited = seat.awaited()
        listener.setblocking(False)
        self._queue = select.poll()
        self._queue.register(listener, select.POLLIN)
        self._watch()

    async def stop(self) -> None:
        """Take whoever is in the queue, whosever turn it is, and then no more; close the socket.

        Returns when who was taken has a connection.
        """
        if self._listener.fileno() < 0:
            return
        self._loop.remove_reader(self._listener)
        self._take_up_to(_QUEUE)
        self._wake_no_more()
        self._listener.close()
        await asyncio.gather(*self._connecting)

    def _watch(self) -> None:
        self._loop.add_reader(self._listener, self._someone_waits)

    def _someone_waits(self) -> None:
        if lead := self._seat.lead():
            self._rest(min(lead, _FARTHEST) * _COURTESY)
        else:
            self._alone_since = None
            self._take()

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._wake_no_more()
        self._pause = self._loop.call_later(seconds, self._resume)

    def _wake_no_more(self) -> None:
        if self._pause is not None:
            self._pause.cancel()

    def _resume(self) -> None:
        self._watch()
        now, before, self._awaited = self._loop.time(), self._awaited, self._seat.awaited()
        if not self._take() or self._awaited != before or not self._queue.poll(0):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > _PATIENCE:
            self._take_up_to(_MANY)

    def _take_up_to(self, most: int) -> None:
        for _ in range(most):
            if not self._take():
                return

    def _take(self) -> bool:
        """Was there somebody?"""
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as shortage:
            self._complain(shortage)
            self._rest(_SHORTAGE)
            return False
        self._seat.took()
        task = self._loop.create_task(self._begin(sock))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return True

    async def _begin(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connect, sock)
        except Exception as fault:  # noqa: BLE001 -- else asyncio logs it with a traceback, and a place stays taken
            self._complain(fault)
            self._seat.lost()
            sock.close()
