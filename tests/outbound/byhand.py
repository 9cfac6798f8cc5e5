"""A provider whose socket the test itself holds, to act in the middle of one step of the event loop."""

import asyncio
import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Iterator


class PeerByHand:
    """Serves its newest connection or, counted from 0, another, in blocking steps in a thread."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(5)
        self._tls = tls
        self._accepted: list[socket.socket] = []

    @property
    def connections(self) -> int:
        return len(self._accepted)

    @property
    def url(self) -> str:
        port = self._listener.getsockname()[1]
        return f"https://localhost:{port}" if self._tls else f"http://127.0.0.1:{port}"

    async def accept(self) -> None:
        await asyncio.to_thread(self._accept)

    async def answer(self, data: bytes, of: int = -1) -> bytes:
        """Read what is there of a request, answer it, and return it."""
        return await asyncio.to_thread(self._answer, data, of)

    def fin(self, of: int = -1) -> None:
        """No more to say, but still listening, as far as anybody can tell."""
        self._accepted[of].shutdown(socket.SHUT_WR)

    def rst(self, of: int = -1) -> None:
        self._accepted[of].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Not a wrapped socket's close, which would say goodbye first.
        socket.socket(fileno=self._accepted[of].detach()).close()

    def say(self, data: bytes, of: int = -1) -> None:
        self._accepted[of].sendall(data)

    def unread(self, of: int = -1) -> bytes:
        """What has come since, as it is on the wire."""
        self._accepted[of].settimeout(0.2)
        with contextlib.suppress(TimeoutError, ConnectionError):
            return self._accepted[of].recv(65536)
        return b""

    def close(self) -> None:
        for each in (self._listener, *self._accepted):
            each.close()

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        accepted.settimeout(5)
        self._accepted.append(self._tls.wrap_socket(accepted, server_side=True) if self._tls else accepted)

    def _answer(self, data: bytes, of: int) -> bytes:
        request = self._accepted[of].recv(65536)
        self._accepted[of].sendall(data)
        return request


@contextlib.contextmanager
def by_hand(tls: ssl.SSLContext | None = None) -> Iterator[PeerByHand]:
    peer = PeerByHand(tls)
    try:
        yield peer
    finally:
        peer.close()


def wait_until_it_is_here(fileno: int) -> None:
    """Block, the event loop with it, until the kernel has something for this socket."""
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    assert poll.poll(5000)
