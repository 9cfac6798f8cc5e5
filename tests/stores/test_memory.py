import pytest

from proxy.model import Account, Secret, Token
from proxy.stores import TokenStore
from proxy.stores.memory import MemoryStore

DOKU = Account("doku", "doku", "sandbox", "https://api.test/token", "BRN-1")
OTHER = Account("doku2", "doku", "sandbox", "https://api.test/token", "BRN-2")


class Hands:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def token(value: str, deadline: float) -> Token:
    return Token(Secret(value), int(deadline * 1000), deadline)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def store(clock: Hands) -> TokenStore:
    return MemoryStore(clock)


async def test_gives_what_was_put_to_its_owner_only(store: TokenStore) -> None:
    await store.put(DOKU, token("a", 10))
    assert await store.get(DOKU) == token("a", 10)
    assert await store.get(OTHER) is None


async def test_an_account_is_the_same_under_another_name(store: TokenStore) -> None:
    await store.put(DOKU, token("a", 10))
    renamed = Account("pay", "doku", "sandbox", "https://api.test/token", "BRN-1", patience=3.0, min_gap=9.0)
    assert await store.get(renamed) == token("a", 10)


@pytest.mark.parametrize(("moment", "there"), [(9.999, True), (10.0, False), (10.001, False), (1e9, False)])
async def test_each_token_has_its_own_end(store: TokenStore, clock: Hands, moment, there) -> None:
    await store.put(DOKU, token("a", 10))
    await store.put(OTHER, token("b", 2e9))
    clock.now = moment
    assert (await store.get(DOKU) is not None) == there
    assert await store.get(OTHER) == token("b", 2e9)


async def test_a_new_token_takes_the_place_of_the_old_and_brings_its_end(store: TokenStore, clock: Hands) -> None:
    await store.put(DOKU, token("long", 100))
    await store.put(DOKU, token("short", 10))
    assert await store.get(DOKU) == token("short", 10)
    clock.now = 50
    assert await store.get(DOKU) is None


async def test_drops_a_token_that_is_still_kept(store: TokenStore) -> None:
    await store.put(DOKU, token("a", 10))
    await store.drop(DOKU, token("a", 10))
    assert await store.get(DOKU) is None


async def test_keeps_a_newer_token_than_the_dropped_one(store: TokenStore) -> None:
    await store.put(DOKU, token("b", 20))
    await store.drop(DOKU, token("a", 10))
    assert await store.get(DOKU) == token("b", 20)


async def test_dropping_what_is_gone_is_no_error(store: TokenStore, clock: Hands) -> None:
    await store.drop(DOKU, token("a", 10))
    await store.put(DOKU, token("a", 10))
    clock.now = 11
    await store.drop(DOKU, token("a", 10))
    assert await store.get(DOKU) is None


async def test_many_accounts_push_none_out(store: TokenStore) -> None:
    owners = [Account(f"r{i}", "p", "e", "u", f"client-{i}") for i in range(2_000)]
    for owner in owners:
        await store.put(owner, token(owner.client_id, 10))
    assert [await store.get(owner) for owner in owners] == [token(owner.client_id, 10) for owner in owners]
