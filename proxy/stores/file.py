"""Tokens of one host in a directory: a file for each account, written as a whole, changed under a short lock.

Several processes share it and may end at any moment, by SIGKILL too: a file is the old one or the new one, and the
kernel gives a dead process's lock back. The lock is never held across a token call: that is what the lease is for.
"""

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from proxy.errors import StartError, StoreFault
from proxy.model import Account, Clock, Token
from proxy.storeforms import RedisLogin
from proxy.stores import Held, Lease, StoreWatch
from proxy.stores.page import Moment, read, written
from proxy.stores.record import mark
from proxy.stores.safe import Safe
from proxy.stores.slot import Kept, Slot

T = TypeVar("T")
Step = Callable[[Slot[bytes], float], tuple[Slot[bytes], T]]
"""A slot and the moment at which it is seen → the slot from now on, and what the asker gets."""
Aside = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
"""Runs what blocks where it does not hold up the event loop."""

_LOCK_PATIENCE: Final = 1.0
"""Seconds. A step takes a millisecond or so: whoever holds the lock for longer was stopped in the middle of one."""
_LOCK_PAUSE: Final = 0.002
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class FileStore:
    """`prepare` is called first. Processes that share a directory run as the same user: its files are theirs alone."""

    def __init__(
        self, folder: Path, safe: Safe, clock: Clock, watch: StoreWatch, aside: Aside = asyncio.to_thread
    ) -> None:
        self._folder = folder
        self._safe = safe
        self._clock = clock
        self._watch = watch
        self._aside = aside
        self._boot = _boot_id()

    def prepare(self) -> None:
        """Make the directory, or see that it is fit. Raises StartError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = self._folder.stat().st_mode
        except OSError as error:
            raise StartError(f"store: {self._folder}: {error.strerror or 'cannot be used'}") from None
        if mode & stat.S_IWOTH:
            words = "can be written by others: chmod 700, or name a directory below it, which Paraf then makes"
            raise StartError(f"store: {self._folder} {words}")
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise StartError(f"store: {self._folder} cannot be written by this user")

    async def get(self, account: Account) -> Token | None:
        kept = await self._step(account, lambda slot, now: (slot, slot.live(now)))
        return self._open(account, kept) if kept else None

    async def claim(self, account: Account, owner: str, worn: Token | None) -> Token | Lease | Held:
        worn_mark = mark(worn) if worn else ""
        while True:
            said = await self._step(account, partial(_claim, owner, worn_mark, account.min_gap))
            if not isinstance(said, Kept):
                return said
            if token := self._open(account, said):
                return token
            worn_mark = said.mark  # nobody can read it: it is as if it were not there

    async def renew(self, account: Account, lease: Lease) -> bool:
        return await self._step(account, lambda slot, now: slot.renew(lease, now))

    async def put(self, account: Account, token: Token, lease: Lease) -> Token:
        ours = Kept(self._safe.seal(account, token), mark(token), token.deadline + lease.ahead, token.expires_at_ms)
        kept = await self._step(account, lambda slot, now: slot.put(lease, ours, now))
        return token if kept is ours else self._open(account, kept) or token

    async def release(self, account: Account, lease: Lease, rest: float | None = None) -> bool:
        return await self._step(account, lambda slot, now: slot.release(lease, rest, now))

    async def drop(self, account: Account, token: Token, *, refused: bool = True) -> int:
        return await self._step(account, lambda slot, now: slot.drop(mark(token), now, refused=refused))

    def log_in(self, login: RedisLogin) -> None:
        """Nobody asks for one."""

    async def close(self) -> None:
        """Nothing to end: no file stays open."""

    def _open(self, account: Account, kept: Kept[bytes]) -> Token | None:
        return self._safe.open(account, kept.form, kept.ends)

    async def _step(self, account: Account, step: Step[T]) -> T:
        try:
            answer, damaged = await self._aside(partial(self._stepped, account, step))
        except OSError as error:
            self._watch.failed(errno.errorcode.get(error.errno or 0, "OSError"))
            raise StoreFault from None
        self._watch.answered()
        if damaged:
            self._watch.unreadable(account)
        return answer  # type: ignore[no-any-return]

    def _stepped(self, account: Account, step: Step[T]) -> tuple[T, bool]:
        """What the step says, and whether the file was there but could not be read."""
        path = self._folder / hashlib.sha256(json.dumps(account.identity).encode()).hexdigest()[:32]
        with self._locked(path.with_suffix(".lock")):
            now = Moment(self._boot, self._clock.monotonic(), self._clock.now_ms())
            text = _text(path.with_suffix(".token"))
            found = read(text, now) if text is not None else None
            slot: Slot[bytes] = found or Slot()
            after, answer = step(slot, now.monotonic)
            if after is not slot:
                _replace(path.with_suffix(".token"), written(after, now))
        return answer, text is not None and found is None

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have emptied more than the directory
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)  # the lock goes with it


def _claim(
    owner: str, worn: str, gap: float, slot: Slot[bytes], now: float
) -> tuple[Slot[bytes], Kept[bytes] | Lease | Held]:
    return slot.claim(owner, worn, gap, now)


def _wait_for(descriptor: int) -> None:
    until = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(_LOCK_PAUSE)


def _text(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace(path: Path, text: bytes) -> None:
    """On the disk before it takes the old one's place: a host that stops leaves no half file under the name."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)


def _boot_id() -> str:
    """Which start of the host this is; empty where the kernel does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
