"""Several processes, one store, one provider, in virtual time: who fetches, who waits, and what goes wrong."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from token_bench import DOKU, NETZME, Bench
from virtual_time import VirtualClock, in_virtual_time

from proxy.errors import ProxyError, StoreFault, TokenFault
from proxy.model import Account, Secret, Token
from proxy.stores import LEASE, TokenStore
from proxy.stores.file import FileStore
from proxy.stores.memory import MemoryStore
from proxy.stores.safe import Safe

KEY = Secret("0123456789abcdef")


class Quiet:
    def answered(self) -> None: ...

    def failed(self, reason: str) -> None: ...

    def readable(self, account: Account) -> None: ...

    def unreadable(self, account: Account) -> None: ...


async def inline(step: Callable):
    return step()


def in_files(folder: Path) -> Callable[[VirtualClock], TokenStore]:
    """A store of its own for each process, all on one directory."""
    return lambda clock: FileStore(folder, Safe(lambda _: (KEY,), Quiet()), clock, Quiet(), inline)


class Shaky(MemoryStore):
    """Shared by all processes; `down` answers nobody, `before` and `after` run around a step of that name."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock.monotonic)
        self.down = False
        self.asked = 0

    async def _may(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise StoreFault

    async def claim(self, *args):
        await self._may()
        return await super().claim(*args)

    async def renew(self, *args):
        await self._may()
        return await super().renew(*args)

    async def put(self, *args):
        await self._may()
        return await super().put(*args)

    async def release(self, *args):
        await self._may()
        return await super().release(*args)

    async def drop(self, *args):
        await self._may()
        return await super().drop(*args)


def shaky(processes: int = 2, **ways: float) -> tuple[Bench, Shaky]:
    shared: list[Shaky] = []

    def store(clock: VirtualClock) -> Shaky:
        shared.extend([] if shared else [Shaky(clock)])
        return shared[0]

    return Bench(store=store, processes=processes, **ways), shared[0]


async def everybody(bench: Bench, account: Account, requests: int = 25) -> list[list[str]]:
    each = itertools.product(range(len(bench.processes)), range(requests))
    return await asyncio.gather(*(bench.request(account, process) for process, _ in each))


# One fetch for all.


@pytest.mark.parametrize("account", [DOKU, NETZME], ids=["doku", "netzme"])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_cold_processes_make_one_call(account: Account, kind: str, tmp_path) -> None:
    @in_virtual_time
    async def cold() -> None:
        bench = Bench(processes=4, store=in_files(tmp_path) if kind == "file" else None)
        assert {tuple(sent) for sent in await everybody(bench, account)} == {("token-1", "accepted")}
        assert bench.calls == 1
        assert bench.clock.monotonic() < 0.2 + 0.051  # the call, and the last look of those who waited for it

    cold()


@pytest.mark.parametrize("account", [DOKU, NETZME], ids=["doku", "netzme"])
@in_virtual_time
async def test_a_process_that_starts_later_takes_what_is_there(account: Account) -> None:
    bench = Bench(processes=3)
    await bench.get(account)
    await asyncio.sleep(100)
    assert [await bench.get(account, process) for process in (1, 2)] == ["token-1"] * 2
    assert bench.calls == 1
    assert [token.value.reveal() for token in bench.provider.seen] == ["token-1"] * 3


@in_virtual_time
async def test_refreshed_ahead_by_one_and_taken_over_by_the_others() -> None:
    bench = Bench(processes=4, jitter=0.5)
    got: list[set[str]] = []
    for _ in range(2_000):
        got.append({await bench.get(DOKU, process) for process in range(4)})
        await asyncio.sleep(1)
    assert bench.calls == 3
    assert [names for names, _ in itertools.groupby(got, key=sorted) if len(names) > 1] == []
    assert bench.provider.results == ["ok"] * 3


@in_virtual_time
async def test_all_tokens_expire_at_the_provider_and_every_request_is_repeated_at_most_once() -> None:
    for account in (DOKU, NETZME):
        bench = Bench(processes=4)
        await everybody(bench, account)
        await asyncio.sleep(30)
        bench.provider.outsider()
        sent = await everybody(bench, account)
        assert {tuple(each) for each in sent} == {("token-1", "token-2", "accepted"), ("token-2", "accepted")}
        assert bench.calls == 2
        assert bench.provider.conflicts == []


@in_virtual_time
async def test_at_the_end_of_an_exclusive_token_one_fetches_for_all() -> None:
    bench = Bench(processes=4)
    for _ in range(950):
        sent = await everybody(bench, NETZME, 1)
        assert [each[-1] for each in sent] == ["accepted"] * 4
        await asyncio.sleep(1)
    assert bench.calls == 2


# A holder that dies, or stands still.


class Stoppable:
    """The first process of a bench: killed, or stopped and continued, as signals do it."""

    def __init__(self, bench: Bench, *, before_sending: bool = False) -> None:
        self._fetch, self._store = bench.provider.fetch, bench.tokens._means.store
        self._before_sending = before_sending
        self.dead = False
        self.runs = asyncio.Event()
        self.runs.set()
        bench.tokens._means = replace(bench.tokens._means, fetch=self.fetch, store=self)

    def __getattr__(self, name: str):
        if self.dead:
            raise StoreFault
        return getattr(self._store, name)

    async def renew(self, account: Account, lease) -> bool:
        await self.runs.wait()
        if self.dead:
            raise StoreFault
        return await self._store.renew(account, lease)

    async def fetch(self, account: Account, confirm) -> Token:
        if self._before_sending:
            self.runs.clear()
            await self.runs.wait()
        token = await self._fetch(account, confirm)
        if not self._before_sending and not self.dead:
            self.runs.clear()
            await self.runs.wait()
        return token


@in_virtual_time
async def test_others_recover_when_the_holder_dies_in_its_call() -> None:
    bench = Bench(processes=4, takes=1_000.0)
    holder = Stoppable(bench)
    dying = asyncio.create_task(bench.get(NETZME))
    await asyncio.sleep(1)
    others = [asyncio.create_task(bench.request(NETZME, process)) for process in (1, 2, 3)]
    await asyncio.sleep(1)
    holder.dead, bench.provider.takes = True, 0.2
    dead = bench.clock.monotonic()
    assert [await other for other in others] == [["token-2", "accepted"]] * 3
    assert bench.clock.monotonic() - dead < LEASE + 1
    assert bench.calls == 2
    dying.cancel()
    await bench.tokens.close()


@pytest.mark.parametrize("account", [DOKU, NETZME], ids=["doku", "netzme"])
@in_virtual_time
async def test_a_late_token_gives_way_to_the_newer_one(account: Account) -> None:
    bench = Bench(processes=2)
    holder = Stoppable(bench)
    first = asyncio.create_task(bench.request(account))
    await asyncio.sleep(1)
    assert await bench.request(account, 1) == ["token-2", "accepted"]
    holder.runs.set()
    assert await first == ["token-2", "accepted"]
    assert await bench.request(account, 1) == ["token-2", "accepted"]
    assert bench.calls == 2


@pytest.mark.parametrize("account", [DOKU, NETZME], ids=["doku", "netzme"])
@in_virtual_time
async def test_who_lost_its_lease_before_sending_does_not_send(account: Account) -> None:
    bench = Bench(processes=2)
    holder = Stoppable(bench, before_sending=True)
    first = asyncio.create_task(bench.request(account))
    await asyncio.sleep(1)
    assert await bench.request(account, 1) == ["token-1", "accepted"]
    holder.runs.set()
    assert await first == ["token-1", "accepted"]
    assert bench.calls == 1


@pytest.mark.parametrize("account", [DOKU, NETZME], ids=["doku", "netzme"])
@in_virtual_time
async def test_who_wakes_after_its_own_patience_uses_what_another_fetched(account: Account) -> None:
    bench = Bench(processes=2)
    holder = Stoppable(bench)
    first = asyncio.create_task(bench.request(replace(account, patience=8.0)))
    await asyncio.sleep(2)
    assert await bench.request(account, 1) == ["token-2", "accepted"]
    with pytest.raises(ProxyError, match="no token within 8 s"):
        await first
    holder.runs.set()
    await asyncio.sleep(0.01)
    assert await bench.request(account) == ["token-2", "accepted"]
    assert bench.calls == 2


@in_virtual_time
async def test_a_slow_call_is_renewed_for_and_nobody_else_calls() -> None:
    bench = Bench(processes=3, takes=9.0)
    patient = replace(NETZME, patience=20.0)
    assert {tuple(sent) for sent in await everybody(bench, patient)} == {("token-1", "accepted")}
    assert bench.calls == 1


@in_virtual_time
async def test_a_process_that_ends_in_order_leaves_its_lease() -> None:
    bench = Bench(processes=2, takes=5.0)
    account = replace(DOKU, min_gap=0.5)
    waiting = asyncio.create_task(bench.error(account))
    await asyncio.sleep(1)
    await bench.tokens.close()
    assert (await waiting).code == "shutting_down"
    before = bench.clock.monotonic()
    assert await bench.get(account, 1) == "token-2"
    assert bench.clock.monotonic() - before == pytest.approx(5.0)


# Gap, pause and failure, over all processes.


@in_virtual_time
async def test_the_gap_holds_over_all_processes() -> None:
    bench = Bench(processes=4, life=0.5, takes=0.0)
    for _ in range(300):
        await asyncio.gather(*(bench.get(DOKU, process) for process in range(4)))
        await asyncio.sleep(0.1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(bench.provider.calls)]
    assert min(gaps) >= 1.0 - 1e-9
    assert len(gaps) > 20


@pytest.mark.parametrize("processes", [1, 4, 16])
@in_virtual_time
async def test_an_outage_makes_no_more_calls_for_more_processes(processes: int) -> None:
    bench = Bench(processes=processes, takes=0.0)
    bench.provider.down = ProxyError("upstream_unreachable", "no")

    async def caller(process: int) -> None:
        while bench.clock.monotonic() < 30:
            assert (await bench.error(DOKU, process)).code == "token_unavailable"
            await asyncio.sleep(0.05)

    await asyncio.gather(*(caller(process) for process in range(processes)))
    assert bench.calls <= 8
    bench.provider.down = None
    ended = bench.clock.monotonic()
    while not bench.provider.results.count("ok"):
        await asyncio.gather(*(bench.get(DOKU, process) for process in range(processes)), return_exceptions=True)
        await asyncio.sleep(0.05)
    assert bench.clock.monotonic() - ended < 10.2
    assert set(await asyncio.gather(*(bench.get(DOKU, process) for process in range(processes)))) == {
        f"token-{bench.calls}"
    }


@in_virtual_time
async def test_what_failed_elsewhere_is_told_at_once_and_named_so() -> None:
    bench = Bench(processes=2)
    bench.provider.faults = [TokenFault("rejected", provider_status=401, provider_code="4017300")]
    first, second = await asyncio.gather(bench.error(DOKU, 0), bench.error(DOKU, 1))
    assert (first.provider_status, second.provider_status) == (401, None)
    assert second.detail == "account doku: the token call that another process made has failed"
    assert (first.code, second.code) == ("token_unavailable", "token_unavailable")
    assert second.retry_after == pytest.approx(0.8, abs=0.06)
    assert bench.calls == 1


@in_virtual_time
async def test_retry_after_holds_for_all() -> None:
    bench = Bench(processes=3)
    bench.provider.faults = [TokenFault("upstream", retry_after=30.0, provider_status=429)]
    await bench.error()
    while bench.clock.monotonic() < 30.1:
        for process in range(3):
            await bench.error(DOKU, process)
        await asyncio.sleep(0.25)
    assert bench.calls == 1
    await asyncio.sleep(0.2)
    assert await bench.get(DOKU, 2) == "token-2"


# A fight.


@in_virtual_time
async def test_a_fight_with_an_outsider_is_one_call_in_a_gap_and_told() -> None:
    bench = Bench(processes=3, takes=0.1)
    outcomes: list[list[str]] = []

    async def outsider() -> None:
        """Fetches as soon as it is refused, which is as soon as we have fetched."""
        while bench.clock.monotonic() < 60:
            await asyncio.sleep(0.7)
            bench.provider.outsider()

    async def caller(process: int) -> None:
        while bench.clock.monotonic() < 60:
            outcomes.append(await bench.request(NETZME, process))
            await asyncio.sleep(0.1)

    await asyncio.gather(outsider(), *(caller(process) for process in range(3)))
    gaps = [later - earlier for earlier, later in itertools.pairwise(bench.provider.calls)]
    assert min(gaps) >= NETZME.min_gap - 1e-9
    assert all(len(sent) <= 3 for sent in outcomes)
    assert bench.provider.conflicts[0] == 2
    assert bench.provider.conflicts == list(range(2, 2 + len(bench.provider.conflicts)))
    assert len(bench.provider.conflicts) >= 8


@in_virtual_time
async def test_a_single_refusal_is_no_fight() -> None:
    bench = Bench(processes=2)
    for _ in range(5):
        await everybody(bench, NETZME, 2)
        bench.provider.outsider()
        await asyncio.sleep(600)  # past the first half of its life
    assert bench.provider.conflicts == []


# The store is down.


@pytest.mark.parametrize("account", [DOKU, NETZME], ids=["doku", "netzme"])
@in_virtual_time
async def test_kept_tokens_work_until_they_end_and_then_nothing_is_fetched(account: Account) -> None:
    bench, store = shaky(life=100.0)
    await everybody(bench, account)
    store.down = True
    while bench.clock.monotonic() < 97:
        assert {sent[-1] for sent in await everybody(bench, account, 2)} == {"accepted"}
        await asyncio.sleep(0.5)
    await asyncio.sleep(5)
    for process in (0, 1):
        error = await bench.error(account, process)
        assert (error.code, error.kind.status, error.sent) == ("store_unavailable", 503, "no")
        assert error.retry_after
        assert 0 < error.retry_after <= 1
    assert bench.calls == 1


@in_virtual_time
async def test_a_store_that_is_down_is_asked_once_a_second_however_many_want_it() -> None:
    bench, store = shaky(processes=1)
    store.down = True
    while bench.clock.monotonic() < 30:
        await asyncio.gather(*(bench.error() for _ in range(20)))
        await asyncio.sleep(0.05)
    assert store.asked <= 31


@pytest.mark.parametrize("account", [DOKU, NETZME], ids=["doku", "netzme"])
@in_virtual_time
async def test_when_the_store_comes_back_one_call_serves_all(account: Account) -> None:
    bench, store = shaky(processes=4)
    store.down = True
    told: set[str] = set()

    async def caller(process: int) -> str:
        while True:
            try:
                return await bench.get(account, process)
            except ProxyError as error:
                told.add(error.code)
            await asyncio.sleep(0.05)

    callers = [asyncio.create_task(caller(process)) for process in range(4) for _ in range(10)]
    await asyncio.sleep(30)
    assert bench.calls == 0
    store.down = False
    assert {await caller for caller in callers} == {"token-1"}
    assert bench.clock.monotonic() < 32
    assert (bench.calls, told) == (1, {"store_unavailable"})


@in_virtual_time
async def test_a_refused_token_is_not_replaced_while_the_store_is_down() -> None:
    bench, store = shaky()
    await everybody(bench, NETZME)
    await asyncio.sleep(30)
    store.down = True
    bench.provider.outsider()
    outcomes = await asyncio.gather(*(bench.request(NETZME) for _ in range(20)), return_exceptions=True)
    assert outcomes[0] == ["token-1", "refused"]
    assert {getattr(outcome, "code", "refused") for outcome in outcomes} == {"refused", "store_unavailable"}
    assert (await bench.error(NETZME)).code == "store_unavailable"
    assert bench.calls == 1
    store.down = False
    await asyncio.sleep(1)
    assert {sent[-1] for sent in await everybody(bench, NETZME)} == {"accepted"}
    assert bench.calls == 2


@in_virtual_time
async def test_a_token_that_could_not_be_stored_is_stored_later_and_not_fetched_again() -> None:
    bench, store = shaky(takes=2.0)
    fetching = asyncio.create_task(bench.get(NETZME))
    await asyncio.sleep(1)
    store.down = True
    assert await fetching == "token-1"
    await asyncio.sleep(20)
    store.down = False
    await asyncio.sleep(1.1)
    assert await bench.request(NETZME, 1) == ["token-1", "accepted"]
    assert bench.calls == 1
    await bench.tokens.close()


@in_virtual_time
async def test_who_could_not_store_uses_what_another_fetched_meanwhile() -> None:
    bench, store = shaky(takes=2.0)
    fetching = asyncio.create_task(bench.get(NETZME))
    await asyncio.sleep(1)
    store.down = True
    assert await fetching == "token-1"
    bench.provider.takes = 0.1
    await asyncio.sleep(10.05)
    store.down = False
    assert await bench.request(NETZME, 1) == ["token-2", "accepted"]
    await asyncio.sleep(1.1)
    assert await bench.request(NETZME) == ["token-2", "accepted"]
    assert bench.calls == 2
    await bench.tokens.close()


@in_virtual_time
async def test_no_call_goes_out_that_the_store_did_not_confirm() -> None:
    bench, store = shaky(processes=1)
    claim = store.claim

    async def last_word(*args):
        said = await claim(*args)
        store.down = True
        return said

    store.claim = last_word
    assert (await bench.error()).code == "store_unavailable"
    assert bench.calls == 0


# Clocks.


@pytest.mark.parametrize("account", [DOKU, replace(NETZME, min_gap=5.0)], ids=["doku", "netzme"])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_ten_minutes_of_a_wall_clock_that_jumps_by_hours(account: Account, kind: str, tmp_path) -> None:
    @in_virtual_time
    async def jumping() -> None:
        bench = Bench(processes=3, life=120.0, store=in_files(tmp_path) if kind == "file" else None)
        step = 0
        while bench.clock.monotonic() < 600:
            bench.clock.wall_offset_ms += 3_600_000 * (1, -1, -1, 1)[step % 4]
            step += 1
            assert {sent[-1] for sent in await everybody(bench, account, 2)} == {"accepted"}
            await asyncio.sleep(0.9)
        lives = 600 / (120 if account.exclusive else 60)
        assert bench.calls <= lives + 1
        assert bench.provider.results == ["ok"] * bench.calls

    jumping()
