"""Callers taken out of the queue of a listening socket, which other workers may be taking from too."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from proxy.inbound.turns import Seat

_COURTESY: Final = 0.001
"""Seconds that a caller is left to another worker whose turn it is."""
_SHARE: Final = 8
"""Callers taken at once if that one did not come: it may be busy, or stopped."""
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
        listener.setblocking(False)
        self._watch()

    def stop(self) -> None:
        """Take no more, and close the socket."""
        if self._listener.fileno() < 0:
            return
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
        self._listener.close()

    def _watch(self) -> None:
        self._loop.add_reader(self._listener, self._someone_waits)

    def _someone_waits(self) -> None:
        if self._seat.others_first():
            self._rest(_COURTESY)
        else:
            self._take()

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._watch()
        for _ in range(_SHARE):
            if not self._take():
                break

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
