"""A request's way: match, strip, hold, token, sign, forward, heal. The order is the point.

The body is held before anything is asked of a provider; the signature is made after every wait, from one reading of
the clock; a refused token is healed once; nothing else that may have reached a provider is sent again.

A place in the gate is held to the last byte of the answer, not to its head. Until then a connection of the provider
is in use: given up at the head, a few hundred slow readers would fill the pool, and the next request would fail with
a time-out that looks like the provider's. What fits the buffers (128 KiB) is taken at once, however slow the caller.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from proxy.breaker import FAULTS, Trial, Verdict, verdict_on
from proxy.deadline import Task
from proxy.errors import ProxyError
from proxy.gate import RETRY_AFTER
from proxy.generation import Lane
from proxy.headers import date_ms, texts, value_of
from proxy.model import Attempt, Clock, Fields, InboundRequest, Token, UpstreamResponse
from proxy.outbound.held import CopiedResponse, Ending, FollowedResponse, HeldResponse
from proxy.outbound.transport import Transport
from proxy.recent import Inquest
from proxy.sealing import seal
from proxy.signing.refusal import HOLD, inflated, parsed
from proxy.signing.refusal import Verdict as Meaning
from proxy.signing.signer import Call
from proxy.telemetry.labels import AttemptReason
from proxy.telemetry.story import Stage, Story
from proxy.tokens import Tokens


class Watch(Protocol):
    """What the pipeline tells while a request is on its way."""

    def arrived(self, route: str) -> None: ...
    def attempt(self, attempt: tuple[str, AttemptReason]) -> None: ...
    def skew(self, route: str, seconds: float) -> None: ...


LARGE: Final = 65_536
"""Bytes of a body from which on its canonical form is made in a thread: a megabyte takes some 20 ms minified and up to
a second sorted, and others are to be served meanwhile."""
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
    """One request on its way: where it goes, what was admitted, what is known of its last answer.

    `asked`: the provider is waited for, or failed to answer. `healing`: a token was refused before.
    """

    lane: Lane
    call: Call
    story: Story
    task: Task
    """Its own; `timeouts.total` is running for it."""
    refused: bool = False
    asked: bool = False
    healing: bool = False

    @property
    def new_id_on_repeat(self) -> bool:
        wanted = self.lane.signer.external_id
        return wanted is not None and wanted.on_repeat == "new"


@dataclass(frozen=True, slots=True)
class Pipeline:
    match: Callable[[InboundRequest], tuple[Lane, str]]
    """The lane of a request and the provider's target; raises ProxyError."""
    transports: Mapping[str, Transport]
    """By route name."""
    tokens: Tokens
    clock: Clock
    watch: Watch
    circuit: Callable[[Lane], None]
    """Told of a lane when its circuit has changed."""
    propagate: bool = False
    """Is the trace of a request sent on to the provider?"""
    inquest: Inquest | None = None
    """What is kept of a refused request, for lanes that remember some."""
    looked: dict[str, int] = field(default_factory=dict)
    """By route, the newest second of the monotonic clock of which an answer's Date was read."""

    async def handle(self, request: InboundRequest, story: Story) -> UpstreamResponse:
        lane, target = self.match(request)
        story.route = lane.route.name
        self.watch.arrived(story.route)
        if lane.callers is not None:
            story.caller = lane.callers.recognise(request)
        task = lane.deadline.begin()
        try:
            body = request.whole(lane.route.limits.body)
            if body is None:
                body = await request.hold(lane.route.limits.body)
            if len(body) > LARGE:
                call = await asyncio.to_thread(_admitted, lane, request, target, body)
            else:
                call = _admitted(lane, request, target, body)
            if self.propagate and story.trace is not None and lane.bystander is None:
                call = call._replace(headers=(*call.headers, *story.trace.headers()))
            return await self._inside(Passage(lane, call, story, task))
        except asyncio.CancelledError:
            if not lane.deadline.passed(task):
                raise
            raise _overdue(story) from None
        except ProxyError as error:
            error.sent = story.sent  # of every attempt, not of the last alone
            raise
        finally:
            lane.deadline.end(task)

    async def _inside(self, passage: Passage) -> UpstreamResponse:
        """Go through gate and breaker, which are left once: now, or when the answer has ended."""
        lane = passage.lane
        trial = lane.breaker.usual
        if trial is None or not lane.gate.taken():
            passage.story.stage = "queue"
            trial = await self._enter(lane)
        try:
            self._name(passage)
            token = None
            if passage.call.aim.scheme.token:
                token = self._at_hand(passage) or await self._token(passage)
            reply = await self._send(passage, token, "first")
            if passage.refused and token is not None:
                reply = await self._heal(passage, token, reply)
        except BaseException as error:
            self._leave(lane, trial, _blame(error, passage))
            raise
        if reply.whole() is not None:
            self._leave(lane, trial, verdict_on(reply.status))
            return reply
        return FollowedResponse(reply, lambda ending: self._leave(lane, trial, _verdict(reply.status, ending)))

    async def _enter(self, lane: Lane) -> Trial:
        """The breaker is asked twice: nobody waits in line for an open one, and it may open meanwhile."""
        lane.breaker.check(self.clock.monotonic())
        await lane.gate.enter()
        try:
            trial = lane.breaker.enter(self.clock.monotonic())
        except ProxyError:
            lane.gate.leave()
            raise
        if trial.is_probe:
            self.circuit(lane)
        return trial

    def _leave(self, lane: Lane, trial: Trial, verdict: Verdict) -> None:
        if lane.breaker.settle(trial, verdict, self.clock.monotonic()):
            self.circuit(lane)
        lane.gate.leave()

    def _name(self, passage: Passage) -> None:
        """Where the provider wants an external id and the caller sent none: one is made, and the caller is told."""
        lane = passage.lane
        if lane.new_id is not None and passage.call.external_id is None:
            passage.story.external_id = lane.new_id(self.clock.now_ms())

    async def _heal(self, passage: Passage, refused: Token, reply: UpstreamResponse) -> UpstreamResponse:
        """Once more: the provider refused the token before acting."""
        fresh = await self._fresh_token(passage, refused, reply)
        if fresh is None:
            return reply
        await reply.close()
        passage.healing = True
        if passage.new_id_on_repeat:
            self._name(passage)
        return await self._send(passage, fresh, "healed")

    def _at_hand(self, passage: Passage) -> Token | None:
        now = self.clock.monotonic
        began = now()
        token = self.tokens.at_hand(passage.lane.account, began)
        if token is not None:
            passage.story.token = now() - began
        return token

    async def _token(self, passage: Passage) -> Token:
        story, began = passage.story, self.clock.monotonic()
        story.stage = "token"
        try:
            return await self.tokens.get(passage.lane.account)
        finally:
            story.token += self.clock.monotonic() - began

    async def _fresh_token(self, passage: Passage, refused: Token, reply: UpstreamResponse) -> Token | None:
        """None when there is none to be had in time: then the refusal itself is the answer, and it is at hand."""
        deadline = passage.lane.deadline
        due = deadline.lift(passage.task)
        passage.story.stage, began = "token", self.clock.monotonic()
        try:
            async with asyncio.timeout_at(due):
                fresh = await self.tokens.replace(passage.lane.account, refused)
        except TimeoutError:
            return None
        except BaseException:
            await reply.close()
            raise
        finally:
            passage.story.token += self.clock.monotonic() - began
        deadline.resume(passage.task)
        return fresh

    async def _send(self, passage: Passage, token: Token | None, reason: AttemptReason) -> UpstreamResponse:
        """One attempt; a connect that failed before a byte was written is tried once more, signed anew."""
        lane, call, story = passage.lane, passage.call, passage.story
        now, attempt, refusals = self.clock.monotonic, Attempt(), lane.refusals
        began = now()
        external_id = call.external_id or story.external_id
        if call.aim.scheme.quick is not None:
            signed = lane.signer.signed(call, token, self.clock.now_ms(), external_id)
        else:
            story.stage = "sign"
            signed = await seal(lane.signer.draft(call, token, self.clock.now_ms(), external_id), lane.keys)
        sent = now()
        story.sign += sent - began
        story.attempts.append(attempt)
        story.stage, passage.asked = "upstream", True
        try:
            answer: UpstreamResponse = await self.transports[story.route].send(signed, lane.patience, attempt)
            plain = refusals.plain.get(answer.status)
            if plain is None and refusals.wants(answer.status):
                answer = await _held(answer)
        except ProxyError as error:
            if error.code != "upstream_unreachable" or error.sent != "no" or reason == "reconnect":
                raise
        else:
            passage.asked = False
            if lane.remembers and self.inquest is not None:
                story.refusal = self.inquest(lane, call, signed, answer)
            return self._judge(passage, answer, plain, int(sent))
        finally:
            story.upstream += now() - sent
            if attempt.sent == "maybe":
                self.watch.attempt((story.route, reason))
        return await self._send(passage, token, "reconnect")

    def _judge(
        self, passage: Passage, answer: UpstreamResponse, plain: Meaning | None, second: int
    ) -> UpstreamResponse:
        """Read of an answer what the way ahead and the log need; the caller still gets every byte.

        `second`: of the monotonic clock, when it was asked for.
        """
        story = passage.story
        story.provider_status = answer.status
        if second > self.looked.get(story.route, -1):  # a Date has whole ones: one in each is enough
            self.looked[story.route] = second
            self._look_at(story.route, answer)
        if plain is None:
            return self._judge_body(passage, answer)
        passage.refused = False
        story.provider_code, story.code_class = plain.code, plain.code_class
        story.outcome = "healed" if passage.healing else "forwarded"
        return answer

    def _judge_body(self, passage: Passage, answer: UpstreamResponse) -> UpstreamResponse:
        story, refusals = passage.story, passage.lane.refusals
        held = answer.whole() if refusals.wants(answer.status) else None
        verdict = refusals.judge(answer.status, None if held is None else _said(answer.fields, held))
        passage.refused = verdict.refused and held is not None
        story.understood(verdict.code, verdict.code_class)
        story.outcome = "refused" if passage.refused else "healed" if passage.healing else "forwarded"
        return answer if held is not None or not refusals.reads(answer.status) else _overheard(answer, passage)

    def _look_at(self, route: str, answer: UpstreamResponse) -> None:
        """How far the provider's clock is from ours."""
        there_ms = date_ms(texts(answer.fields))
        if there_ms is not None:
            self.watch.skew(route, there_ms / 1000 - self.clock.now_ms() // 1000)


def _admitted(lane: Lane, request: InboundRequest, target: str, body: bytes) -> Call:
    return lane.signer.admit(request.method, target, request.names, request.headers, body)


async def _held(answer: UpstreamResponse) -> HeldResponse:
    held = HeldResponse(answer, HOLD)
    await held.hold()
    return held


def _overheard(answer: UpstreamResponse, passage: Passage) -> UpstreamResponse:
    """Its code is read while it passes: the caller does not wait for it."""

    def read(body: bytes) -> None:
        verdict = passage.lane.refusals.judge(answer.status, _said(answer.fields, body))
        passage.story.understood(verdict.code, verdict.code_class)

    return CopiedResponse(answer, HOLD, read)


def _said(fields: Fields, body: bytes) -> Any:
    """The JSON value of an answer, as far as it can be read."""
    readable = inflated(body, value_of(texts(fields), "Content-Encoding"))
    return parsed(readable) if readable else None


def _overdue(story: Story) -> ProxyError:
    code, detail = OVERDUE[story.stage]
    words, wait = f"{detail} before the route's `timeouts.total`", RETRY_AFTER if code == "overloaded" else None
    return ProxyError(code, words, sent=story.sent, retry_after=wait)


def _blame(error: BaseException, passage: Passage) -> Verdict:
    """Is it the provider's doing? `timeouts.total` is, if it passed while the provider was waited for."""
    if isinstance(error, ProxyError):
        return "fault" if error.code in FAULTS else "unknown"
    return "fault" if passage.asked and passage.lane.deadline.is_over(passage.task) else "unknown"


def _verdict(status: int, ending: Ending) -> Verdict:
    """Given up at or after its head, a good answer proves nothing: its body may have been a long time coming."""
    if ending == "broken off" or verdict_on(status) == "fault":
        return "fault"
    return "alive" if ending == "whole" else "unknown"
