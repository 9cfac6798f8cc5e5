"""Contexts of intercepted hosts: made once, for most of a day, and for one authority."""

import asyncio
from datetime import timedelta

import pytest
from tunnelling import HOST, OTHER, authority

from proxy.authority import LEAF_LIFE, Authority, utc_now
from proxy.inbound import leaves
from proxy.inbound.leaves import Leaves


@pytest.fixture(scope="module")
def known():
    made = authority(HOST, OTHER)
    return Authority.read(made.chain, made.key)


async def test_made_once_however_many_ask(known):
    kept = Leaves()
    first, *others = await asyncio.gather(*(kept.context(known, HOST) for _ in range(20)))
    assert all(each is first for each in others)
    assert await kept.context(known, OTHER) is not first


@pytest.mark.parametrize(
    ("later", "same"),
    [
        (timedelta(), True),
        (LEAF_LIFE * 0.7, True),
        (LEAF_LIFE * 0.8, False),
        (LEAF_LIFE * 2, False),
        (timedelta(hours=-2), False),
    ],
)
async def test_renewed_well_before_its_end_and_when_the_clock_was_set_back(known, later, same):
    moment = utc_now()
    kept = Leaves(lambda: moment)
    first = await kept.context(known, HOST)
    moment += later
    assert (await kept.context(known, HOST) is first) is same


async def test_another_authority_signs_anew(known):
    kept = Leaves()
    other = authority(HOST)
    first = await kept.context(known, HOST)
    assert await kept.context(Authority.read(other.chain, other.key), HOST) is not first


async def test_one_who_leaves_takes_nothing_from_the_others(known):
    kept = Leaves()
    leaver = asyncio.create_task(kept.context(known, HOST))
    stayer = asyncio.create_task(kept.context(known, HOST))
    await asyncio.sleep(0)
    leaver.cancel()
    assert await stayer is await kept.context(known, HOST)


async def test_a_failure_is_not_kept(known, monkeypatch):
    kept = Leaves()
    with monkeypatch.context() as broken:
        broken.setattr(Authority, "leaf", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await kept.context(known, HOST)
    assert await kept.context(known, HOST)


async def test_no_more_are_remembered_than_a_bound(known, monkeypatch):
    monkeypatch.setattr(leaves, "MOST", 3)
    kept = Leaves()
    for number in range(10):
        await kept.context(known, f"{number}.{HOST}")
    assert len(kept._made) == 3
