"""A request's way: match, strip, hold, token, sign, forward, heal. The order is the point.

The body is held before anything is asked of a provider; the signature is made after every wait, from one reading of
the clock; a refused token is healed once; nothing else that may have reached a provider is sent again.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

from proxy.deadline import Limit
from proxy.errors import ProxyError
from proxy.gate import RETRY_AFTER
from proxy.generation import Lane
from proxy.headers import value_of
from proxy.ids import external_id
from proxy.model import Attempt, Clock, InboundRequest, Token, UpstreamResponse
from proxy.outbound.held import HeldResponse
from proxy.outbound.transport import Transport
from proxy.sealing import seal
from proxy.signing.refusal import HOLD, inflated, parsed
from proxy.signing.signer import Call
from proxy.telemetry.labels import AttemptReason
from proxy.telemetry.story import Phase, Stage, Story
from proxy.tokens import Tokens


class Watch(Protocol):
    """What the pipeline tells while a request is on its way."""

    def arrived(self, route: str) -> None: ...
    def attempt(self, route: str, reason: AttemptReason) -> None: ...
    def skew(self, route: str, seconds: float) -> None: ...


OVERDUE: Final[dict[Stage, tuple[str, str]]] = {
    "hold": ("request_timeout", "the body did not arrive"),
    "queue": ("overloaded", "no turn came on this route"),
    "token": ("token_unavailable", "no access token came"),
    "sign": ("upstream_timeout", "the request was not signed"),
    "upstream": ("upstream_timeout", "the provider did not answer"),
}
"""What was waited for when time ran out: that is the answer to why."""


@dataclass(slots=True)
class Passage:
    """One request on its way: where it goes, what was admitted, what is known of its last answer."""

    lane: Lane
    call: Call
    story: Story
    clock: Clock
    limit: Limit
    """`timeouts.total`, running."""
    refused: bool = False

    @property
    def new_id_on_repeat(self) -> bool:
        wanted = self.lane.signer.external_id
        return wanted is not None and wanted.on_repeat == "new"

    def begin(self, stage: Stage) -> float:
        self.story.stage = stage
        return self.clock.monotonic()

    def end(self, phase: Phase, began: float) -> None:
        self.story.spent(phase, self.clock.monotonic() - began)


@dataclass(frozen=True, slots=True)
class Pipeline:
    match: Callable[[InboundRequest], tuple[Lane, str]]
    """The lane of a request and the provider's target; raises ProxyError."""
    transports: Mapping[str, Transport]
    """By route name."""
    tokens: Tokens
    clock: Clock
    watch: Watch
    dates: dict[str, str] = field(default_factory=dict)
    """By route, the Date of its newest answer: many come in one second."""

    async def handle(self, request: InboundRequest, story: Story) -> UpstreamResponse:
        lane, target = self.match(request)
        story.route = lane.route.name
        self.watch.arrived(story.route)
        try:
            with lane.deadline.within() as limit:
                body = await request.hold(lane.route.limits.body)
                call = lane.signer.admit(request.method, target, request.headers, body)
                story.stage = "queue"
                async with lane.gate.entered():
                    return await self._forward(Passage(lane, call, story, self.clock, limit))
        except TimeoutError:
            code, detail = OVERDUE[story.stage]
            words, wait = f"{detail} before the route's `timeouts.total`", RETRY_AFTER if code == "overloaded" else None
            raise ProxyError(code, words, sent=story.sent, retry_after=wait) from None
        except ProxyError as error:
            error.sent = story.sent  # of every attempt, not of the last alone
            raise

    async def _forward(self, passage: Passage) -> UpstreamResponse:
        """Token, sign, send; and once more if the provider refused the token before acting."""
        external_id = self._external_id(passage)
        token = await self._token(passage)
        reply = await self._send(passage, token, external_id, "first")
        if not passage.refused or token is None:
            return reply
        fresh = await self._fresh_token(passage, token, reply)
        if fresh is None:
            return reply
        await reply.close()
        if passage.new_id_on_repeat:
            external_id = self._external_id(passage)
        return await self._send(passage, fresh, external_id, "healed")

    async def _token(self, passage: Passage) -> Token | None:
        if not passage.call.scheme.token:
            return None
        began = passage.begin("token")
        try:
            return await self.tokens.get(passage.lane.account)
        finally:
            passage.end("token", began)

    async def _fresh_token(self, passage: Passage, refused: Token, reply: UpstreamResponse) -> Token | None:
        """None when there is none to be had in time: then the refusal itself is the answer, and it is at hand."""
        passage.limit.lift()
        began = passage.begin("token")
        try:
            async with asyncio.timeout_at(passage.limit.due):
                fresh = await self.tokens.replace(passage.lane.account, refused)
        except TimeoutError:
            return None
        except BaseException:
            await reply.close()
            raise
        finally:
            passage.end("token", began)
        passage.limit.resume()
        return fresh

    def _external_id(self, passage: Passage) -> str | None:
        """The caller's own, or one made here, which the caller is told of."""
        wanted = passage.lane.signer.external_id
        if wanted is None or passage.call.external_id is not None:
            return passage.call.external_id
        made = external_id(wanted.format, length=wanted.length, prefix=wanted.prefix, now_ms=self.clock.now_ms())
        passage.story.external_id = made
        return made

    async def _send(
        self, passage: Passage, token: Token | None, external_id: str | None, reason: AttemptReason
    ) -> UpstreamResponse:
        """One attempt; a connect that failed before a byte was written is tried once more, signed anew."""
        try:
            return await self._attempt(passage, token, external_id, reason)
        except ProxyError as error:
            if error.code != "upstream_unreachable" or error.sent != "no":
                raise
        return await self._attempt(passage, token, external_id, "reconnect")

    async def _attempt(
        self, passage: Passage, token: Token | None, external_id: str | None, reason: AttemptReason
    ) -> UpstreamResponse:
        lane, story = passage.lane, passage.story
        began = passage.begin("sign")
        draft = lane.signer.draft(passage.call, token, self.clock.now_ms(), external_id)
        signed = await seal(draft, lane.keys)
        passage.end("sign", began)
        attempt = Attempt()
        story.attempts.append(attempt)
        began = passage.begin("upstream")
        try:
            answer = await self.transports[story.route].send(signed, lane.patience, attempt)
            held = await _held(answer) if lane.refusals.wants(answer.status) else None
        finally:
            passage.end("upstream", began)
            if attempt.sent == "maybe":
                self.watch.attempt(story.route, reason)
        self._judge(passage, answer, _said(held) if held else None, reason)
        return held or answer

    def _judge(self, passage: Passage, answer: UpstreamResponse, said: Any, reason: AttemptReason) -> None:
        """Read of an answer what the way ahead and the log need; the caller still gets every byte."""
        story = passage.story
        verdict = passage.lane.refusals.judge(answer.status, said)
        passage.refused = verdict.refused
        story.provider_status, story.provider_code = answer.status, verdict.code
        story.code_class = verdict.code_class
        story.outcome = "refused" if verdict.refused else "healed" if reason == "healed" else "forwarded"
        self._look_at_date(story.route, value_of(answer.headers, "Date"))

    def _look_at_date(self, route: str, date: str | None) -> None:
        if date is None or date == self.dates.get(route):
            return
        self.dates[route] = date
        if (skew := _skew(date, self.clock.now_ms())) is not None:
            self.watch.skew(route, skew)


async def _held(answer: UpstreamResponse) -> HeldResponse:
    held = HeldResponse(answer, HOLD)
    await held.hold()
    return held


def _said(held: HeldResponse) -> Any:
    """The JSON value of a held answer, as far as it can be read."""
    body = held.whole()
    readable = inflated(body, value_of(held.headers, "Content-Encoding")) if body else None
    return parsed(readable) if readable else None


def _skew(date: str, now_ms: int) -> float | None:
    """Seconds by which the provider's clock is ahead of ours; a Date header has whole seconds."""
    try:
        return parsedate_to_datetime(date).timestamp() - now_ms // 1000
    except (ValueError, OverflowError):
        return None
