"""aiohttp, loaded without the authorities that the system trusts. Whatever serves imports this first.

As it is imported it makes two TLS contexts that read them all: 35 ms and 2 MiB (measured), for nothing, since every
connection of ours is given a context. Made of no authorities, they accept no provider, should one be used by mistake.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_NOWHERE: Final = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""OpenSSL's own variables for where it looks (SSL_CTX_set_default_verify_paths(3))."""


@contextmanager
def _no_authorities() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _NOWHERE}
    os.environ.update(_NOWHERE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _no_authorities():
    import aiohttp  # noqa: F401
