import pytest
import trustme
from sending import SYSTEM, Encrypted, Plain, opened


@pytest.fixture
async def sender():
    async with opened(tls=SYSTEM) as sender:
        yield sender


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(params=["plain", "TLS"])
def wires(request, authority):
    """Contexts for both sides of a connection: `async with opened(tls=wires.client)`, `RawPeer(tls=wires.server)`."""
    return Plain() if request.param == "plain" else Encrypted(authority)
