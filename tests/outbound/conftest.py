import functools

import pytest
from sending import SYSTEM, TRANSPORTS, opened


@pytest.fixture(params=TRANSPORTS)
def opening(request):
    """`opening(**options)` opens a transport of the kind that is under test."""
    return functools.partial(opened, request.param)


@pytest.fixture
async def sender(opening):
    async with opening(tls=SYSTEM) as sender:
        yield sender
