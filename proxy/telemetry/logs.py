"""The log: one line for each request, JSON or for people. Nothing that a caller or provider sent stands in it."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from proxy.model import STARS, Clock, Secret
from proxy.telemetry.ended import Ended
from proxy.telemetry.labels import CircuitState, method_label
from proxy.telemetry.story import PHASES, Story
from proxy.telemetry.traceparent import Trace
from proxy.telemetry.writer import Writer, alone

Format = Literal["auto", "human", "json"]

_SECRET_NAME: Final = re.compile(r"(?:.*_)?(?:authorization|token|secret|signature|password|passphrase|key)")
_LEVELS: Final = (("info", logging.INFO), ("warning", logging.WARNING))
"""Of a request, and of one that was answered with 5xx."""
_EVERY_PHASE: Final = "".join(f', "{phase}_ms": %.2f' for phase in PHASES)
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}


def configure(
    level: str,
    form: Format,
    stream: TextIO,
    clock: Clock,
    environ: Mapping[str, str] = os.environ,
    *,
    writer: Callable[[TextIO], Writer] = alone,
) -> FilteringBoundLogger:
    """A logger that writes to `stream`. `auto` writes for people on a terminal and JSON elsewhere.

    `writer` is one of `telemetry.writer`.
    """
    terminal = stream.isatty()
    human = form == "human" or (form == "auto" and terminal)
    render: Processor = _Human(colour=terminal and not environ.get("NO_COLOR")) if human else _json
    time = _Time(clock)
    head = _Head(time)

    def lost(count: int) -> str:
        words = "lines were lost: nobody read them in time"
        return cast(
            "str", render(None, "warning", head(None, "warning", {"event": "log", "lost": count, "words": words}))
        )

    logger = structlog.wrap_logger(
        cast("WrappedLogger", _Lines(writer(stream), lost, time, human=human)),
        processors=[head, redact, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
    )
    return cast("FilteringBoundLogger", logger.bind())


def set_level(logger: FilteringBoundLogger, level: str) -> None:
    """From now on, for everybody who has this logger: a level is the class that structlog makes for it."""
    logger.__class__ = structlog.make_filtering_bound_logger(level)


class RequestLog:
    """Writes the line of a request when it has `ended`, or those of many, and before any other line.

    They come with every request, so they take no chain of processors: each value is a number, of a closed set, from
    the configuration or made here, and none can need redaction.
    """

    def __init__(self, logger: FilteringBoundLogger, ended: Ended) -> None:
        self._logger = logger
        self._lines = cast("_Lines", cast("Any", logger)._logger)  # noqa: SLF001 -- structlog gives no other way to it
        self._lines.before = ended.flush
        bound = json.dumps(structlog.get_context(logger))[1:-1]
        self._event = f'"event": "request", {bound}' if bound else '"event": "request"'
        self.follow()
        ended.tells.append(self.told)

    def told(self, stories: Iterable[Story]) -> None:
        heads, time_at = self._heads, self._lines.time.at
        lines = [
            _line(story, time_at(story.ended_ms), head)
            for story in stories
            if (head := heads[story.status >= 500]) is not None
        ]
        if self._lines.human:
            for members in map(json.loads, lines):
                getattr(self._logger, members.pop("level"))(**members)
        elif lines:
            self._lines.put(lines)

    def follow(self) -> None:
        """The logger has another level by now."""
        self._heads = [
            f'"level": "{level}", {self._event}' if self._logger.is_enabled_for(number) else None
            for level, number in _LEVELS
        ]

    def close(self) -> None:
        """Nothing is left to be written, unless the reader stalls."""
        self._lines.before()
        self._lines.writer.drain()

    def circuit(self, route: str, state: CircuitState) -> None:
        tell = {"open": self._logger.warning, "half-open": self._logger.debug, "closed": self._logger.info}[state]
        tell("circuit", route=route, state=state)


def _line(story: Story, time: str, head: str) -> str:
    """What is known of the request, as JSON; at once for those that are like most others."""
    alone = story.caller is None and story.trace is None and len(story.attempts) == 1
    code = "" if story.provider_code is None else f', "provider_code": "{story.provider_code}"'
    external_id = "" if story.external_id is None else f', "external_id": "{story.external_id}"'
    if story.outcome == "forwarded" and story.token and alone:
        times = story.token * 1000, story.sign * 1000, story.upstream * 1000, story.total * 1000
        return (
            f'{{"timestamp": "{time}", {head}, "request_id": "{story.request_id}", "route": "{story.route}"'
            f', "method": "{method_label(story.method)}", "status": {story.status}, "outcome": "forwarded"'
            f', "provider_status": {story.provider_status}{code}{external_id}, "attempts": 1, "sent": "maybe"'
            f'{_EVERY_PHASE % times}, "generation": {story.generation}}}'
        )
    sendings = story.sendings
    sent = "maybe" if sendings else "no"
    phases = [f', "{phase}_ms": {seconds * 1000:.2f}' for phase, seconds in story.phases.items()]
    return (
        f'{{"timestamp": "{time}", {head}, "request_id": "{story.request_id}", "route": "{story.route}"'
        f', "method": "{method_label(story.method)}", "status": {story.status}, "outcome": "{story.outcome}"'
        f"{'' if story.caller is None else _caller(story.caller)}{'' if story.error is None else _fault(story)}"
        f'{_status(story.provider_status)}{code}{external_id}, "attempts": {sendings}, "sent": "{sent}"'
        f'{"".join(phases)}, "generation": {story.generation}{"" if story.trace is None else _traced(story.trace)}}}'
    )


def _traced(trace: Trace) -> str:
    return f', "trace_id": "{trace.trace_id}", "span_id": "{trace.span_id}"'


def _caller(name: str) -> str:
    return f', "caller": "{name}"'


def _fault(story: Story) -> str:
    detail = "" if story.detail is None else f', "detail": {json.dumps(_printable(story.detail))}'
    return f', "error": "{story.error}"{detail}'


def _status(told: int | None) -> str:
    return "" if told is None else f', "provider_status": {told}'


def redact(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """The last look at what is written: secrets become stars, and no value can begin a line of its own."""
    return cast("EventDict", _safe(event))


def _safe(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _printable(value)
        case Mapping():
            return {_printable(str(name)): STARS if _secret(name) else _safe(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_safe(item) for item in value]
        case Secret():
            return STARS
    # An object's own text may repeat what was sent to us, an exception's above all.
    return type(value).__name__


def _secret(name: object) -> bool:
    return _SECRET_NAME.fullmatch(str(name).lower().replace("-", "_")) is not None


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class _Time:
    """The time in UTC as lines show it, made once a millisecond, and all but the milliseconds once a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ms = -1
        self._second = self._text = ""

    def now(self) -> str:
        return self.at(self._clock.now_ms())

    def at(self, now_ms: int) -> str:
        if now_ms != self._ms:
            second, ms = divmod(now_ms, 1000)
            if second != self._ms // 1000:
                self._second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._ms, self._text = now_ms, f"{self._second}.{ms:03}Z"
        return self._text


