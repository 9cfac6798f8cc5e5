"""The caller's signature beside ours: in shadow mode requests go out as the caller signed them, and what Paraf would
have sent is worked out afterwards, in a thread, and told by metric and log. No request waits for it or fails of it.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Protocol

from proxy.evidence import at_hand
from proxy.generation import Generation, Lane
from proxy.model import Attempt, Clock, SignedRequest, UpstreamResponse
from proxy.outbound.transport import Patience, Transport
from proxy.signing.diagnose import Diagnosis, diagnose
from proxy.telemetry.labels import ShadowResult
from proxy.telemetry.logs import place

MOST: Final = 64
"""Requests that wait to be compared. What comes beyond is not: it went out all the same."""
_THREAD: Final = ThreadPoolExecutor(1, "shadow")


class Watch(Protocol):
    def shadow(self, route: str, result: ShadowResult) -> None: ...


class Log(Protocol):
    def info(self, event: str, **fields: object) -> object: ...
    def warning(self, event: str, **fields: object) -> object: ...
    def error(self, event: str, **fields: object) -> object: ...


@dataclass(frozen=True, slots=True)
class Shadows:
    """What the shadows of one generation work with."""

    generation: Generation
    clock: Clock
    watch: Watch
    log: Log

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """As requests go through them: in shadow mode without a signature and an id of ours."""
        return {name: _beside(lane) for name, lane in self.generation.lanes.items()}

    def over(self, transports: Mapping[str, Transport]) -> Mapping[str, Transport]:
        """Transports that tell the shadows what was sent."""
        return {name: self._watched(name, transport) for name, transport in transports.items()}

    def _watched(self, name: str, transport: Transport) -> Transport:
        lane = self.generation.lanes[name]
        return Shadowed(transport, self._comparing(lane), self.clock) if lane.bystander else transport

    def _comparing(self, lane: Lane) -> "Comparing":
        known = at_hand(self.generation, lane, {})

        def judge(request: SignedRequest, sent_ms: int) -> Diagnosis:
            assert lane.bystander is not None  # noqa: S101  asked above
            presented = lane.bystander.presented(request, sent_ms)
            return diagnose(lane.binding, lane.route.base, presented, known, work=0)

        return Comparing(lane.route.name, judge, self.watch, self.log)


def _beside(lane: Lane) -> Lane:
    return replace(lane, signer=lane.bystander, new_id=None) if lane.bystander else lane


class Shadowed:
    """A Transport that hands over what may have reached the provider."""

    def __init__(self, transport: Transport, comparing: "Comparing", clock: Clock) -> None:
        self._transport = transport
        self._comparing = comparing
        self._clock = clock

    async def send(self, request: SignedRequest, patience: Patience, attempt: Attempt) -> UpstreamResponse:
        sent_ms = self._clock.now_ms()  # now: the answer may be minutes away, and the time of signing is looked at
        try:
            return await self._transport.send(request, patience, attempt)
        finally:
            if attempt.sent == "maybe":
                self._comparing.begin(request, sent_ms)

    async def close(self) -> None:
        await self._transport.close()


class Comparing:
    """One route's. Every request counts; the log is told when what differs is another thing than before."""

    def __init__(self, route: str, judge: Callable[[SignedRequest, int], Diagnosis], watch: Watch, log: Log) -> None:
        self._route = route
        self._judge = judge
        self._watch = watch
        self._log = log
        self._waiting = 0
        self._told: tuple[str, ...] | None = None

    def begin(self, request: SignedRequest, sent_ms: int) -> None:
        if self._waiting < MOST:
            self._waiting += 1
            work = asyncio.get_running_loop().run_in_executor(_THREAD, self._judge, request, sent_ms)
            work.add_done_callback(self._end)

    def _end(self, work: "asyncio.Future[Diagnosis]") -> None:
        self._waiting -= 1
        if work.cancelled():
            return
        fault = work.exception()
        if fault is not None:
            self._log.error("fault", words=place(fault))
            return
        found = work.result()
        self._watch.shadow(self._route, "same" if found.right else "differs")
        self._tell(found)

    def _tell(self, found: Diagnosis) -> None:
        names = tuple(each.name for each in found.deviations)
        if names == self._told:
            return
        self._told = names
        if found.right:
            self._log.info("shadow", route=self._route, result="same")
            return
        parts = list(dict.fromkeys(each.part for each in found.deviations))
        words = [each.words for each in found.deviations]
        self._log.warning("shadow", route=self._route, result="differs", parts=parts, names=list(names), words=words)
