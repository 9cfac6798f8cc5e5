import asyncio
import io
import json

from virtual_time import in_virtual_time

from proxy.model import Attempt
from proxy.telemetry.ended import LATEST, Ended
from proxy.telemetry.logs import RequestLog, configure, set_level
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.story import Story


class Ticking:
    """A second passes with every look."""

    def __init__(self):
        self.seconds = 1_768_447_845

    def now_ms(self):
        self.seconds += 1
        return self.seconds * 1000

    def monotonic(self):
        raise AssertionError("not a matter of durations")


def story(name, route="doku", **told):
    return Story(name, "POST", 0.0, route=route, status=200, outcome="forwarded", **told)


@in_virtual_time
async def test_stories_are_told_once_to_everybody_in_their_order_and_not_late():
    ended, one, two = Ended(Ticking()), [], []
    ended.tells += one.extend, two.extend
    ended.add(story("a"))
    await asyncio.sleep(LATEST / 2)
    ended.add(story("b"))
    assert one == []
    await asyncio.sleep(LATEST / 2)
    ended.add(story("c"))
    assert [told.request_id for told in one] == ["a", "b"]
    await asyncio.sleep(LATEST)
    ended.flush()
    assert [told.request_id for told in one] == ["a", "b", "c"]
    assert two == one


def written(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_request_stands_before_the_lines_that_came_after_it_with_its_own_time():
    for form, first in (("json", "2026-01-15T03:30:46.000Z"), ("human", "03:30:46.000 info")):
        clock, stream = Ticking(), io.StringIO()
        logger, ended = configure("info", form, stream, clock), Ended(clock)
        log = RequestLog(logger, ended)
        ended.add(story("a"))
        ended.add(story("b"))
        assert stream.getvalue() == ""
        log.circuit("doku", "open")
        lines = stream.getvalue().splitlines()
        assert [name in line for name, line in zip(("request", "request", "circuit"), lines, strict=True)] == [True] * 3
        assert first in lines[0]
        assert [":46.000" in lines[0], ":47.000" in lines[1], ":48.000" in lines[2]] == [True] * 3


async def test_what_its_level_does_not_let_is_not_written():
    stream = io.StringIO()
    logger, ended = configure("info", "json", stream, Ticking()), Ended(Ticking())
    log = RequestLog(logger, ended)
    for level in ("warning", "error", "info"):
        set_level(logger, level)
        log.follow()
        ended.add(story(f"{level} 200"))
        failed = story(f"{level} 502")
        failed.status = 502
        ended.add(failed)
        ended.flush()
    told = [(line["request_id"], line["level"]) for line in written(stream)]
    assert told == [("warning 502", "warning"), ("info 200", "info"), ("info 502", "warning")]


async def test_numbers_are_those_of_the_moment():
    ended = Ended(Ticking())
    metrics = Metrics(["doku", "b"], [], store="memory", version="1", python="3", clock=Ticking(), ended=ended)
    inflight = {}
    for route in ("doku", "b", "doku"):
        metrics.arrived(route)
    ended.add(story("a"))
    ended.add(story("nowhere", route="none"))
    inflight = metrics.numbers()["paraf_inflight_requests"]
    assert inflight == {("doku",): (1,), ("b",): (1,), ("none",): (0,)}
    ended.add(story("b"))
    ended.add(story("c", route="b"))
    metrics.arrived("doku")
    numbers = metrics.numbers()
    assert numbers["paraf_inflight_requests"] == {("doku",): (1,), ("b",): (0,), ("none",): (0,)}
    requests = {labels[0]: row for labels, row in numbers["paraf_requests_total"].items() if row[0]}
    assert requests == {"doku": (2,), "b": (1,), "none": (1,)}


async def test_a_route_that_is_gone_is_counted_until_nothing_is_under_way_on_it():
    ended, clock = Ended(Ticking()), Ticking()
    metrics = Metrics(["old"], [], store="memory", version="1", python="3", clock=clock, ended=ended)
    metrics.arrived("old")
    metrics.follow(Metrics(["new"], [], store="memory", version="1", python="3", clock=clock))
    assert metrics.numbers()["paraf_inflight_requests"]["old",] == (1,)
    ended.add(story("a", route="old"))
    metrics.follow(Metrics(["new"], [], store="memory", version="1", python="3", clock=clock))
    assert set(metrics.numbers()["paraf_inflight_requests"]) == {("new",), ("none",)}


def test_only_attempts_that_were_written_are_counted():
    told = story("a")
    assert (told.sendings, told.sent) == (0, "no")
    told.attempts = [Attempt("maybe"), Attempt("no"), Attempt("maybe")]
    assert (told.sendings, told.sent) == (2, "maybe")
