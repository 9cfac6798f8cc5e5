"""What a store knows of one account, and every step it can take: pure, so that memory and file share it.

Moments are seconds of one clock that everybody who sees the slot shares; 0 is long ago.
"""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from proxy.stores import LEASE, Held, Lease

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A token in the store's own form. `mark` tells tokens apart; `expires_at_ms` as the provider said it."""

    form: T
    mark: str
    ends: float
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Slot(Generic[T]):
    kept: Kept[T] | None = None
    owner: str = ""
    """Of the lease; empty when there is none."""
    fence: int = 0
    leased: float = 0.0
    """Until when."""
    called: float = 0.0
    """When the last lease was given."""
    rests: float = 0.0
    """Nobody gets a lease before."""
    failures: int = 0
    strikes: int = 0
    """Tokens refused early, in a row."""
    struck: bool = False
    """The last token ended by such a refusal."""

    def live(self, now: float) -> Kept[T] | None:
        return self.kept if self.kept and now < self.kept.ends else None

    def claim(self, owner: str, worn: str, gap: float, now: float) -> tuple["Slot[T]", Kept[T] | Lease | Held]:
        """`worn`: the mark of a token that does not serve."""
        kept = self.live(now)
        if kept and kept.mark != worn:
            return self, kept
        again = self.owner == owner and now < self.leased
        if not again and (held := self._held(now)):
            return self, held
        strikes = self.strikes if self.struck else 0
        given = replace(
            self, owner=owner, fence=self.fence + 1, leased=now + LEASE, called=now, rests=now + gap, strikes=strikes
        )
        return given, Lease(owner, given.fence, given.failures)

    def _held(self, now: float) -> Held | None:
        if self.owner and now < self.leased:
            return Held(self.leased - now, "call")
        if now < self.rests:
            return Held(self.rests - now, "failure" if self.failures else "gap")
        return None

    def renew(self, lease: Lease, now: float) -> tuple["Slot[T]", bool]:
        """A lease that ran out and was taken by nobody is as good as ever."""
        return (replace(self, leased=now + LEASE), True) if self._is_of(lease) else (self, False)

    def put(self, lease: Lease, token: Kept[T], now: float) -> tuple["Slot[T]", Kept[T]]:
        mine, kept = self._is_of(lease), self.live(now)
        if not mine and kept and token.expires_at_ms <= kept.expires_at_ms:
            return self, kept
        stored = replace(self, kept=token)
        return (replace(stored, owner="", failures=0, struck=False) if mine else stored), token

    def release(self, lease: Lease, rest: float | None, now: float) -> tuple["Slot[T]", bool]:
        if not self._is_of(lease):
            return self, False
        free = replace(self, owner="")
        if rest is None:
            return free, True
        return replace(free, failures=self.failures + 1, rests=max(self.rests, now + rest)), True

    def drop(self, mark: str, now: float, *, refused: bool = True) -> tuple["Slot[T]", int]:
        kept = self.live(now)
        if not kept or kept.mark != mark:
            return self, 0
        early = refused and now - self.called < kept.ends - now
        strikes = self.strikes + 1 if early else 0
        return replace(self, kept=None, strikes=strikes, struck=early), strikes

    def _is_of(self, lease: Lease) -> bool:
        return (self.owner, self.fence) == (lease.owner, lease.fence)
