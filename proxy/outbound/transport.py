"""The network as the pipeline sees it: one signed request out, one answer or one ProxyError back."""

from dataclasses import dataclass
from typing import Protocol

from proxy.model import Attempt, SignedRequest, UpstreamResponse


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the provider is waited for, in seconds.

    `connect`: a free connection, name, TCP and TLS together. `first_byte`: from the request handed to the kernel to
    the whole head of the answer. `idle`: each pause in the answer's body that is the provider's doing.
    """

    connect: float
    first_byte: float
    idle: float


class Transport(Protocol):
    async def send(self, request: SignedRequest, patience: Patience, attempt: Attempt) -> UpstreamResponse:
        """Send once, never twice, and return the answer at its head.

        `attempt.sent` is `maybe` from just before the first byte can leave, unless it is certain that none did.
        Raises only ProxyError, with that `sent`: `upstream_unreachable`, `upstream_tls`, `upstream_timeout`,
        `upstream_protocol`; `internal` for a request that cannot be written as it was signed. Cancelling it closes
        the connection.
        """
        ...

    async def close(self) -> None:
        """Close every connection; answers still being read break off."""
        ...
