"""An answer of which the beginning was read to judge it; the caller still gets every byte as it came."""

from collections.abc import AsyncIterator

from proxy.model import Headers, UpstreamResponse


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
    def reason(self) -> str:
        return self._response.reason

    @property
    def headers(self) -> Headers:
        return self._response.headers

    async def hold(self) -> bytes | None:
        """The whole body, or None when it is longer than the limit.

        Raises ProxyError when it breaks off; then, and when nobody waits any more, the answer is given up.
        """
        try:
            await self._read()
        except BaseException:
            await self.close()
            raise
        return self.held if self._is_whole else None

    async def _read(self) -> None:
        parts: list[bytes] = []
        size = 0
        async for chunk in self._rest:
            parts.append(chunk)
            size += len(chunk)
            if size > self._limit:
                break
        else:
            self._is_whole = True
        self.held = b"".join(parts)

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
