"""Lines written aside: in order, whole, at a bound, and never at the price of a wait."""

import io
import json
import multiprocessing
import os
import select
import time
from contextlib import contextmanager, suppress

import pytest

from proxy.clock import SystemClock
from proxy.telemetry import writer as writer_module
from proxy.telemetry.ended import Ended
from proxy.telemetry.logs import RequestLog, configure
from proxy.telemetry.story import Story
from proxy.telemetry.writer import WHOLE, Aside, Direct, Polled, alone, among_others, pieces, without_thread


@contextmanager
def pipe():
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        for descriptor in (reading, writing):
            with suppress(OSError):
                os.close(descriptor)


def taken(reading, until, seconds=20):
    """What comes, until it ends as said."""
    got, end = b"", time.monotonic() + seconds
    while not got.endswith(until):
        assert time.monotonic() < end, got[-200:]
        if select.select([reading], [], [], 0.1)[0]:
            got += os.read(reading, 1 << 16)
    return got


def test_lines_come_whole_and_in_order():
    with pipe() as (reading, writing):
        aside = Aside(writing)
        for number in range(1000):
            assert aside.put(f"line {number}\n")
        assert taken(reading, b"line 999\n").decode().splitlines() == [f"line {number}" for number in range(1000)]


def test_a_reader_who_stalls_costs_lines_and_no_time():
    with pipe() as (reading, writing):
        aside = Aside(writing, most=200_000)
        began = time.monotonic()
        kept = [number for number in range(20_000) if aside.put(f"{number:019}\n")]
        assert time.monotonic() - began < 5
        assert 10_000 <= len(kept) < 20_000
        got = taken(reading, f"{kept[-1]:019}\n".encode()).decode().splitlines()
        assert [int(line) for line in got] == kept
        aside.drain()
        assert aside.put("again\n")
        assert taken(reading, b"again\n") == b"again\n"


def test_the_log_says_how_many_lines_were_lost():
    with pipe() as (reading, writing):
        logger = configure("info", "json", io.StringIO(), SystemClock(), writer=lambda _: Aside(writing, most=100_000))
        log = RequestLog(logger, Ended(SystemClock()))
        for number in range(3000):
            log.told([Story(f"{number:026}", "POST", 0.0, route="doku", status=200, outcome="forwarded")])
        read, aside = b"", log._lines.writer
        while aside._handed > aside._written:
            read += os.read(reading, 1 << 16) if select.select([reading], [], [], 0.1)[0] else b""
        logger.info("after")
        lines = [json.loads(line) for line in (read + taken(reading, b'"event": "after"}\n')).splitlines()]
        lost = sum(line.get("lost", 0) for line in lines)
        assert lost > 500
        assert sum(line["event"] == "request" for line in lines) == 3000 - lost
        assert {line["level"] for line in lines if line["event"] == "log"} == {"warning"}
        assert lines[-1]["event"] == "after"  # what was lost last is told before it: the sum above is whole


def test_the_end_of_a_process_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(writer_module, "FAREWELL", 0.2)
    with pipe() as (_, writing):
        aside = Aside(writing)
        aside.put("x" * 200_000 + "\n")
        began = time.monotonic()
        aside.drain()
        assert 0.2 <= time.monotonic() - began < 5


def test_a_reader_who_left_costs_nothing():
    with pipe() as (reading, writing):
        aside = Aside(writing)
        os.close(reading)
        for _ in range(10):
            assert aside.put("x\n")
        aside.drain()
        assert aside._handed == aside._written


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for():
    with pipe() as (reading, writing):
        os.set_blocking(writing, False)
        aside = Aside(writing)
        aside.put("x" * 300_000 + "\n")
        assert len(taken(reading, b"\n")) == 300_001


def write_from_a_fork(aside, mark):
    for number in range(300):
        aside.put(f"{mark} {number} {'.' * 90}\n" * 20)
    aside.drain()


def test_forked_processes_write_whole_lines_through_one_pipe():
    with pipe() as (reading, writing):
        aside = Aside(writing, WHOLE, 1 << 24)
        aside.put("parent\n")
        aside.drain()
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=write_from_a_fork, args=(aside, mark)) for mark in "ab"]
        for child in children:
            child.start()
        got, wanted = b"", 2 * 300 * 20 + 1
        while got.count(b"\n") < wanted:
            got += os.read(reading, 1 << 16)
        for child in children:
            child.join(20)
        assert {line.split()[-1] for line in got.decode().splitlines()} == {"." * 90, "parent"}


def test_files_and_memory_are_written_at_once(tmp_path):
    with (tmp_path / "log").open("w") as file:
        assert {type(make(file)) for make in (alone, among_others, without_thread)} == {Direct}
        alone(file).put("a\n")
        assert (tmp_path / "log").read_text() == "a\n"
    memory = io.StringIO()
    among_others(memory).put("a\n")
    assert memory.getvalue() == "a\n"


def test_without_a_thread_lines_are_written_while_there_is_room():
    with pipe() as (reading, writing):
        polled = Polled(writing)
        line = "x" * 99 + "\n"
        put = 0
        while polled.put(line):
            put += 1
            assert put < 10_000
        assert len(taken(reading, b"\n")) == 100 * put
        assert polled.put(line)
        os.close(reading)
        assert polled.put(line)


@pytest.mark.parametrize(
    ("data", "most", "cut"),
    [
        (b"", 4, []),
        (b"ab\n", 4, [b"ab\n"]),
        (b"a\nb\nc\n", 4, [b"a\nb\n", b"c\n"]),
        (b"abcdef\nb\n", 4, [b"abcdef\n", b"b\n"]),
        (b"b\nabcdef\nb\n", 4, [b"b\n", b"abcdef\n", b"b\n"]),
        (b"abcdef", 4, [b"abcdef"]),
    ],
)
def test_pieces_end_with_lines(data, most, cut):
    assert list(pieces(data, most)) == cut
