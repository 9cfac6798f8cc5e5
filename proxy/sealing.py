"""Where drafts meet private keys. HMAC is made on the spot; RSA takes 0.75 ms and lets the interpreter go, so it is
made in a thread and the loop serves others meanwhile.
"""

import asyncio
from collections.abc import Mapping

from proxy.model import ParsedKey, SignedRequest
from proxy.signing.draft import Draft

PrivateKeys = Mapping[str, ParsedKey]
"""By the name of the credential."""


async def seal(draft: Draft, keys: PrivateKeys) -> SignedRequest:
    for demand in draft.demands:
        if isinstance(demand.key, str):
            return draft.seal(await asyncio.to_thread(_answers, draft, keys))
    return draft.seal(_answers(draft, keys))


def _answers(draft: Draft, keys: PrivateKeys) -> list[bytes]:
    return [demand.answer(keys) for demand in draft.demands]
