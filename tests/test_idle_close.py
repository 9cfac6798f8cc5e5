"""The short form of drill_idle_close.py: 400 POSTs past a provider that closes idle connections."""

from dataclasses import replace

import pytest
from drill_idle_close import RANDOM, REGULAR, flaws, run

POSTS = 400


@pytest.mark.parametrize(
    ("manner", "most_connections"),
    [
        (RANDOM, POSTS),
        (replace(REGULAR, youngest=1.1, oldest=1.1, think=0.25, callers=40), POSTS // 4),
    ],
    ids=["at random", "at one age"],
)
async def test_kept_connections_cost_no_post_and_no_answer(manner, most_connections):
    kept = await run(manner, POSTS, keep=15, seed="short")
    fresh = await run(manner, POSTS, keep=0, seed="short")
    assert (kept.posts, fresh.posts, fresh.connections) == (POSTS, POSTS, POSTS)
    assert kept.connections <= most_connections
    assert fresh.maybe > 5
    assert flaws(kept, fresh) == []
