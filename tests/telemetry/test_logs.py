import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from proxy.model import STARS, Attempt, Secret
from proxy.telemetry.ended import Ended
from proxy.telemetry.logs import RequestLog, configure, silence_aiohttp
from proxy.telemetry.story import PHASES, Story


class Noon:
    def now_ms(self) -> int:
        return 1_768_447_845_042

    def monotonic(self) -> float:
        raise AssertionError("not a matter of durations")


NOON_MS = Noon().now_ms()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def json_logger(stream: io.StringIO, level: str = "debug"):
    return configure(level, "json", stream, Noon())


def test_a_line_is_json_with_time_level_and_event_first() -> None:
    stream = io.StringIO()
    json_logger(stream).info("ready", listen="127.0.0.1:8080", routes=2)
    assert stream.getvalue() == (
        '{"timestamp": "2026-01-15T03:30:45.042Z", "level": "info", "event": "ready",'
        ' "listen": "127.0.0.1:8080", "routes": 2}\n'
    )


@pytest.mark.parametrize(
    ("form", "stream", "human"),
    [
        ("auto", io.StringIO, False),
        ("auto", Terminal, True),
        ("json", Terminal, False),
        ("human", io.StringIO, True),
    ],
)
def test_auto_is_for_people_on_a_terminal(form, stream, human) -> None:
    into = stream()
    configure("info", form, into, Noon(), {}).info("ready")
    assert into.getvalue().startswith("{") != human


def test_lines_for_people() -> None:
    stream = io.StringIO()
    configure("info", "human", stream, Noon(), {}).warning("no key", route="doku", hint='a "b"', tries=2, ok=True)
    assert stream.getvalue() == '03:30:45.042 warning  no key route=doku hint="a \\"b\\"" tries=2 ok=true\n'


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_colour_on_a_terminal_without_no_color_only(environ, coloured) -> None:
    terminal, file = Terminal(), io.StringIO()
    configure("info", "auto", terminal, Noon(), environ).error("ready")
    configure("info", "human", file, Noon(), environ).error("ready")
    assert ("\x1b[" in terminal.getvalue()) == coloured
    assert "\x1b" not in file.getvalue()


def test_less_than_the_level_is_not_written() -> None:
    stream = io.StringIO()
    logger = json_logger(stream, "warning")
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    assert [line["event"] for line in lines(stream)] == ["c", "d"]


# One line for each request.


def told(story: Story) -> dict:
    stream = io.StringIO()
    RequestLog(json_logger(stream), Ended(Noon())).told([story])
    (line,) = lines(stream)
    return line


def test_the_line_of_a_request() -> None:
    story = Story("0f3a", "POST", 17.0, route="doku", external_id="1768447845042777", status=200, outcome="healed")
    story.token, story.sign, story.upstream, story.total = 0.1204999, 0.000123, 0.25, 0.4
    story.ended_ms = NOON_MS
    story.attempts = [Attempt("maybe"), Attempt("no"), Attempt("maybe")]
    story.provider_status, story.provider_code = 200, "2005400"
    assert told(story) == {
        "timestamp": "2026-01-15T03:30:45.042Z",
        "level": "info",
        "event": "request",
        "request_id": "0f3a",
        "route": "doku",
        "method": "POST",
        "status": 200,
        "outcome": "healed",
        "provider_status": 200,
        "provider_code": "2005400",
        "external_id": "1768447845042777",
        "attempts": 2,
        "sent": "maybe",
        "token_ms": 120.5,
        "sign_ms": 0.12,
        "upstream_ms": 250.0,
        "total_ms": 400.0,
        "generation": 1,
    }


@pytest.mark.parametrize("external_id", [None, "1768447845042777"])
def test_the_usual_line_has_the_members_of_any_other(external_id) -> None:
    def forwarded(**more) -> Story:
        story = Story("0f3a", "POST", 17.0, route="doku", status=200, outcome="forwarded", provider_status=200, **more)
        story.token, story.sign, story.upstream, story.total = 0.0000012, 0.000123, 0.25, 0.4
        story.provider_code, story.external_id = "2005400", external_id
        story.attempts = [Attempt("maybe")]
        return story

    usual, other = told(forwarded()), told(forwarded(caller="shop"))
    assert list(other.items()) == [*list(usual.items())[:8], ("caller", "shop"), *list(usual.items())[8:]]
    assert (usual["outcome"], usual["attempts"], usual["sent"]) == ("forwarded", 1, "maybe")
    assert [usual[f"{phase}_ms"] for phase in PHASES] == [0.0, 0.12, 250.0, 400.0]


def test_the_line_of_a_request_that_we_answered() -> None:
    line = told(Story("0f3a", "GET", 17.0, status=404, outcome="error", error="no_route"))
    assert (line["route"], line["error"], line["attempts"], line["sent"]) == ("none", "no_route", 0, "no")
    assert "external_id" not in line
    assert "provider_status" not in line


@pytest.mark.parametrize(("state", "level"), [("closed", "info"), ("half-open", "debug"), ("open", "warning")])
def test_the_line_of_a_circuit(state, level) -> None:
    stream = io.StringIO()
    RequestLog(json_logger(stream), Ended(Noon())).circuit("doku", state)
    (line,) = lines(stream)
    assert {**line, "timestamp": ""} == {
        "timestamp": "",
        "level": level,
        "event": "circuit",
        "route": "doku",
        "state": state,
    }


