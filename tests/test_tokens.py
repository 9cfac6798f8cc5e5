import asyncio
from dataclasses import replace

import pytest
from token_bench import DOKU, NETZME, Bench
from virtual_time import in_virtual_time

from proxy.errors import FaultKind, ProxyError, StoreFault, TokenFault
from proxy.model import Account, Token
from proxy.stores.memory import MemoryStore


@in_virtual_time
async def test_200_at_once_make_one_call() -> None:
    bench = Bench()
    assert set(await asyncio.gather(*(bench.get() for _ in range(200)))) == {"token-1"}
    assert await bench.get() == "token-1"
    assert bench.calls == 1
    ((name, result, token),) = bench.provider.told
    assert (name, result, token and token.value.reveal()) == ("doku", "ok", "token-1")


@in_virtual_time
async def test_accounts_have_nothing_in_common_but_themselves() -> None:
    bench = Bench()
    renamed = replace(DOKU, name="second-route")
    other = replace(DOKU, name="other", client_id="BRN-2")
    got = await asyncio.gather(*(bench.get(account) for account in (DOKU, renamed, other)))
    assert got[0] == got[1] != got[2]
    assert bench.calls == 2


@in_virtual_time
async def test_a_caller_who_leaves_takes_nothing_from_the_others() -> None:
    bench = Bench()
    callers = [asyncio.create_task(bench.get()) for _ in range(10)]
    await asyncio.sleep(0.1)
    for caller in callers[:9]:
        caller.cancel()
    assert await callers[9] == "token-1"
    assert bench.calls == 1


@in_virtual_time
async def test_the_call_goes_on_when_everybody_left() -> None:
    bench = Bench()
    caller = asyncio.create_task(bench.get())
    await asyncio.sleep(0.1)
    caller.cancel()
    await asyncio.sleep(1)
    assert await bench.get() == "token-1"
    assert bench.calls == 1


# Never sent expired.


@pytest.mark.parametrize(
    ("account", "life", "margin"), [(DOKU, 900, 5.0), (DOKU, 100, 2.0), (DOKU, 2, 0.04), (NETZME, 900, 0.0)]
)
@in_virtual_time
async def test_a_token_is_given_until_shortly_before_its_end(account: Account, life: float, margin: float) -> None:
    bench = Bench(life=life)
    first = await bench.taken(account)
    bench.provider.down = TokenFault("upstream")
    await asyncio.sleep(first.deadline - margin - 0.01 - bench.clock.monotonic())
    assert await bench.taken(account) == first
    await asyncio.sleep(0.02)
    assert (await bench.error(account)).code == "token_unavailable"


@in_virtual_time
async def test_what_is_given_always_has_life_left() -> None:
    bench = Bench(life=7.0, takes=0.3)
    for _ in range(400):
        token = await bench.taken(DOKU)
        assert token.deadline > bench.clock.monotonic()
        await asyncio.sleep(0.173)


@in_virtual_time
async def test_a_token_that_ends_on_its_way_to_us_is_a_failed_call() -> None:
    bench = Bench(life=0.0)
    error = await bench.error()
    assert error.detail == "account doku: the provider gave a token that had already ended"
    assert bench.provider.results == ["error"]


@in_virtual_time
async def test_jumps_of_the_wall_clock_change_nothing() -> None:
    bench = Bench(life=900)
    for step in range(600):
        bench.clock.wall_offset_ms += 3_600_000 * (-1) ** step * (1 + step % 3)
        assert (await bench.taken(DOKU)).deadline > bench.clock.monotonic()
        await asyncio.sleep(1)
    assert bench.calls == 1


@in_virtual_time
async def test_at_hand_is_what_needs_nothing_done() -> None:
    bench = Bench()
    assert bench.tokens.at_hand(DOKU, bench.clock.monotonic()) is None
    token = await bench.tokens.get(DOKU)
    assert bench.tokens.at_hand(DOKU, bench.clock.monotonic()) == token
    assert bench.tokens.at_hand(DOKU, token.deadline - 60.1) == token
    assert bench.tokens.at_hand(DOKU, token.deadline - 60) is None  # it is time for the next one
    bench.provider.down = TokenFault("upstream")
    assert await bench.tokens.replace(DOKU, token) is None
    assert bench.tokens.at_hand(DOKU, bench.clock.monotonic()) is None  # refused


# Ahead of its end.


