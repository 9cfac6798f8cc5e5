"""Drill: a provider that closes idle connections, thousands of POSTs, with kept connections and with fresh ones.

    python tests/drill_idle_close.py [POSTS] [SEED]

Takes about a minute for 5,000. Exits 1 when a POST arrived twice, an answer that was sent did not reach its caller or
reached another one, or keeping connections cost more errors than not keeping them. `tests/test_idle_close.py` is the
short form.
"""
# ruff: noqa: T201 -- a program's output

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from asking import ROUTE, code, request
from rawpeer import Answer, RawCaller
from running import of, proxy, routes

from proxy import app
from proxy.outbound.wire import WireTransport

SIZES = (2, 200, 2_000, 150_000)
"""Bytes of a body; the largest does not go out in one piece."""


@dataclass(frozen=True)
class Manner:
    """How a provider ends idle connections, seconds, and how long callers think between two POSTs, at most."""

    name: str
    youngest: float
    oldest: float
    think: float
    callers: int
    others: tuple[str, ...] = ()


RANDOM = Manner("at random", 0.0, 0.02, think=0.04, callers=50)
REGULAR = Manner("at one age", 1.2, 1.2, think=2.4, callers=250, others=("tidy",))


@dataclass(frozen=True)
class Result:
    """What callers and provider saw of one run. `endings`: what callers got, with how many POSTs ended so."""

    posts: int
    seconds: float
    connections: int
    endings: Counter[str]
    twice: int
    lost: int
    contradicted: int
    """POSTs of which Paraf said that no byte was sent, and which arrived."""

    @property
    def maybe(self) -> int:
        """A request that was sent, and no whole answer to it."""
        return self.endings["maybe"] + self.endings["broken off"]

    @property
    def foreign(self) -> int:
        """An answer that was not made for this POST."""
        return self.endings["foreign"]


async def run(manner: Manner, posts: int, *, keep: float, seed: str) -> Result:
    """`keep`: seconds that an idle connection is kept; 0 is a fresh one for every POST."""
    peer = await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).with_name("closing_peer.py"),
        *(seed, str(manner.youngest), str(manner.oldest), *manner.others),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    assert peer.stdin is not None
    assert peer.stdout is not None
    upstream = f"http://127.0.0.1:{int(await peer.stdout.readline())}"
    started = time.monotonic()
    answers = await _ask_all(manner, posts, upstream, keep)
    seconds = time.monotonic() - started
    peer.stdin.close()
    seen = json.loads(await peer.stdout.readline())
    await peer.wait()
    return _result(answers, seen, seconds)


async def _ask_all(manner: Manner, posts: int, upstream: str, keep: float) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    numbers, dice = iter(range(posts)), random.Random(posts)
    with mock.patch.object(app, "transport_for", lambda _lane, tls, _own: WireTransport(tls=tls, keep=keep)):
        quiet = {"log": {"level": "error", "format": "json"}}
        async with proxy({**routes(of(ROUTE), upstream, circuit="off"), **quiet}) as running:
            callers = (_caller(running.port, numbers, dice, manner.think, answers) for _ in range(manner.callers))
            await asyncio.gather(*callers)
    return answers


async def _caller(
    port: int, numbers: Iterator[int], dice: random.Random, think: float, answers: dict[str, Answer]
) -> None:
    while (number := next(numbers, None)) is not None:
        async with RawCaller("127.0.0.1", port, deadline=60) as caller:
            for each in itertools.chain([number], numbers):
                caller.send(request(target=f"/pay/{each}", body=bytes(dice.choice(SIZES))))
                answers[str(each)] = answer = await caller.answer()
                if not answer.whole:
                    break
                await asyncio.sleep(dice.uniform(0, think))


def _result(answers: dict[str, Answer], seen: dict[str, dict[str, int]], seconds: float) -> Result:
    endings = {number: _ending(number, answer) for number, answer in answers.items()}
    return Result(
        posts=len(answers),
        seconds=seconds,
        connections=int(seen["connections"]),  # type: ignore[call-overload]
        endings=Counter(endings.values()),
        twice=sum(count > 1 for count in seen["arrived"].values()),
        lost=sum(endings[number] != "own" for number in seen["answered"]),
        contradicted=sum(ending == "no" and number in seen["arrived"] for number, ending in endings.items()),
    )


def _ending(number: str, answer: Answer) -> str:
    if not answer.whole:
        return "broken off"
    if ours := code(answer):
        return ours[1]
    return "own" if answer.status == 200 and json.loads(answer.body)["id"] == number else "foreign"


def flaws(kept: Result, fresh: Result) -> list[str]:
    """What must not be; empty when all is well."""
    counts = {
        "arrived twice": kept.twice + fresh.twice,
        "answers lost": kept.lost + fresh.lost,
        "answers that were another's": kept.foreign + fresh.foreign,
        "said not to be sent, and arrived": kept.contradicted + fresh.contradicted,
        "more errors with kept connections": max(0, kept.maybe - fresh.maybe),
    }
    return [f"{words}: {count}" for words, count in counts.items() if count]


COLUMNS = "{:<12}{:<7}{:>6}{:>13}{:>6}{:>7}{:>12}{:>4}{:>7}{:>6}{:>9}{:>7}"


def _line(manner: Manner, name: str, result: Result) -> str:
    endings = result.endings
    return COLUMNS.format(
        *(manner.name, name, result.posts, result.connections, endings["own"], endings["maybe"]),
        *(endings["broken off"], endings["no"], result.twice, result.lost, result.foreign, f"{result.seconds:.0f} s"),
    )


async def main(posts: int, seed: str) -> list[str]:
    print(f"seed {seed}")
    print(COLUMNS.format(*"ends_idle pool posts connections own maybe broken_off no twice lost foreign time".split()))
    found = []
    for manner in (RANDOM, REGULAR):
        kept = await run(manner, posts, keep=15, seed=seed)
        print(_line(manner, "kept", kept))
        fresh = await run(manner, posts, keep=0, seed=seed)
        print(_line(manner, "fresh", fresh))
        found += flaws(kept, fresh)
    return found


if __name__ == "__main__":
    chosen = sys.argv[1:]
    bad = asyncio.run(main(int(chosen[0]) if chosen else 5000, (chosen[1:] or [str(random.randrange(10**6))])[0]))
    print(*(bad or ["all is well"]), sep="\n")
    sys.exit(bool(bad))
