"""OpenTelemetry spans of a request: server, token, sign, upstream. Imported only when `trace.otlp` is set.

They are made when the request is over, from what its story tells, so that nothing waits for them on its way. Beside
the address all is as the SDK has it: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_* and the like.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from proxy.telemetry.labels import method_label
from proxy.telemetry.story import Phase, Story
from proxy.telemetry.traceparent import Trace

FAREWELL: Final = 2.0
"""Seconds that the end of Paraf waits for its last spans."""
_KINDS: Final = {"token": SpanKind.INTERNAL, "sign": SpanKind.INTERNAL, "upstream": SpanKind.CLIENT}
_CHANCE: Final = random.Random()  # noqa: S311 -- ids are to be unique, not secret
os.register_at_fork(after_in_child=_CHANCE.seed)


def _id(bits: int) -> int:
    return _CHANCE.getrandbits(bits) or 1


def _noted(phase: Phase) -> Any:
    """A phase of a story, in which each time that is added is a step that ends now."""

    def told(story: "TracedStory") -> float:
        return float(vars(story).get(phase, 0.0))

    def add(story: "TracedStory", seconds: float) -> None:
        now = time.monotonic()
        if (more := seconds - told(story)) > 0:
            story.steps.append((phase, now - more, now))
        vars(story)[phase] = seconds

    return property(told, add)


class TracedStory(Story):
    """Knows when each phase was, and has a span of its own from the start: log lines and the provider may name it.

    `steps`: phase, start and end in seconds of the monotonic clock.
    """

    token = _noted("token")
    sign = _noted("sign")
    upstream = _noted("upstream")

    def __init__(self, request_id: str, method: str, started: float, generation: int = 1) -> None:
        self.steps: list[tuple[Phase, float, float]] = []
        Story.__init__(self, request_id, method, started, generation)
        self.trace = Trace(f"{_id(128):032x}", f"{_id(64):016x}", sampled=True)

    def follow(self, trace: Trace | None) -> None:
        if trace is not None:
            self.trace = replace(trace, span_id=f"{_id(64):016x}", parent_id=trace.span_id)


class _Given(IdGenerator):
    """Gives the ids that a story has already, and new ones for what is below it."""

    def __init__(self) -> None:
        self.trace = self.span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        given, self.span = self.span, 0
        return given or _id(64)

    def is_trace_id_random(self) -> bool:
        return True


class Traces:
    """`endpoint`: the collector's base, to which `/v1/traces` is added, as for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self, endpoint: str, version: str) -> None:
        self._ids = _Given()
        named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "paraf"), "service.version": version}
        resource = Resource.create(named)
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("paraf", version)

    def told(self, story: Story) -> None:
        if not isinstance(story, TracedStory) or story.trace is None:
            return
        offset = time.time() - time.monotonic()
        span = self._server(story, story.trace, offset)
        if span.is_recording():
            for phase, began, ended in story.steps:
                self._step(story, phase, span, (_ns(began + offset), _ns(ended + offset)))
        span.end(_ns(story.started + story.total + offset))

    def _server(self, story: Story, trace: Trace, offset: float) -> Span:
        self._ids.trace, self._ids.span = int(trace.trace_id, 16), int(trace.span_id, 16)
        span = self._tracer.start_span(
            f"{method_label(story.method)} {story.route}",
            context=_parent(trace),
            kind=SpanKind.SERVER,
            attributes=dict(_attributes(story)),
            start_time=_ns(story.started + offset),
        )
        if story.status >= 500 or story.outcome == "abandoned":
            span.set_status(Status(StatusCode.ERROR))
        return span

    def _step(self, story: Story, phase: Phase, server: Span, times: tuple[int, int]) -> None:
        span = self._tracer.start_span(
            phase, context=set_span_in_context(server, Context()), kind=_KINDS[phase], start_time=times[0]
        )
        if phase == "upstream" and story.provider_status is not None:
            span.set_attribute("http.response.status_code", story.provider_status)
        if phase == "upstream" and (story.provider_status or 500) >= 400:
            span.set_status(Status(StatusCode.ERROR))
        span.end(times[1])

    async def close(self) -> None:
        """Send what waits. A collector that does not answer is not waited for longer than FAREWELL."""
        ending = Thread(target=self._provider.shutdown, daemon=True, name="spans")
        ending.start()
        until = time.monotonic() + FAREWELL
        while ending.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 -- a thread has no event to wait for
            await asyncio.sleep(0.01)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _parent(trace: Trace) -> Context:
    if trace.parent_id is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([trace.state]) if trace.state else TraceState()
    before = SpanContext(
        int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=flags, trace_state=state
    )
    return set_span_in_context(NonRecordingSpan(before), Context())


def _attributes(story: Story) -> Iterator[tuple[str, str | int]]:
    """Names of OpenTelemetry's conventions where there are some. No path: it may be somebody's."""
    yield "http.request.method", method_label(story.method)
    yield "http.response.status_code", story.status
    yield "paraf.route", story.route
    yield "paraf.request_id", story.request_id
    yield "paraf.outcome", story.outcome
    yield "paraf.sent", story.sent
    yield "paraf.generation", story.generation
    if story.error is not None:
        yield "error.type", story.error
    if story.provider_code is not None:
        yield "paraf.provider_code", story.provider_code
    if story.external_id is not None:
        yield "paraf.external_id", story.external_id
