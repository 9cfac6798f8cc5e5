"""What every store promises: one suite for memory, a directory and a real Redis, and a walk that compares them."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from keeping import DOKU, OTHER, file, keep, leased, memory, redis_store, token, value

from proxy.stores import LEASE, Held, Lease, TokenStore


@pytest.fixture(params=["memory", "file", "redis"])
async def store(request, tmp_path) -> AsyncIterator[TokenStore]:
    match request.param:
        case "memory":
            made: TokenStore = memory()
        case "file":
            made = file(tmp_path / "tokens")
        case _:
            made = redis_store(request.getfixturevalue("redis").socket)
    yield made
    await made.close()


async def test_gives_what_was_put_to_its_owner_only(store: TokenStore) -> None:
    kept = token("a")
    assert value(await keep(store, kept)) == "a"
    got = await store.get(DOKU)
    assert got
    assert (got.value, got.expires_at_ms) == (kept.value, kept.expires_at_ms)
    assert kept.deadline - 0.1 < got.deadline <= kept.deadline + 0.1
    assert await store.get(OTHER) is None
    await leased(store, OTHER)


async def test_an_account_is_the_same_under_another_name(store: TokenStore) -> None:
    await keep(store, token("a"))
    renamed = replace(DOKU, name="pay", patience=3.0, min_gap=9.0)
    assert value(await store.get(renamed)) == "a"
    assert value(await store.claim(renamed, "b", None)) == "a"


async def test_each_token_has_its_own_end(store: TokenStore) -> None:
    await keep(store, token("a", 0.3))
    await keep(store, token("b", 60), OTHER)
    assert value(await store.get(DOKU)) == "a"
    await asyncio.sleep(0.31)
    assert (await store.get(DOKU), value(await store.get(OTHER))) == (None, "b")
    await leased(store)


async def test_a_token_that_has_ended_is_not_kept(store: TokenStore) -> None:
    await keep(store, token("a", -1))
    assert await store.get(DOKU) is None


async def test_one_of_many_gets_the_lease(store: TokenStore) -> None:
    claims = await asyncio.gather(*(store.claim(DOKU, f"owner-{number}", None) for number in range(20)))
    leases = [claim for claim in claims if isinstance(claim, Lease)]
    held = [claim for claim in claims if isinstance(claim, Held)]
    assert (len(leases), len(held)) == (1, 19)
    assert {claim.why for claim in held} == {"call"}
    assert all(LEASE - 1 < claim.seconds <= LEASE for claim in held)


async def test_the_lease_ends_with_the_token_which_all_others_get(store: TokenStore) -> None:
    lease = await leased(store, owner="a")
    await store.put(DOKU, token("a"), lease)
    assert value(await store.claim(DOKU, "b", None)) == "a"
    assert not await store.renew(DOKU, lease)


async def test_who_knows_the_kept_token_for_worn_gets_the_lease(store: TokenStore) -> None:
    old = token("old")
    await keep(store, old)
    lease = await leased(store, owner="b", worn=old)
    assert value(await store.claim(DOKU, "c", None)) == "old"  # it serves others meanwhile
    assert (await store.claim(DOKU, "c", old)) == Held(pytest.approx(LEASE, abs=0.5), "call")
    await store.put(DOKU, token("new"), lease)
    assert value(await store.claim(DOKU, "c", old)) == "new"


async def test_fences_grow(store: TokenStore) -> None:
    fences = []
    for _ in range(5):
        lease = await leased(store)
        fences.append(lease.fence)
        await store.release(DOKU, lease)
    assert fences == sorted(set(fences))


async def test_an_owner_that_asks_again_gets_a_new_lease(store: TokenStore) -> None:
    """Its first claim was granted and the answer was lost."""
    patient = replace(DOKU, min_gap=9.0)
    first = await leased(store, patient)
    second = await leased(store, patient)
    assert second.fence > first.fence
    assert not await store.renew(DOKU, first)
    assert await store.renew(DOKU, second)


async def test_only_the_owner_releases(store: TokenStore) -> None:
    lease = await leased(store)
    for stranger in (replace(lease, owner="b"), replace(lease, fence=lease.fence - 1)):
        await store.release(DOKU, stranger, 5.0)
        assert not await store.renew(DOKU, stranger)
        assert (await store.claim(DOKU, "c", None)).why == "call"
    await store.release(DOKU, lease)
    await leased(store, owner="c")


async def test_the_gap_holds_for_everybody_and_also_after_a_drop(store: TokenStore) -> None:
    patient = replace(DOKU, min_gap=0.3)
    kept = token("a")
    await store.put(patient, kept, await leased(store, patient))
    await store.drop(patient, kept)
    assert (await store.claim(patient, "b", kept)) == Held(pytest.approx(0.15, abs=0.15), "gap")
    await asyncio.sleep(0.31)
    await leased(store, patient, "b")


async def test_the_pause_after_a_failure_holds_for_everybody_and_failures_are_counted(store: TokenStore) -> None:
    for failures in range(3):
        lease = await leased(store, owner=f"owner-{failures}")
        assert lease.failures == failures
        await store.release(DOKU, lease, 0.2)
        assert (await store.claim(DOKU, "z", None)) == Held(pytest.approx(0.1, abs=0.1), "failure")
        await asyncio.sleep(0.21)
    await keep(store, token("a"))
    await store.drop(DOKU, token("a"))
    assert (await leased(store)).failures == 0


async def test_drops_a_token_that_is_still_kept(store: TokenStore) -> None:
    kept = token("a")
    await keep(store, kept)
    assert await store.drop(DOKU, kept) == 1
    assert await store.get(DOKU) is None
    assert await store.drop(DOKU, kept) == 0


async def test_keeps_a_newer_token_than_the_dropped_one(store: TokenStore) -> None:
    old = token("old")
    await keep(store, old)
    await keep(store, token("new"), worn=old)
    assert await store.drop(DOKU, old) == 0
    assert value(await store.claim(DOKU, "b", old)) == "new"


async def test_refusals_in_the_first_half_of_a_life_are_counted_in_a_row(store: TokenStore) -> None:
    strikes = []
    for number in range(3):
        kept = token(f"{number}")
        await keep(store, kept)
        strikes.append(await store.drop(DOKU, kept))
    assert strikes == [1, 2, 3]
    aged = token("aged", 0.5)
    await keep(store, aged)
    await asyncio.sleep(0.31)
    assert await store.drop(DOKU, aged) == 0
    again = token("again")
    await keep(store, again)
    assert await store.drop(DOKU, again) == 1


async def test_a_token_that_came_to_its_end_ends_the_row(store: TokenStore) -> None:
    first, second, third = token("1"), token("2", 0.1), token("3")
    await keep(store, first)
    assert await store.drop(DOKU, first) == 1
    await keep(store, second)
    await asyncio.sleep(0.15)
    await keep(store, third)
    assert await store.drop(DOKU, third) == 1


async def test_a_late_token_that_ends_earlier_at_the_provider_gives_way(store: TokenStore) -> None:
    late = await leased(store, owner="a")
    await store.release(DOKU, late)
    await store.put(DOKU, token("new", ends_ms=2_000), await leased(store, owner="b"))
    for ends_ms in (1_000, 2_000):
        assert value(await store.put(DOKU, token("late", ends_ms=ends_ms), late)) == "new"
    assert value(await store.get(DOKU)) == "new"


async def test_a_late_token_that_ends_later_at_the_provider_is_the_live_one(store: TokenStore) -> None:
    late = await leased(store, owner="a")
    await store.release(DOKU, late)
    await store.put(DOKU, token("new", ends_ms=1_000), await leased(store, owner="b"))
    assert value(await store.put(DOKU, token("late", ends_ms=2_000), late)) == "late"
    assert value(await store.get(DOKU)) == "late"


async def test_a_late_token_serves_until_the_holder_of_the_lease_brings_its_own(store: TokenStore) -> None:
    late = await leased(store, owner="a")
    await store.release(DOKU, late)
    lease = await leased(store, owner="b")
    assert value(await store.put(DOKU, token("late", ends_ms=2_000), late)) == "late"
    assert await store.renew(DOKU, lease)
    assert value(await store.put(DOKU, token("new", ends_ms=1_000), lease)) == "new"


async def test_many_accounts_push_none_out(store: TokenStore) -> None:
    owners = [replace(DOKU, client_id=f"client-{number}") for number in range(60)]
    for owner in owners:
        await keep(store, token(owner.client_id), owner)
    assert [value(await store.get(owner)) for owner in owners] == [owner.client_id for owner in owners]


class Walk:
    """One random walk, made in several stores: what each step gives must be the same but for its moment."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tokens = [token(f"token-{number}", ends_ms=1_000 * (number % 5)) for number in range(8)]

    def steps(self):
        for _ in range(120):
            kind = self.random.choice(["claim", "claim", "renew", "put", "put", "release", "fail", "drop", "get"])
            yield kind, self.random.randrange(3), self.random.choice(self.tokens), self.random.randrange(4)

    async def walked(self, store: TokenStore, steps) -> list[object]:
        leases = [await leased(store, owner="first")]
        await store.release(DOKU, leases[0])
        seen: list[object] = []
        for kind, owner, chosen, back in steps:
            lease = leases[max(-1 - back, -len(leases))]
            match kind:
                case "claim":
                    claimed = await store.claim(DOKU, f"owner-{owner}", chosen)
                    if isinstance(claimed, Lease):
                        leases.append(claimed)
                    said = (
                        claimed.why
                        if isinstance(claimed, Held)
                        else claimed.failures
                        if isinstance(claimed, Lease)
                        else value(claimed)
                    )
                case "renew":
                    said = await store.renew(DOKU, lease)
                case "put":
                    said = value(await store.put(DOKU, chosen, lease))
                case "release" | "fail":
                    said = await store.release(DOKU, lease, None if kind == "release" else 0.0)
                case "drop":
                    said = await store.drop(DOKU, chosen)
                case _:
                    said = value(await store.get(DOKU))
            seen.append((kind, said))
        return seen


@pytest.mark.parametrize("seed", range(12))
async def test_all_stores_walk_alike(seed: int, redis, tmp_path) -> None:
    walk = Walk(seed)
    steps = list(walk.steps())
    expected = await walk.walked(memory(), steps)
    assert {kind for kind, _ in expected} >= {"claim", "put", "drop"}
    assert await walk.walked(file(tmp_path / "tokens"), steps) == expected
    shared = redis_store(redis.socket)
    try:
        assert await walk.walked(shared, steps) == expected
    finally:
        await shared.close()
