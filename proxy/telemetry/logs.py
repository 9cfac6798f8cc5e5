"""The log: one line for each request, JSON or for people. Nothing that a caller or provider sent stands in it."""

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from proxy.model import STARS, Clock, Secret
from proxy.telemetry.labels import CircuitState, method_label
from proxy.telemetry.story import Story
from proxy.telemetry.traceparent import Trace
from proxy.telemetry.writer import Writer, alone

LATEST: Final = 0.05
"""Seconds that the line of a request waits for others."""
MOST: Final = 256
"""Lines that are written at once."""

Format = Literal["auto", "human", "json"]

_SECRET_NAME: Final = re.compile(r"(?:.*_)?(?:authorization|token|secret|signature|password|passphrase|key)")
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING}
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
        cast("WrappedLogger", _Lines(writer(stream), lost, None if human else time)),
        processors=[head, redact, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
    )
    return cast("FilteringBoundLogger", logger.bind())


def set_level(logger: FilteringBoundLogger, level: str) -> None:
    """From now on, for everybody who has this logger: a level is the class that structlog makes for it."""
    logger.__class__ = structlog.make_filtering_bound_logger(level)


class RequestLog:
    """Writes the line of a request when it is over.

    It comes with every request, so it takes no chain of processors: each value is a number, of a closed set, from the
    configuration or made here, and none can need redaction. JSON lines are written several at once, `LATEST` seconds
    after the first at the latest, or before any other line.
    """

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger
        self._lines = cast("_Lines", cast("Any", logger)._logger)  # noqa: SLF001 -- structlog gives no other way to it
        bound = json.dumps(structlog.get_context(logger))[1:-1]
        self._event = f'"event": "request", {bound}, ' if bound else '"event": "request", '
        self.follow()

    def told(self, story: Story) -> None:
        level = "warning" if story.status >= 500 else "info"
        if level not in self._tells:
            return
        members, time = _members(story), self._lines.json_time
        if time is None:
            getattr(self._logger, level)("request", **json.loads(f"{{{members}}}"))
        else:
            self._lines.later(f'{{"timestamp": "{time.now()}", "level": "{level}", {self._event}{members}}}')

    def follow(self) -> None:
        """The logger has another level by now."""
        self._tells = {level for level, number in _LEVELS.items() if self._logger.is_enabled_for(number)}

    def flush(self) -> None:
        self._lines.flush()

    def close(self) -> None:
        """Nothing is left to be written, unless the reader stalls."""
        self._lines.flush()
        self._lines.writer.drain()

    def circuit(self, route: str, state: CircuitState) -> None:
        tell = {"open": self._logger.warning, "half-open": self._logger.debug, "closed": self._logger.info}[state]
        tell("circuit", route=route, state=state)


def _members(story: Story) -> str:
    """What is known of the request, as members of a JSON object; at once for those that are like most others."""
    alone = story.caller is None and story.trace is None and len(story.attempts) == 1
    if story.outcome == "forwarded" and story.token and alone:
        return (
            f'"request_id": "{story.request_id}", "route": "{story.route}", "method": "{method_label(story.method)}"'
            f', "status": {story.status}, "outcome": "forwarded"{_answered(story)}, "attempts": 1, "sent": "maybe"'
            f', "token_ms": {story.token * 1000:.2f}, "sign_ms": {story.sign * 1000:.2f}'
            f', "upstream_ms": {story.upstream * 1000:.2f}, "total_ms": {story.total * 1000:.2f}'
            f', "generation": {story.generation}'
        )
    sendings = story.sendings
    phases = [f', "{phase}_ms": {seconds * 1000:.2f}' for phase, seconds in story.phases.items()]
    return (
        f'"request_id": "{story.request_id}", "route": "{story.route}", "method": "{method_label(story.method)}"'
        f', "status": {story.status}, "outcome": "{story.outcome}"'
        f"{'' if story.caller is None else _caller(story.caller)}{'' if story.error is None else _fault(story)}"
        f'{_answered(story)}, "attempts": {sendings}, "sent": "{"maybe" if sendings else "no"}"'
        f'{"".join(phases)}, "generation": {story.generation}{"" if story.trace is None else _traced(story.trace)}'
    )


def _traced(trace: Trace) -> str:
    return f', "trace_id": "{trace.trace_id}", "span_id": "{trace.span_id}"'


def _caller(name: str) -> str:
    return f', "caller": "{name}"'


def _fault(story: Story) -> str:
    detail = "" if story.detail is None else f', "detail": {json.dumps(_printable(story.detail))}'
    return f', "error": "{story.error}"{detail}'


def _answered(story: Story) -> str:
    told = "" if story.provider_status is None else f', "provider_status": {story.provider_status}'
    if story.provider_code is not None:
        told += f', "provider_code": "{story.provider_code}"'
    return told if story.external_id is None else f'{told}, "external_id": "{story.external_id}"'


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
    """The time in UTC as lines show it; all but the milliseconds is made once a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._text = ""

    def now(self) -> str:
        second, ms = divmod(self._clock.now_ms(), 1000)
        if second != self._second:
            self._second, self._text = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._text}.{ms:03}Z"


class _Head:
    """What every line begins with."""

    def __init__(self, time: _Time) -> None:
        self._time = time

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
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
    """What is to be written. `lost` says how many lines were not; `json_time` is there if lines are JSON."""

    def __init__(self, writer: Writer, lost: Callable[[int], str], json_time: _Time | None) -> None:
        self.json_time = json_time
        self.writer = writer
        self._tell_lost = lost
        self._lost = 0
        self._waiting: list[str] = []

    def msg(self, line: str) -> None:
        self._waiting.append(line)
        self.flush()

    debug = info = warning = error = critical = msg

    def later(self, line: str) -> None:
        """Written with others, if a loop runs that will do it."""
        self._waiting.append(line)
        if len(self._waiting) == 1:
            try:
                asyncio.get_running_loop().call_later(LATEST, self.flush)
            except RuntimeError:
                self.flush()
        elif len(self._waiting) == MOST:
            self.flush()

    def flush(self) -> None:
        lines, self._waiting = self._waiting, []
        if not lines:
            return
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
