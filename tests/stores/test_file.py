"""A directory shared by processes that may end at any moment."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import pytest
from keeping import DOKU, KEY, OTHER, HandClock, Seen, file, keep, leased, token, value

from proxy.errors import StartError, StoreFault
from proxy.model import Secret, Token
from proxy.stores import LEASE, Held, Lease


def only(folder: Path, ending: str) -> Path:
    (found,) = folder.glob(f"*{ending}")
    return found


async def test_files_are_their_owners_alone_and_tell_nothing(tmp_path) -> None:
    folder = tmp_path / "deep" / "tokens"
    store = file(folder)
    store.prepare()
    await keep(store, token("tok-SECRET"))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    text = only(folder, ".token").read_bytes()
    for told in (b"SECRET", DOKU.client_id.encode(), KEY.reveal().encode()):
        assert told not in text
        assert told.decode() not in "".join(path.name for path in folder.iterdir())


async def test_another_process_finds_the_token_and_the_lease(tmp_path) -> None:
    await keep(file(tmp_path), token("a"))
    lease = await leased(file(tmp_path), OTHER, "a")
    assert value(await file(tmp_path).get(DOKU)) == "a"
    assert (await file(tmp_path).claim(OTHER, "b", None)).why == "call"
    assert await file(tmp_path).renew(OTHER, lease)


@pytest.mark.parametrize("mode", [0o707, 0o777])
def test_a_directory_that_others_can_write_is_not_used(tmp_path, mode) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(StartError, match="can be written by others"):
        file(tmp_path).prepare()
    file(tmp_path / "below").prepare()


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"store: .*file/tokens: Not a directory"):
        file(tmp_path / "file" / "tokens").prepare()
    with pytest.raises(StartError, match="File exists"):
        file(tmp_path / "file").prepare()


async def test_the_directory_may_be_emptied_and_taken_away(tmp_path) -> None:
    store = file(tmp_path / "tokens")
    await keep(store, token("a"))
    for path in (tmp_path / "tokens").iterdir():
        path.unlink()
    (tmp_path / "tokens").rmdir()
    assert await store.get(DOKU) is None
    await keep(store, token("b"))
    assert value(await store.get(DOKU)) == "b"


@pytest.mark.parametrize("text", [b"", b"{", b"\x00" * 500, b'{"version": 99}'])
async def test_a_damaged_file_counts_as_absent(tmp_path, text) -> None:
    seen = Seen()
    store = file(tmp_path, seen)
    await keep(store, token("a"))
    only(tmp_path, ".token").write_bytes(text)
    assert await store.get(DOKU) is None
    assert (seen.damaged, seen.faults) == (1, [])
    await keep(store, token("b"))
    assert value(await store.get(DOKU)) == "b"


async def test_a_record_of_another_key_counts_as_absent(tmp_path) -> None:
    seen = Seen()
    old, new = Secret("the old secret..."), Secret("the new secret...")
    await keep(file(tmp_path, None, old), token("a"))
    assert await file(tmp_path, seen, new).get(DOKU) is None
    assert seen.damaged == 1
    assert value(await file(tmp_path, None, new, old).get(DOKU)) == "a"
    lease = await leased(file(tmp_path, seen, new), owner="b")
    assert value(await file(tmp_path, seen, new).put(DOKU, token("b"), lease)) == "b"
    assert value(await file(tmp_path, None, new, old).claim(DOKU, "c", None)) == "b"


async def test_what_a_killed_writer_left_is_written_over(tmp_path) -> None:
    store = file(tmp_path)
    await keep(store, token("a"))
    only(tmp_path, ".token").with_suffix(".new").write_bytes(b"half a pa")
    await store.drop(DOKU, token("a"))
    await keep(store, token("b"))
    assert value(await store.get(DOKU)) == "b"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".token"]


async def test_a_full_disk_is_a_fault_of_the_store(tmp_path, monkeypatch) -> None:
    seen = Seen()
    store = file(tmp_path, seen)
    await keep(store, token("a"))
    before = only(tmp_path, ".token").read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFault):
        await store.claim(DOKU, "b", token("a"))
    assert seen.faults == ["ENOSPC"]
    assert only(tmp_path, ".token").read_bytes() == before
    assert value(await store.get(DOKU)) == "a"


async def test_a_process_that_stands_still_in_the_middle_of_a_step_holds_nobody_up_for_long(tmp_path) -> None:
    seen = Seen()
    store = file(tmp_path, seen)
    await keep(store, token("a"))
    with only(tmp_path, ".lock").open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        started = time.monotonic()
        with pytest.raises(StoreFault):
            await store.get(DOKU)
        assert time.monotonic() - started < 3
    assert value(await store.get(DOKU)) == "a"
    assert seen.faults == ["EAGAIN"]


async def test_life_counts_on_the_clock_of_the_host_whatever_the_wall_clock_does(tmp_path) -> None:
    clock = HandClock()
    await keep(file(tmp_path, clock=clock), token("a", 900, now=clock.now))
    for jump in (3_600_000, -7_200_000):
        clock.wall_ms += jump
        got = await file(tmp_path, clock=clock).get(DOKU)
        assert got
        assert got.deadline == clock.now + 900
    clock.now += 900
    assert await file(tmp_path, clock=clock).get(DOKU) is None


async def test_a_token_outlives_a_restart_of_the_host(tmp_path) -> None:
    clock = HandClock()
    await keep(file(tmp_path, clock=clock, boot="1"), token("a", 900, now=clock.now))
    clock.now, clock.wall_ms = 5.0, clock.wall_ms + 100_000
    got = await file(tmp_path, clock=clock, boot="2").get(DOKU)
    assert got
    assert got.deadline == pytest.approx(5.0 + 800)


async def test_a_lease_ends_by_the_clock(tmp_path) -> None:
    clock = HandClock()
    store = file(tmp_path, clock=clock)
    await leased(store, owner="dead")
    clock.now += LEASE - 0.25
    assert await store.claim(DOKU, "b", None) == Held(0.25, "call")
    clock.now += 0.25
    assert isinstance(await store.claim(DOKU, "b", None), Lease)


HAMMER = """
import asyncio, sys
sys.path[:0] = ["tests", "tests/stores"]
from keeping import *
from proxy.model import Token
from proxy.stores import Lease

