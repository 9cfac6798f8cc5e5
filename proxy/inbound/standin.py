"""A stand-in for a provider's token endpoint: a program that logs in by itself gets a token of no use elsewhere.

What it sends with that token is signed as ever: the caller's Authorization is never passed on.
"""

import json
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from proxy.errors import ProxyError
from proxy.generation import Lane
from proxy.inbound.server import Way
from proxy.inbound.ways import match
from proxy.model import Clock, Fields, InboundRequest, UpstreamResponse
from proxy.routes import RouteTable
from proxy.signing.profile import Profile, TokenAnswer
from proxy.telemetry.story import Story

WORDS: Final = "a stand-in token of this process"


class Watch(Protocol):
    def arrived(self, route: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An UpstreamResponse that was made here."""

    body: bytes
    status: int = 200
    reason: bytes = b"OK"

    @property
    def fields(self) -> Fields:
        names = b"Content-Type", b"Content-Length", b"Cache-Control"
        return names, (b"application/json", b"%d" % len(self.body), b"no-store")

    def whole(self) -> bytes:
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body

    async def close(self) -> None:
        """Nothing is held."""


class StandIns:
    """In front of `way`, for the routes that say `token_standin`: by prefix, by Host and by absolute target alike."""

    def __init__(
        self, lanes: Mapping[str, Lane], allowed_hosts: Iterable[str], way: Way, clock: Clock, watch: Watch
    ) -> None:
        self._lanes = lanes
        self._way = way
        self._clock = clock
        self._watch = watch
        self._token = f"paraf-standin-{secrets.token_hex(24)}"
        # The table of all routes, but where a stand-in answers the target is that of the token base, and no rule of
        # `allow` is asked: nothing leaves.
        moved = (replace(lane.route, base=lane.standin or lane.route.base, allow=()) for lane in lanes.values())
        self._table = RouteTable(moved, allowed_hosts)
        self._ends = tuple({_path(lane.profile) for lane in lanes.values() if lane.standin})

    async def handle(self, request: InboundRequest, story: Story) -> UpstreamResponse:
        lane = self._asked(request) if request.target.partition("?")[0].endswith(self._ends) else None
        if lane is None or lane.profile.token is None:
            return await self._way(request, story)
        story.route, story.detail = lane.route.name, WORDS
        self._watch.arrived(story.route)
        if lane.callers is not None:
            story.caller = lane.callers.recognise(request)
        await request.hold(lane.route.limits.body)
        story.outcome = "forwarded"
        return Answer(token_answer(lane.profile.token.answer, self._token, self._clock.now_ms()))

    def _asked(self, request: InboundRequest) -> Lane | None:
        """The lane whose token call this is. What cannot be matched is refused by the way itself."""
        try:
            found = match(self._table, request)
        except ProxyError:
            return None
        lane = self._lanes[found.route.name]
        call = lane.profile.token
        if lane.standin is None or call is None or request.method != call.endpoint.method:
            return None
        return lane if found.target.partition("?")[0] == lane.standin.path + _path(lane.profile) else None


def with_standins(lanes: Mapping[str, Lane], allowed_hosts: Iterable[str], way: Way, clock: Clock, watch: Watch) -> Way:
    """`way` itself when no route has a stand-in."""
    if not any(lane.standin for lane in lanes.values()):
        return way
    return StandIns(lanes, allowed_hosts, way, clock, watch).handle


def token_answer(told: TokenAnswer, token: str, now_ms: int) -> bytes:
    """What the provider would answer, with this token; its life is the usual one."""
    life = int(told.default_lifetime)
    usual = {told.type: "Bearer", told.lifetime: life, told.expires_at_ms: now_ms + life * 1000}
    members: dict[str, Any] = {}
    for path, value in (usual | dict(told.standin) | {told.token: token}).items():
        if path:
            _put(members, path, value)
    return json.dumps(members).encode()


def _put(members: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        below = members.get(name)
        if not isinstance(below, dict):
            below = members[name] = {}
        members = below
    members[last] = value


def _path(profile: Profile) -> str:
    return profile.token.endpoint.target.partition("?")[0] if profile.token else ""
