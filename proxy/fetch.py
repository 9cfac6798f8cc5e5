"""One token call over the wire: drafted and read by `signing.exchange`, sent like any signed request."""

from collections.abc import Mapping

from proxy.errand import Confirm, Fetch
from proxy.errors import TokenFault, TokenSpared
from proxy.generation import Generation
from proxy.headers import texts, value_of
from proxy.model import Account, Attempt, Clock, Token
from proxy.outbound.held import HeldResponse
from proxy.outbound.transport import Patience, Transport
from proxy.sealing import seal
from proxy.signing.exchange import MAX_ANSWER
from proxy.signing.refusal import inflated


class TokenFetch:
    """Called by `tokens` with an account, one call at a time for each."""

    def __init__(self, generation: Generation, transports: Mapping[str, Transport], clock: Clock) -> None:
        self._generation = generation
        self._transports = transports
        self._clock = clock

    async def __call__(self, account: Account, confirm: Confirm) -> Token:
        """Raises TokenFault, ProxyError when the call did not get through, and whatever `confirm` raises."""
        lane = self._generation.fetcher(account)
        if lane.exchange is None:  # an account without a token call is never asked for
            raise TokenFault("malformed")
        draft = lane.exchange.draft(self._clock.now_ms())
        signed = await seal(draft, lane.keys)
        await confirm()
        started, now_ms = self._clock.monotonic(), self._clock.now_ms()
        timeouts = lane.route.timeouts
        patience = Patience(timeouts.connect, account.patience, account.patience)
        reply = HeldResponse(await self._transports[lane.route.name].send(signed, patience, Attempt()), MAX_ANSWER)
        body = await reply.hold()
        if body is None:
            await reply.close()
            raise TokenFault("malformed", provider_status=reply.status)
        headers = texts(reply.fields)
        readable = inflated(body, value_of(headers, "Content-Encoding")) or b""
        return lane.exchange.read(reply.status, headers, readable, now_ms=now_ms, started=started)


async def unleased() -> None:
    """The `confirm` of a look: it takes no lease, since what it fetches is not kept."""


def sparing(fetch: Fetch) -> Fetch:
    """Does not fetch for exclusive accounts: whoever holds the live token would lose it."""

    async def spared(account: Account, confirm: Confirm) -> Token:
        if account.exclusive:
            raise TokenSpared
        return await fetch(account, confirm)

    return spared
