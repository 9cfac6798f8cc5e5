"""The bodies of all requests together: each is held whole, since its digest stands in the head that goes before it."""

from typing import Final

from proxy.errors import ProxyError

RETRY_AFTER: Final = 1.0


class Bodies:
    """Bytes of request bodies that this process holds, and the most that it may.

    Without such a bound the memory of a process is the product of two limits that are each well chosen: callers at
    once, and the largest body.
    """

    __slots__ = ("held", "most")

    def __init__(self, most: float) -> None:
        self.held = 0
        self.most = most

    def take(self, size: int) -> None:
        """To be given back by who took it. Raises ProxyError `overloaded`."""
        if self.held + size > self.most:
            raise ProxyError("overloaded", "other requests' bodies fill what `bodies` lets", retry_after=RETRY_AFTER)
        self.held += size