class _Head:
    """What every line begins with."""

    def __init__(self, time: _Time) -> None:
        self._time = time

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        """A `timestamp` in the event is of what came before."""
        return {"timestamp": self._time.now(), "level": level, "event": event.pop("event"), **event}


def _json(_logger: WrappedLogger, _level: str, event: EventDict) -> str:
    return json.dumps(event)


class _Human:
    """`12:34:56.789 info     request route=doku status=200`; a text with blanks or quotes in it is quoted."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, _logger: WrappedLogger, _level: str, event: EventDict) -> str:
        time, level, what = event.pop("timestamp")[11:-1], event.pop("level"), event.pop("event")
        shown = f"\x1b[{_COLOURS[level]}m{level:<8}\x1b[0m" if self._colour else f"{level:<8}"
        return " ".join((time, shown, what, *(f"{name}={_word(value)}" for name, value in event.items())))


def _word(value: object) -> str:
    plain = isinstance(value, str) and re.fullmatch(r'[^\s"=]+', value)
    return str(value) if plain else json.dumps(value)


class _Lines:
    """What is to be written. `lost` says how many lines were not; `human`: they are for people."""

    def __init__(self, writer: Writer, lost: Callable[[int], str], time: _Time, *, human: bool) -> None:
        self.writer = writer
        self.time = time
        self.human = human
        self.before: Callable[[], object] = list
        """Writes what comes before a line."""
        self._tell_lost = lost
        self._lost = 0

    def msg(self, line: str) -> None:
        self.before()
        self.put([line])

    debug = info = warning = error = critical = msg

    def put(self, lines: list[str]) -> None:
        told = [self._tell_lost(self._lost)] if self._lost else []
        if self.writer.put("\n".join((*told, *lines, ""))):
            self._lost = 0
        else:
            self._lost += len(lines)


class _Foreign(logging.Handler):
    """Turns a library's record into one line of ours: who, where in its code, and the type of what went wrong.

    Not its message and no traceback: aiohttp puts the caller's bytes in both, asyncio whole objects.
    """

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fault = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        self._logger.warning("library", name=record.name, at=f"{record.module}:{record.lineno}", fault=fault)


def place(fault: BaseException) -> str:
    """The exception's type and where it was raised; never its text, which may hold what was sent."""
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(fault).__name__
    return f"{type(fault).__name__} at {trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"


def silence_aiohttp(logger: FilteringBoundLogger) -> None:
    """Leads what libraries would log into ours. Process-wide, as their loggers are."""
    for name in ("aiohttp", "asyncio", "opentelemetry", "urllib3"):
        theirs = logging.getLogger(name)
        theirs.handlers[:] = [_Foreign(logger)]
        theirs.propagate = False
