"""An answer of which the beginning was read to judge it, or whose end is told; every byte passes as it came."""

from collections.abc import AsyncIterator, Callable
from typing import Literal

from proxy.errors import ProxyError
from proxy.model import Fields, UpstreamResponse


class HeldResponse:
    """Gives back what was held, then the rest."""

    def __init__(self, response: UpstreamResponse, limit: int) -> None:
        self._response = response
        self._rest = response.chunks()
        self._limit = limit
        self.held = b""
        self._is_whole = False
        """The body ended within the limit, so it can be judged."""

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def reason(self) -> bytes:
        return self._response.reason

    @property
    def fields(self) -> Fields:
        return self._response.fields

    async def hold(self) -> bytes | None:
        """The whole body, or None when it is longer than the limit. Raises ProxyError when it breaks off."""
        parts: list[bytes] = []
        try:
            await self._read(parts)
        except BaseException:
            await self.close()  # nobody else knows of it yet
            raise
        self.held = b"".join(parts)
        return self.held if self._is_whole else None

    async def _read(self, parts: list[bytes]) -> None:
        size = 0
        async for chunk in self._rest:
            parts.append(chunk)
            size += len(chunk)
            if size > self._limit:
                return
        self._is_whole = True

    def whole(self) -> bytes | None:
        return self.held if self._is_whole else None

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.held:
            yield self.held
        if not self._is_whole:
            async for chunk in self._rest:
                yield chunk

    async def close(self) -> None:
        await self._response.close()


class CopiedResponse:
    """Every chunk passes as it comes. When the body has ended well within `limit` bytes, `read` gets a copy of it."""

    def __init__(self, response: UpstreamResponse, limit: int, read: Callable[[bytes], None]) -> None:
        self._response = response
        self._limit = limit
        self._read: Callable[[bytes], None] | None = read
        self.status = response.status
        self.reason = response.reason
        self.fields = response.fields

    def whole(self) -> bytes | None:
        body = self._response.whole()
        if body is not None:
            self._tell(body)
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        copied, size = list[bytes](), 0
        async for chunk in self._response.chunks():
            size += len(chunk)
            if size <= self._limit:
                copied.append(chunk)
            yield chunk
        if size <= self._limit:
            self._tell(b"".join(copied))

    async def close(self) -> None:
        await self._response.close()

    def _tell(self, body: bytes) -> None:
        """Once, though `whole` may be asked for again."""
        read, self._read = self._read, None
        if read is not None and len(body) <= self._limit:
            read(body)


Ending = Literal["whole", "broken off", "given up"]
"""`given up`: by us, because the caller left or Paraf stops."""


class FollowedResponse:
    """Tells its ending once, whichever comes first."""

    def __init__(self, response: UpstreamResponse, ended: Callable[[Ending], None]) -> None:
        self._response = response
        self._ended: Callable[[Ending], None] | None = ended

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def reason(self) -> bytes:
        return self._response.reason

    @property
    def fields(self) -> Fields:
        return self._response.fields

    def whole(self) -> bytes | None:
        body = self._response.whole()
        if body is not None:
            self._tell("whole")
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.chunks():
                yield chunk
        except ProxyError:
            self._tell("broken off")
            raise
        self._tell("whole")

    async def close(self) -> None:
        try:
            await self._response.close()
        finally:
            self._tell("given up")

    def _tell(self, ending: Ending) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(ending)