async def hammer(name):
    store, granted = file(Path(sys.argv[1])), 0
    while True:
        claimed = await store.claim(DOKU, name, token("0"))
        if isinstance(claimed, Lease):
            kept = token(f"{name}-{granted}")
            await store.put(DOKU, kept, claimed)
            await store.drop(DOKU, kept)
            granted += 1
            if granted == 1:
                print("begun", flush=True)
            await asyncio.sleep(0.01)  # or the other one finds no moment
        elif isinstance(claimed, Token):  # of one that was killed before it dropped it
            await store.drop(DOKU, claimed)

asyncio.run(hammer(sys.argv[2]))
"""


def hammering(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", HAMMER, str(folder), name], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    return process


async def taken_over(store, names) -> Lease:
    """The lease, which one of these may still have: then it is given to that one."""
    worn = None
    for name in cycle(names):
        claimed = await store.claim(DOKU, name, worn)
        if isinstance(claimed, Lease):
            return claimed
        worn = claimed if isinstance(claimed, Token) else worn
    raise AssertionError


async def test_processes_killed_in_the_middle_of_their_steps_leave_a_sound_store(tmp_path) -> None:
    """SIGKILL at ten moments: no file is damaged, no lock stays, no fence goes back."""
    seen = Seen()
    store = file(tmp_path, seen)
    fences = []
    for number in range(5):
        names = f"{number}-0", f"{number}-1"
        pair = [hammering(tmp_path, name) for name in names]
        await asyncio.sleep(0.03 + 0.013 * number)
        for process in pair:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        lease = await taken_over(store, names)
        fences.append(lease.fence)
        await store.release(DOKU, lease)
    assert fences == sorted(set(fences))
    assert fences[-1] >= 15
    assert (seen.damaged, seen.faults) == (0, [])
