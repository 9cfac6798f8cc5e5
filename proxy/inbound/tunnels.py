"""Which tunnels are opened, with which certificate, and what is said when a program does not like it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy.errors import ProxyError
from proxy.generation import Generation
from proxy.inbound.intercept import Failure
from proxy.inbound.ways import connect
from proxy.model import Clock, InboundRequest, Tunnel
from proxy.telemetry.story import Story

if TYPE_CHECKING:  # it loads all of X.509
    from proxy.inbound.leaves import LeafContext, Leaves

QUIET: Final = 60.0
"""Seconds in which the same is said once of a host: a program that does not trust us tries again and again."""
INSTALL: Final = (
    "{0} goes into the trust store of that program: SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, "
    "NODE_EXTRA_CA_CERTS or Java's trust store; `paraf env` prints them"
)
WORDS: Final[dict[Failure, str]] = {
    "distrust": "a program refused the certificate because it does not trust the local authority: " + INSTALL,
    "hung up": "a program hung up in the TLS handshake or right behind it, as those do that do not trust the local "
    "authority: " + INSTALL,
    "handshake": "the TLS handshake in a tunnel did not come to its end: no TLS, or too slow",
}


class Tunnels:
    """`generation` is the one of the moment. `arrived` is told the route of a CONNECT that is refused on it, `remark`
    the route and a line for the log.
    """

    def __init__(
        self,
        generation: Callable[[], Generation],
        clock: Clock,
        *,
        arrived: Callable[[str], None],
        remark: Callable[[str, str], None],
    ) -> None:
        self._generation = generation
        self._clock = clock
        self._arrived = arrived
        self._remark = remark
        self._leaves: Leaves | None = None
        self._said: dict[tuple[str, Failure], float] = {}

    def admit(self, request: InboundRequest, story: Story) -> Tunnel:
        """Raises ProxyError: bad_request, not_allowed, caller_unauthorized."""
        generation = self._generation()
        route, tunnel = connect(generation.table, request)
        callers = generation.lanes[route.name].callers
        if callers is not None:
            try:
                callers.recognise(request)
            except ProxyError:
                story.route = route.name
                self._arrived(route.name)
                raise
        return tunnel

    async def context(self, host: str) -> "LeafContext":
        authority = self._generation().authority
        if authority is None:
            raise ProxyError("not_allowed", "no local authority is configured any more")
        if self._leaves is None:
            from proxy.inbound.leaves import Leaves  # noqa: PLC0415 -- likewise

            self._leaves = Leaves()
        return await self._leaves.context(authority, host)

    def failed(self, host: str, failure: Failure) -> None:
        generation, now = self._generation(), self._clock.monotonic()
        if now - self._said.get((host, failure), -QUIET) < QUIET:
            return
        self._said[host, failure] = now
        route = generation.table.by_host(host)
        root = generation.authority.root if generation.authority else ""
        self._remark(route.name if route else "none", WORDS[failure].format(root or "its root certificate"))
