"""A provider of tokens as scripted and several processes that share one store, in virtual time."""

import asyncio
from collections.abc import Callable

import pytest
from virtual_time import VirtualClock

from proxy.errors import ProxyError
from proxy.model import Account, Secret, Token
from proxy.stores import TokenStore
from proxy.stores.memory import MemoryStore
from proxy.tokens import Tokens

DOKU = Account("doku", "doku", "sandbox", "https://api.test/token", "BRN-1")
NETZME = Account("netzme", "netzme", "stage", "https://toko.test/token", "pay", exclusive=True, min_gap=5.0)


class Provider:
    """Answers token calls as scripted: a fault for each time one is due, else a new token of `life` seconds.

    Of an exclusive account it accepts the newest token alone, as Netzme does.
    """

    def __init__(self, clock: VirtualClock, *, life: float = 900.0, takes: float = 0.2) -> None:
        self.clock, self.life, self.takes = clock, life, takes
        self.faults: list[Exception] = []
        self.down: Exception | None = None
        self.calls: list[float] = []
        self.told: list[tuple[str, str, Token | None]] = []
        self.conflicts: list[int] = []
        self.seen: list[Token] = []
        self._live: dict[str, float] = {}

    async def fetch(self, account: Account, confirm) -> Token:
        await confirm()
        self.calls.append(self.clock.monotonic())
        started, number = self.clock.monotonic(), len(self.calls)
        await asyncio.sleep(self.takes / 2)
        fault = self.faults.pop(0) if self.faults else self.down
        issued = None if fault else self.issue(account, number, started)
        await asyncio.sleep(self.takes / 2)
        if fault:
            raise fault
        value, ends, deadline = issued
        return Token(Secret(value), ends, deadline)

    def issue(self, account: Account, number: int, started: float) -> tuple[str, int, float]:
        if account.exclusive:
            self._live.clear()
        value = f"token-{number}"
        self._live[value] = self.clock.monotonic() + self.life
        return value, self.clock.now_ms() + int(self.life * 1000), started + self.life

    def outsider(self) -> None:
        """Somebody else's system fetches with the same client id."""
        self._live.clear()

    def accepts(self, token: Token) -> bool:
        return self.clock.monotonic() < self._live.get(token.value.reveal(), 0.0)

    def fetched(self, account: Account, result: str, token: Token | None) -> None:
        self.told.append((account.name, result, token))

    def kept(self, account: Account, token: Token) -> None:
        self.seen.append(token)

    def conflict(self, account: Account, strikes: int) -> None:
        self.conflicts.append(strikes)

    @property
    def results(self) -> list[str]:
        return [result for _, result, _ in self.told]


class Bench:
    """`tokens` is the first of `processes`; `store` makes the store each of them gets."""

    def __init__(
        self,
        *,
        store: Callable[[VirtualClock], TokenStore] | None = None,
        processes: int = 1,
        jitter: float = 0.0,
        **provider: float,
    ) -> None:
        self.clock = VirtualClock()
        self.provider = Provider(self.clock, **provider)
        shared = MemoryStore(self.clock.monotonic)
        self.processes = [
            Tokens(
                store(self.clock) if store else shared,
                self.provider.fetch,
                self.clock,
                owner=f"process-{number}",
                jitter=lambda: jitter,
                watch=self.provider,
            )
            for number in range(processes)
        ]
        self.tokens = self.processes[0]

    @property
    def calls(self) -> int:
        return len(self.provider.calls)

    async def get(self, account: Account = DOKU, process: int = 0) -> str:
        return (await self.taken(account, process)).value.reveal()

    async def taken(self, account: Account, process: int = 0) -> Token:
        """As the pipeline does it. At hand is never what would not be given."""
        tokens = self.processes[process]
        return tokens.at_hand(account, self.clock.monotonic()) or await tokens.get(account)

    async def error(self, account: Account = DOKU, process: int = 0) -> ProxyError:
        with pytest.raises(ProxyError) as caught:
            await self.processes[process].get(account)
        return caught.value

    async def request(self, account: Account, process: int = 0) -> list[str]:
        """As the pipeline does it: the tokens sent, of which only the last one can have been accepted."""
        token = await self.taken(account, process)
        sent = [token.value.reveal()]
        if not self.provider.accepts(token) and (fresh := await self.processes[process].replace(account, token)):
            sent.append(fresh.value.reveal())
            token = fresh
        assert token.deadline > self.clock.monotonic(), "sent expired"
        return [*sent, "accepted" if self.provider.accepts(token) else "refused"]