@pytest.mark.parametrize(("jitter", "ahead"), [(0.0, 60), (0.5, 90), (1.0, 120)])
@in_virtual_time
async def test_refreshed_ahead_while_the_old_token_serves(jitter: float, ahead: float) -> None:
    bench = Bench(jitter=jitter)
    first = await bench.taken(DOKU)
    await asyncio.sleep(first.deadline - ahead - 0.5 - bench.clock.monotonic())
    assert await bench.get() == "token-1"
    await asyncio.sleep(0.1)
    assert bench.calls == 1
    await asyncio.sleep(0.5)
    before = bench.clock.monotonic()
    assert [await bench.get() for _ in range(20)] == ["token-1"] * 20
    assert bench.clock.monotonic() == before
    await asyncio.sleep(0.3)
    assert await bench.get() == "token-2"
    assert bench.calls == 2


@in_virtual_time
async def test_a_short_lived_token_is_refreshed_in_the_second_half_of_its_life() -> None:
    bench = Bench(life=30)
    await bench.get()
    await asyncio.sleep(14)
    await bench.get()
    assert bench.calls == 1
    await asyncio.sleep(1.5)
    await bench.get()
    await asyncio.sleep(0.3)
    assert await bench.get() == "token-2"


@in_virtual_time
async def test_a_failed_refresh_leaves_the_old_token_in_use_and_is_tried_again() -> None:
    bench = Bench()
    await bench.get()
    await asyncio.sleep(841)
    bench.provider.faults = [TokenFault("upstream"), TokenFault("upstream")]
    got = []
    for _ in range(50):
        got.append(await bench.get())
        await asyncio.sleep(0.1)
    assert got == sorted(got)
    assert set(got) == {"token-1", "token-4"}
    assert bench.provider.results == ["ok", "error", "error", "ok"]
    assert [call - 841.2 for call in bench.provider.calls[1:]] == pytest.approx([0, 1, 3], abs=0.11)


@in_virtual_time
async def test_when_the_old_token_ends_in_an_outage_callers_are_told_at_once() -> None:
    bench = Bench()
    await bench.get()
    await asyncio.sleep(841)
    bench.provider.down = TokenFault("upstream")
    waits = []
    while bench.clock.monotonic() < 920:
        before = bench.clock.monotonic()
        await asyncio.gather(bench.get(), return_exceptions=True)
        waits.append(bench.clock.monotonic() - before)
        await asyncio.sleep(0.1)
    assert max(waits) < 0.21  # no longer than a token call
    assert (await bench.error()).code == "token_unavailable"


@in_virtual_time
async def test_an_exclusive_token_is_never_refreshed_ahead() -> None:
    bench = Bench(life=900)
    first = await bench.tokens.get(NETZME)
    while bench.clock.monotonic() < first.deadline - 1:
        assert await bench.tokens.get(NETZME) == first
        await asyncio.sleep(0.7)
    assert bench.calls == 1
    await asyncio.sleep(2)
    assert await bench.get(NETZME) == "token-2"


# After a refusal.


@in_virtual_time
async def test_refused_to_100_in_flight_is_one_call() -> None:
    bench = Bench()
    refused = await bench.tokens.get(NETZME)
    await asyncio.sleep(10)
    others = await asyncio.gather(*(bench.tokens.replace(NETZME, refused) for _ in range(100)))
    assert {other and other.value.reveal() for other in others} == {"token-2"}
    assert bench.calls == 2


@in_virtual_time
async def test_a_newer_token_than_the_refused_one_needs_no_call() -> None:
    bench = Bench()
    refused = await bench.tokens.get(NETZME)
    await asyncio.sleep(10)
    newer = await bench.tokens.replace(NETZME, refused)
    assert await bench.tokens.replace(NETZME, refused) == newer
    assert await bench.tokens.get(NETZME) == newer
    assert bench.calls == 2


@in_virtual_time
async def test_a_refusal_waits_for_the_call_under_way() -> None:
    bench = Bench()
    refused = await bench.taken(DOKU)
    await asyncio.sleep(850)
    assert await bench.taken(DOKU) == refused
    await asyncio.sleep(0.1)
    other = await bench.tokens.replace(DOKU, refused)
    assert other
    assert other.value.reveal() == "token-2"
    assert bench.calls == 2


@in_virtual_time
async def test_no_other_token_to_be_had_is_no_error() -> None:
    bench = Bench()
    refused = await bench.taken(DOKU)
    await asyncio.sleep(10)
    bench.provider.down = TokenFault("rejected", provider_status=401)
    assert await bench.tokens.replace(DOKU, refused) is None
    assert await bench.tokens.replace(DOKU, refused) is None
    assert bench.calls == 2
    assert (await bench.error()).code == "token_unavailable"


