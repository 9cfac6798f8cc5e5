"""Where drafts meet private keys. HMAC is made on the spot; RSA takes 0.75 ms and lets the interpreter go, so it is
made in a thread and the loop serves others meanwhile.
"""

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from proxy.model import ParsedKey, SignedRequest
from proxy.signing.draft import Draft

PrivateKeys = Mapping[str, ParsedKey]
"""By the name of the credential."""

_THREADS: Final = ThreadPoolExecutor(min(os.cpu_count() or 1, 4), "rsa")
"""Of their own, lest signatures wait for long bodies or slow names; more than cores would only take turns."""


async def seal(draft: Draft, keys: PrivateKeys) -> SignedRequest:
    if draft.is_quick:
        return _sealed(draft, keys)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _sealed, draft, keys)


def _sealed(draft: Draft, keys: PrivateKeys) -> SignedRequest:
    return draft.seal([demand.answer(keys) for demand in draft.demands])
