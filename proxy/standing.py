"""A generation in service, and what passes from one to the next.

Every request is served by the generation that it began with, to its last byte. What has not changed between two is
shared: places in the gate, what the breaker knows, and the connections to the provider.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Final

from proxy.bounds import Limits
from proxy.errand import Confirm
from proxy.fetch import TokenFetch
from proxy.gate import Gate
from proxy.generation import Generation, Lane
from proxy.inbound.server import Way
from proxy.model import Account, InboundRequest, Secret, Token, UpstreamResponse
from proxy.outbound.transport import Transport
from proxy.shares import limits_of
from proxy.telemetry.ended import Ended
from proxy.telemetry.story import Story

FORMER: Final = 4
"""Replaced secrets of an account that still open its records: more than are replaced in the life of a token."""
_USE: Final = attrgetter("on_way", "generation")


class Standing:
    """`transports` and `sessions`: by route, for calls and for token calls. `under_way`: what began on it and has not
    ended, requests and token calls.
    """

    def __init__(
        self,
        generation: Generation,
        way: Way,
        fetch: TokenFetch,
        transports: Mapping[str, Transport],
        sessions: Mapping[str, Transport],
    ) -> None:
        self.generation = generation
        self.number = generation.number
        self.way = way
        self.fetch = fetch
        self.transports = transports
        self.sessions = sessions
        self.under_way = 0

    @property
    def connections(self) -> list[Transport]:
        return [*self.transports.values(), *self.sessions.values()]


class Succession:
    """The generations in service: the newest, which takes what is new, and those before it that have work to end, until
    it has `ended`.
    """

    newest: Standing

    def __init__(self, ended: Ended) -> None:
        self._up_to_now = ended.flush
        ended.tells.append(self.told)
        self._standing: dict[int, Standing] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def numbers(self) -> list[int]:
        self._up_to_now()
        return sorted(self._standing)

    def follow(self, standing: Standing) -> None:
        """What is new goes to this one from here on."""
        before = self.newest if self._standing else None
        self.newest = standing
        self._standing[standing.number] = standing
        if before is not None:
            self._retire(before)

    def way(self, request: InboundRequest, story: Story) -> Awaitable[UpstreamResponse]:
        """Of the newest, which is in use until the story has ended."""
        newest = self.newest
        newest.under_way += 1
        story.generation, story.on_way = newest.number, True
        return newest.way(request, story)

    def told(self, stories: Iterable[Story]) -> None:
        """Of requests that ended."""
        for (on_way, number), times in Counter(map(_USE, stories)).items():
            if on_way:
                self._ended(number, times)

    def _ended(self, number: int, times: int = 1) -> None:
        standing = self._standing[number]
        standing.under_way -= times
        if standing is not self.newest:
            self._retire(standing)

    @contextmanager
    def using(self, account: Account) -> Iterator[Standing]:
        """While a token is fetched and kept: a reload that takes the account away leaves its credentials until then."""
        standing = self._newest_with(account)
        standing.under_way += 1
        try:
            yield standing
        finally:
            self._ended(standing.number)

    async def fetch(self, account: Account, confirm: Confirm) -> Token:
        """A token call, with the newest credentials of the account."""
        with self.using(account) as standing:  # which may be newer than that of its errand
            return await standing.fetch(account, confirm)

    def store_secrets(self, account: Account) -> tuple[Secret, ...]:
        """The newest first: what was kept with a former one is read until it ends."""
        newest_first = [self._standing[number].generation for number in sorted(self._standing, reverse=True)]
        of_each = [each.store_secrets(account) for each in newest_first if account.identity in each.own_secrets]
        return tuple(dict.fromkeys(secret for secrets in of_each for secret in secrets))

    async def close(self) -> None:
        self._up_to_now()
        for task in tuple(self._closing):
            await task
        for transport in _distinct(self._standing.values()):
            await transport.close()

    def _newest_with(self, account: Account) -> Standing:
        """A request that began before a reload may want the token of a route that is gone."""
        having = (each for each in self._standing.values() if account.identity in each.generation.own_secrets)
        return max(having, key=attrgetter("number"), default=self.newest)

    def _retire(self, standing: Standing) -> None:
        """Its connections go when nothing is under way on it any more, but for those that another has too."""
        if standing.under_way:
            return
        del self._standing[standing.number]
        still = {id(transport) for transport in _distinct(self._standing.values())}
        for transport in _distinct([standing]):
            if id(transport) not in still:
                task = asyncio.get_running_loop().create_task(transport.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)


def _distinct(standing: Iterable[Standing]) -> list[Transport]:
    return list({id(transport): transport for each in standing for transport in each.connections}.values())


Made = Callable[[Lane], Transport]


def connections(
    generation: Generation, before: Standing | None, call: Made, token_call: Made
) -> tuple[Mapping[str, Transport], Mapping[str, Transport]]:
    """Transports and sessions by route: those of `before` where nothing that they depend on has changed."""
    lanes = generation.lanes.items()
    old = before.generation.lanes if before else {}
    transports, sessions = (before.transports, before.sessions) if before else ({}, {})
    kept = {name for name, lane in lanes if name in old and _reach(old[name]) == _reach(lane)}
    calls = {name: transports[name] if name in kept else call(lane) for name, lane in lanes}
    fetching = [(name, lane) for name, lane in lanes if lane.exchange]
    return calls, {name: sessions[name] if name in kept else token_call(lane) for name, lane in fetching}


def _reach(lane: Lane) -> tuple[object, ...]:
    """What connections depend on."""
    return lane.route.base, lane.exchange and lane.exchange.url, lane.route.limits.concurrency, lane.outlet


def same_provider(route: str, one: Generation, other: Generation) -> bool:
    """Is it in both, and leads to the same?"""
    mine, theirs = one.lanes.get(route), other.lanes.get(route)
    return mine is not None and theirs is not None and mine.route.base == theirs.route.base


def succeeding(generation: Generation, before: Generation) -> Generation:
    """With the gates and breakers of the generation before, where their rules have not changed: a request that is under
    way still has its place, and an open circuit stays open. And `remembering` it.
    """
    old = before.lanes
    lanes = {name: _inheriting(lane, old[name]) if name in old else lane for name, lane in generation.lanes.items()}
    return remembering(replace(generation, lanes=lanes), before)


def remembering(generation: Generation, before: Generation) -> Generation:
    """With the secrets that opened records up to now. By account, because tokens outlive any number of reloads."""
    former: dict[tuple[str, ...], tuple[Secret, ...]] = {}
    for account in generation.accounts:
        if account.identity in before.own_secrets:
            now = generation.store_secrets(account)
            replaced = dict.fromkeys(each for each in before.store_secrets(account) if each not in now)
            former[account.identity] = tuple(replaced)[:FORMER]
    return replace(generation, former_secrets=former)


def part_of(generation: Generation, number: int, workers: int) -> Generation:
    """What one worker of several serves: every route with its share of the limits."""
    lanes = {
        name: _limited(lane, limits_of(lane.route.limits, number, workers)) for name, lane in generation.lanes.items()
    }
    return replace(generation, lanes=lanes)


def _limited(lane: Lane, limits: Limits) -> Lane:
    gate = Gate(limits.concurrency, limits.queue, lane.route.timeouts.total)
    return replace(lane, route=replace(lane.route, limits=limits), gate=gate)


def _inheriting(lane: Lane, before: Lane) -> Lane:
    new, old = lane.route, before.route
    gate = before.gate if (new.limits, new.timeouts.total) == (old.limits, old.timeouts.total) else lane.gate
    same = (lane.breaker.rule, new.base) == (before.breaker.rule, old.base)
    return replace(lane, gate=gate, breaker=before.breaker if same else lane.breaker)