@in_virtual_time
async def test_refused_over_and_over_is_one_call_in_a_gap() -> None:
    bench = Bench()
    token: Token | None = await bench.tokens.get(NETZME)
    for _ in range(6):
        assert token
        token = await bench.tokens.replace(NETZME, token)
    gaps = [later - earlier for earlier, later in zip(bench.provider.calls, bench.provider.calls[1:], strict=False)]
    assert gaps == [pytest.approx(5.0)] * 6


# Gap and pause.


@in_virtual_time
async def test_inside_the_gap_after_a_success_requests_wait_for_its_end() -> None:
    bench = Bench(life=0.5, takes=0.1)
    await bench.get()
    await asyncio.sleep(0.6)
    assert set(await asyncio.gather(*(bench.get() for _ in range(50)))) == {"token-2"}
    assert bench.provider.calls == [0.0, pytest.approx(1.0)]


@in_virtual_time
async def test_the_wait_in_a_gap_is_no_longer_than_patience() -> None:
    bench = Bench()
    account = replace(NETZME, min_gap=60.0, patience=4.0)
    refused = await bench.taken(account)
    before = bench.clock.monotonic()
    assert await bench.tokens.replace(account, refused) is None
    assert bench.clock.monotonic() - before == pytest.approx(4.0)
    assert bench.calls == 1


@in_virtual_time
async def test_after_a_failure_callers_are_told_at_once_until_the_pause_ends() -> None:
    bench = Bench()
    bench.provider.faults = [TokenFault("upstream")]
    await bench.error()
    before = bench.clock.monotonic()
    errors = [await bench.error() for _ in range(30)]
    assert bench.clock.monotonic() == before
    assert [error.retry_after for error in errors] == [pytest.approx(0.8)] * 30
    assert len({id(error) for error in errors}) == 30
    assert bench.calls == 1
    await asyncio.sleep(0.81)
    assert await bench.get() == "token-2"


@pytest.mark.parametrize(("jitter", "starts"), [(0.0, [0, 1, 3, 7, 15, 25]), (1.0, [0, 1, 2.5, 5.5, 11.5, 19, 26.5])])
@in_virtual_time
async def test_31_callers_in_an_outage_of_30_s_make_no_storm(jitter: float, starts: list[float]) -> None:
    bench = Bench(jitter=jitter, takes=0.0)
    bench.provider.down = ProxyError("upstream_unreachable", "no")

    async def caller() -> None:
        while bench.clock.monotonic() < 30:
            assert (await bench.error()).code == "token_unavailable"
            await asyncio.sleep(0.05)

    await asyncio.gather(*(caller() for _ in range(31)))
    assert bench.provider.calls == pytest.approx(starts, abs=0.11 * len(starts))
    assert bench.calls <= 8


@pytest.mark.parametrize("takes", [0.0, 20.0])
@pytest.mark.parametrize("outage", [3.0, 14.9, 60.0, 299.0])
@in_virtual_time
async def test_recovers_within_10_s_of_the_end_of_a_fault(takes: float, outage: float) -> None:
    bench = Bench(takes=takes)
    bench.provider.down = TokenFault("upstream")
    while bench.clock.monotonic() < outage:
        await bench.error()
        await asyncio.sleep(0.05)
    bench.provider.down, bench.provider.takes = None, 0.0
    ended = bench.clock.monotonic()
    while not bench.provider.results.count("ok"):
        await asyncio.sleep(0.05)
        await asyncio.gather(bench.get(), return_exceptions=True)
    assert bench.clock.monotonic() - ended < 10.2


@pytest.mark.parametrize("account", [DOKU, NETZME])
@in_virtual_time
async def test_jitter_makes_no_pause_shorter_than_the_gap(account: Account) -> None:
    bench = Bench(jitter=1.0, takes=0.0)
    bench.provider.faults = [TokenFault("upstream")]
    assert (await bench.error(account)).retry_after == pytest.approx(account.min_gap)


@in_virtual_time
async def test_a_success_makes_the_pause_short_again() -> None:
    bench = Bench(life=0.5, takes=0.0)
    bench.provider.faults = [TokenFault("upstream") for _ in range(5)]
    while not bench.provider.results.count("ok"):
        await asyncio.sleep(0.05)
        await asyncio.gather(bench.get(), return_exceptions=True)
    await asyncio.sleep(2)
    bench.provider.faults = [TokenFault("upstream")]
    assert (await bench.error()).retry_after == pytest.approx(1.0)


