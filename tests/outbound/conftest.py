import pytest
from sending import opened


@pytest.fixture
async def sender():
    async with opened() as sender:
        yield sender