def test_a_method_of_the_callers_own_making_is_not_repeated() -> None:
    assert told(Story("0f3a", "SECRETMETHOD", 0.0))["method"] == "other"


# Nothing that should not be read.


NAMES = ["authorization", "Authorization", "token", "access_token", "client_secret", "X-SIGNATURE", "password"]
NAMES += ["passphrase", "private_key", "key", "store-key"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["json", "human"])
def test_what_is_named_like_a_secret_becomes_stars(name: str, form) -> None:
    stream = io.StringIO()
    logger = configure("info", form, stream, Noon(), {})
    logger.info("x", **{name: "hunter2"})
    logger.info("x", deep={name: "hunter2", "list": [{name: "hunter2"}]})
    logger.bind(**{name: "hunter2"}).info("x")
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count(STARS) == 4


def test_names_that_only_sound_alike_stay() -> None:
    stream = io.StringIO()
    json_logger(stream).info("x", token_ms=1.5, keys=2, monkey="m", tokens=3)
    assert lines(stream)[0].items() >= {"token_ms": 1.5, "keys": 2, "monkey": "m", "tokens": 3}.items()


def test_secrets_are_stars_wherever_they_stand() -> None:
    stream = io.StringIO()
    json_logger(stream).info("x", a=Secret("hunter2"), b=[Secret("hunter2")], c={"d": (Secret("hunter2"),)})
    assert lines(stream)[0].items() >= {"a": STARS, "b": [STARS], "c": {"d": [STARS]}}.items()


def test_of_objects_only_the_type_is_told() -> None:
    stream = io.StringIO()
    logger = json_logger(stream)
    logger.warning("x", why=ValueError("caller's bytes"), raw=b"caller's bytes")
    try:
        {}["caller's bytes"]
    except KeyError as error:
        logger.exception("y")
        logger.warning("z", exc_info=error)
    assert "caller" not in stream.getvalue()
    assert "Traceback" not in stream.getvalue()
    assert [line.get("why") or line.get("exc_info") for line in lines(stream)] == ["ValueError", True, "KeyError"]


FORGERIES = ["a\n03:30:45 error forged", "a\r\nb", "a\x1b[2Jb", "a\x00b", "a\u2028b", "a\u202eb", "a\x85b", "a\udc80b"]


@pytest.mark.parametrize("text", FORGERIES)
@pytest.mark.parametrize("form", ["json", "human"])
def test_no_value_can_forge_a_line(text: str, form) -> None:
    stream = io.StringIO()
    configure("info", form, stream, Noon(), {}).info(text, value=text, **{text: 1}, deep={text: [text]})
    written = stream.getvalue()
    assert written.endswith("\n")
    assert written[:-1].isprintable()


def test_a_value_for_people_cannot_pass_for_two() -> None:
    stream = io.StringIO()
    configure("info", "human", stream, Noon(), {}).info("x", value="a status=200", other='" ok=1')
    assert stream.getvalue().endswith('x value="a status=200" other="\\" ok=1"\n')


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), BrokenPipeError(), ValueError("closed")])
def test_a_log_that_cannot_be_written_stops_nothing(fault: Exception) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise fault

    json_logger(Full()).info("x")


# The libraries' own logs.


@pytest.fixture
def foreign() -> Iterator[io.StringIO]:
    names = ("aiohttp", "asyncio")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names}
    stream = io.StringIO()
    silence_aiohttp(json_logger(stream))
    yield stream
    for name, (handlers, propagate) in before.items():
        logging.getLogger(name).handlers[:] = handlers
        logging.getLogger(name).propagate = propagate


@pytest.fixture
def elsewhere() -> Iterator[io.StringIO]:
    """What others would write, had they configured logging."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("name", ["aiohttp.server", "aiohttp.client", "aiohttp.access", "asyncio"])
def test_a_library_gets_one_line_without_its_words(
    name: str, foreign: io.StringIO, elsewhere: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        int("hunter2")
    except ValueError:
        logging.getLogger(name).exception("Error handling request from %s", "hunter2")
    logging.getLogger(name).info("hunter2")
    (line,) = lines(foreign)
    assert line.items() >= {"level": "warning", "event": "library", "name": name, "fault": "ValueError"}.items()
    assert line["at"].startswith("test_logs:")
    assert "hunter2" not in foreign.getvalue()
    assert elsewhere.getvalue() + "".join(capsys.readouterr()) == ""


async def test_a_task_whose_fault_nobody_took_is_one_line(foreign: io.StringIO) -> None:
    async def fail() -> None:
        raise ValueError("hunter2")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    (line,) = lines(foreign)
    assert (line["name"], line["fault"]) == ("asyncio", "ValueError")
    assert "hunter2" not in foreign.getvalue()


def test_silencing_twice_writes_once(foreign: io.StringIO) -> None:
    silence_aiohttp(json_logger(foreign))
    logging.getLogger("asyncio").warning("x")
    assert [line["fault"] for line in lines(foreign)] == [None]
