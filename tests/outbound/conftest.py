import pytest
from sending import SYSTEM, opened


@pytest.fixture
async def sender():
    async with opened(tls=SYSTEM) as sender:
        yield sender
