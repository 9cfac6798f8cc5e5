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
    def answers() -> list[bytes]:
        return [demand.answer(keys) for demand in draft.demands]

    asymmetric = any(isinstance(demand.key, str) for demand in draft.demands)
    return draft.seal(await asyncio.to_thread(answers) if asymmetric else answers())
