"""Certificates of the local authority, ready to be shown: one TLS context for each host, kept for most of its day."""

import asyncio
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from weakref import WeakSet

from proxy.authority import LEAF_LIFE, Authority, Leaf, utc_now

MOST: Final = 256
"""Hosts that are remembered. Only routes' hosts are asked for, so this is a bound and no plan."""
RENEWED: Final = LEAF_LIFE.total_seconds() / 4
"""Seconds before its end from which on a certificate is made anew."""


class LeafContext:
    """What a TLS server for `host` shows, and a memory of the handshakes that asked for another name."""

    def __init__(self, host: str, leaf: Leaf) -> None:
        self._host, self._leaf = host, leaf
        self._misnamed: WeakSet[Any] = WeakSet()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.set_alpn_protocols(["http/1.1"])
        self.tls.options |= ssl.OP_NO_RENEGOTIATION  # it could name another host when this one was looked at
        self.tls.sni_callback = self._named
        with _as_file(leaf.chain + leaf.key) as path:
            self.tls.load_cert_chain(path)

    def serves(self, now: float) -> bool:
        """Also not before it begins: a clock may have been set back."""
        return self._leaf.begins <= now < self._leaf.ends - RENEWED

    def is_misnamed(self, handshake: object) -> bool:
        """Did this handshake ask for another host? One without a name asked for none."""
        return handshake in self._misnamed

    def _named(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        if name is not None and name.lower().rstrip(".") != self._host:
            self._misnamed.add(handshake)


class Leaves:
    """Makes each context once, however many ask, in a thread: a key, a signature, and OpenSSL's reading of both."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._made: dict[str, tuple[Authority, asyncio.Task[LeafContext]]] = {}

    async def context(self, authority: Authority, host: str) -> LeafContext:
        known = self._made.get(host)
        if known is None or known[0] is not authority or not self._holds(known[1]):
            self._made.pop(host, None)
            while len(self._made) >= MOST:
                del self._made[next(iter(self._made))]
            making = asyncio.to_thread(lambda: LeafContext(host, authority.leaf(host, self._now())))
            known = self._made[host] = authority, asyncio.create_task(making)
        return await asyncio.shield(known[1])  # one who leaves takes nothing from the others who wait

    def _holds(self, made: "asyncio.Task[LeafContext]") -> bool:
        if not made.done():
            return True
        failed = made.cancelled() or made.exception() is not None
        return not failed and made.result().serves(self._now().timestamp())


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """OpenSSL reads certificates from files only; where the system can, from one that is on no disk."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("leaf"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as kept:
            kept.write(content)
            kept.flush()
            yield kept.name
