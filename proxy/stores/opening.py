"""The store that the configuration asks for. What only one of them needs is imported when that one is asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.model import Clock
from proxy.storeforms import FileForm, MemoryForm, RedisForm, RedisLogin, StoreForm
from proxy.stores import StoreWatch, TokenStore
from proxy.stores.file import FileStore
from proxy.stores.memory import MemoryStore
from proxy.stores.safe import Safe, StoreSecrets


@asynccontextmanager
async def opened(
    form: StoreForm, login: RedisLogin, secrets: StoreSecrets, clock: Clock, watch: StoreWatch
) -> AsyncIterator[TokenStore]:
    """Raises StartError. Redis need not be there yet."""
    store = _store(form, login, Safe(secrets, watch), clock, watch)
    try:
        yield store
    finally:
        await store.close()


def _store(form: StoreForm, login: RedisLogin, safe: Safe, clock: Clock, watch: StoreWatch) -> TokenStore:
    match form:
        case MemoryForm():
            return MemoryStore(clock.monotonic)
        case FileForm():
            store = FileStore(Path(form.path), safe, clock, watch)
            store.prepare()
            return store
        case RedisForm():
            from proxy.stores.redis import RedisStore  # noqa: PLC0415 - an extra

            return RedisStore(form, login, safe, clock.monotonic, watch)