@pytest.mark.parametrize(("said", "until"), [(7.0, 7.2), (60.0, 60.2), (86_400.0, 300.2), (0.0, 1.0), (-5.0, 1.0)])
@in_virtual_time
async def test_the_providers_retry_after_wins(said: float, until: float) -> None:
    bench = Bench()
    bench.provider.faults = [TokenFault("rejected", retry_after=said, provider_status=429)]
    assert (await bench.error()).retry_after == pytest.approx(until - 0.2)
    await asyncio.sleep(until - 0.2 - 0.01)
    await bench.error()
    assert bench.calls == 1
    await asyncio.sleep(0.02)
    assert await bench.get() == "token-2"


# What callers and watchers are told.


@pytest.mark.parametrize(
    ("fault", "result", "words"),
    [
        (TokenFault("rejected"), "rejected", "the provider refused the token call"),
        (TokenFault("malformed"), "error", "the provider's answer to the token call holds no usable token"),
        (TokenFault("token_expired_on_arrival"), "error", "the provider gave a token that had already ended"),
        (TokenFault("upstream"), "error", "the provider failed in the token call"),
        (TokenFault("timeout"), "timeout", "the provider did not answer the token call in time"),
        (ProxyError("upstream_tls", "x"), "error", "the token call did not get through (upstream_tls)"),
        (ProxyError("upstream_timeout", "x"), "timeout", "the token call did not get through (upstream_timeout)"),
        (KeyError("caller's bytes"), "error", "a fault in Paraf during the token call (KeyError)"),
    ],
)
@in_virtual_time
async def test_a_failure_is_told_in_our_words(fault: Exception, result: str, words: str) -> None:
    bench = Bench()
    bench.provider.faults = [fault]
    first, later = await bench.error(), await bench.error()
    for error in (first, later):
        assert (error.code, error.sent, error.detail) == ("token_unavailable", "no", f"account doku: {words}")
    assert bench.provider.told == [("doku", result, None)]


@pytest.mark.parametrize("kind", ["rejected", "malformed", "upstream"])
@in_virtual_time
async def test_what_the_provider_said_in_numbers_is_passed_on(kind: FaultKind) -> None:
    bench = Bench()
    bench.provider.faults = [TokenFault(kind, provider_status=401, provider_code="4017300")]
    for error in (await bench.error(), await bench.error()):
        assert (error.provider_status, error.provider_code) == (401, "4017300")


@in_virtual_time
async def test_a_call_takes_no_longer_than_patience() -> None:
    bench = Bench(takes=1_000)
    errors = await asyncio.gather(*(bench.error(replace(DOKU, patience=3.0)) for _ in range(5)))
    assert bench.clock.monotonic() == pytest.approx(3.0)
    assert {error.code for error in errors} == {"token_unavailable"}
    await asyncio.sleep(0.1)
    assert bench.provider.results == ["timeout"]


# The store is nobody's concern who has a token.


class Counting(MemoryStore):
    """Counts the steps that are asked of it, and fails them while it is `down`."""

    steps = 0
    down = False

    def __getattribute__(self, name):
        if name in {"get", "claim", "renew", "put", "release", "drop"}:
            self.steps += 1
            if self.down:
                raise StoreFault
        return super().__getattribute__(name)


def counting(bench_clock):
    return Counting(bench_clock.monotonic)


@in_virtual_time
async def test_a_request_with_a_token_asks_nothing_of_the_store() -> None:
    stores: list[Counting] = []
    bench = Bench(store=lambda clock: stores.append(counting(clock)) or stores[-1])
    await bench.get()
    cold = stores[0].steps
    assert cold == 3  # claim, the last look before the call, put
    for _ in range(1_000):
        await bench.get()
    assert stores[0].steps == cold


# Its end.


@in_virtual_time
async def test_closing_gives_up_what_is_under_way() -> None:
    bench = Bench(takes=5)
    waiting = asyncio.create_task(bench.error())
    await asyncio.sleep(0.1)
    await bench.tokens.close()
    assert (await waiting).code == "shutting_down"
    assert len(asyncio.all_tasks()) == 1
    assert bench.provider.told == []


@in_virtual_time
async def test_closing_with_nothing_under_way() -> None:
    bench = Bench()
    await bench.tokens.close()
    await bench.get()
    await bench.tokens.close()
    assert len(asyncio.all_tasks()) == 1
