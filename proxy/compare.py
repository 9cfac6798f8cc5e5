"""The provider's own signer for tests, asked about a call: by hand, never on a request's way."""

from proxy.app import transport_for
from proxy.errors import ProxyError
from proxy.generation import Lane
from proxy.model import Attempt, Token
from proxy.outbound.held import HeldResponse
from proxy.outbound.transport import Patience
from proxy.signing.exchange import MAX_ANSWER
from proxy.signing.refusal import field_of, parsed
from proxy.signing.signer import Call


async def ask_signer(lane: Lane, call: Call, now_ms: int, token: Token) -> str:
    """The signature that the provider makes. Raises ProxyError, `not_allowed` outside the environments for tests."""
    compare = lane.profile.compare
    if compare is None:
        raise ProxyError("not_allowed", f"{lane.profile.name} has no signer to compare with")
    if lane.account.environment not in compare.environments:
        raise ProxyError("not_allowed", f"the provider's signer is for {', '.join(compare.environments)} only")
    if call.body:
        raise ProxyError("not_allowed", "the provider's signer takes no body: compare a request without one")
    transport = transport_for(lane)
    try:
        timeouts = lane.route.timeouts
        patience = Patience(timeouts.connect, timeouts.first_byte, timeouts.idle)
        reply = HeldResponse(
            await transport.send(lane.signer.comparison(call, token, now_ms), patience, Attempt()), MAX_ANSWER
        )
        answer = parsed(await reply.hold() or b"")
    finally:
        await transport.close()
    signature = field_of(answer, compare.answer)
    if reply.status != 200 or not isinstance(signature, str):
        raise ProxyError("upstream_protocol", f"the provider's signer answered {reply.status} without a signature")
    return signature
