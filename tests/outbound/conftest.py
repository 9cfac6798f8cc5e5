import functools
import os

import pytest
import trustme
from sending import SYSTEM, TRANSPORTS, Encrypted, Plain, opened

UVLOOP = os.environ.get("PARAF_TEST_LOOP") == "uvloop"
"""It hides the socket below its TLS and writes at the end of a turn, so CleanPool sees less: wire alone is tested."""


@pytest.fixture(params=["wire"] if UVLOOP else TRANSPORTS)
def opening(request):
    """`opening(**options)` opens a transport of the kind that is under test."""
    return functools.partial(opened, request.param)


@pytest.fixture
async def sender(opening):
    async with opening(tls=SYSTEM) as sender:
        yield sender


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(params=["plain", "TLS"])
def wires(request, authority):
    """Contexts for both sides of a connection: `async with opening(tls=wires.client)`, `RawPeer(tls=wires.server)`."""
    return Plain() if request.param == "plain" else Encrypted(authority)
