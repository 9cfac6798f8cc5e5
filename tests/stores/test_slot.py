"""Steps of one slot, on a clock that stands where it is put. What the steps mean together: test_stores."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.stores import LEASE, Held, Lease
from proxy.stores.slot import Kept, Slot

A = Kept("token-a", "a", ends=100.0, expires_at_ms=100_000)
B = Kept("token-b", "b", ends=200.0, expires_at_ms=200_000)
BLANK: Slot[str] = Slot()


def claimed(slot, owner="me", now=1.0, worn="", gap=5.0):
    slot, lease = slot.claim(owner, worn, gap, now)
    assert isinstance(lease, Lease)
    return slot, lease


def test_a_holder_that_died_is_waited_for_until_its_lease_ends() -> None:
    slot, _ = claimed(BLANK, "dead", gap=1.0)
    assert slot.claim("me", "", 1.0, 1.0 + LEASE - 0.5) == (slot, Held(0.5, "call"))
    claimed(slot, "me", 1.0 + LEASE)


def test_a_renewed_lease_holds_on() -> None:
    slot, lease = claimed(BLANK, "me")
    slot, held = slot.renew(lease, 4.0)
    assert held
    assert slot.claim("you", "", 1.0, 8.0) == (slot, Held(1.0, "call"))


def test_a_lease_that_ran_out_and_that_nobody_took_is_as_good_as_ever() -> None:
    slot, lease = claimed(BLANK, "me")
    slot, held = slot.renew(lease, 1.0 + 10 * LEASE)
    assert held
    assert slot.put(lease, A, 60.0)[1] == A


def test_the_gap_counts_from_the_start_of_the_call() -> None:
    slot, lease = claimed(BLANK, now=10.0, gap=5.0)
    slot, _ = slot.put(lease, A, 12.0)
    slot, _ = slot.drop("a", 13.0)
    assert slot.claim("you", "a", 5.0, 13.0) == (slot, Held(2.0, "gap"))


def test_a_failure_makes_the_pause_no_shorter_than_the_gap() -> None:
    slot, lease = claimed(BLANK, now=10.0, gap=5.0)
    slot, _ = slot.release(lease, 0.5, 11.0)
    assert slot.claim("you", "", 5.0, 11.0) == (slot, Held(4.0, "failure"))


def test_nothing_is_changed_by_who_gets_nothing() -> None:
    slot, lease = claimed(BLANK, "me")
    stranger = Lease("you", lease.fence)
    for after, _ in (
        slot.claim("you", "", 5.0, 2.0),
        slot.renew(stranger, 2.0),
        slot.release(stranger, 5.0, 2.0),
        slot.drop("a", 2.0),
    ):
        assert after is slot


@pytest.mark.parametrize(("moment", "kept"), [(99.999, A), (100.0, None), (1e9, None)])
def test_a_token_is_live_until_its_end(moment, kept) -> None:
    assert Slot(kept=A).live(moment) == kept


@given(
    st.lists(
        st.tuples(st.sampled_from(["claim", "renew", "put", "release", "fail", "drop", "wait"]), st.integers(0, 3))
    )
)
def test_no_two_hold_a_lease_and_no_two_calls_start_within_a_gap(steps) -> None:
    """Whatever four processes do, in whatever order. One that asks again while its lease holds has made no call yet."""
    slot, now = BLANK, 1.0
    leases: dict[int, Lease] = {}
    granted: list[tuple[float, int, int]] = []
    for kind, who in steps:
        lease = leases.get(who, Lease("nobody", -1))
        match kind:
            case "claim":
                again = slot.owner == str(who) and now < slot.leased
                slot, said = slot.claim(str(who), "a", 5.0, now)
                if isinstance(said, Lease):
                    leases[who] = said
                    granted += [] if again else [(now, who, said.fence)]
            case "renew":
                slot, _ = slot.renew(lease, now)
            case "put":
                slot, _ = slot.put(lease, A, now)
            case "release" | "fail":
                slot, _ = slot.release(lease, None if kind == "release" else 1.0, now)
            case "drop":
                slot, _ = slot.drop("a", now)
            case _:
                now += who + 0.5
    assert all(later[0] - earlier[0] >= 5.0 for earlier, later in itertools.pairwise(granted))
    fences = [fence for _, _, fence in granted]
    assert fences == sorted(set(fences))
