"""What a worker knew last, through which nobody calls any more: it must not be told for ever."""

import asyncio
import re
import time
from email.utils import formatdate

from processes import Callers, ask, configuration, serving
from rawpeer import RawPeer, answer

PROBE = 1.0


class Moody:
    """A provider whose clock and health are set."""

    def __init__(self):
        self.ahead, self.status = 0, "200 OK"

    def __call__(self, _request):
        return answer(self.status, b"{}", f"Date: {formatdate(time.time() + self.ahead, usegmt=True)}")


async def of_both(callers):
    """A connection to each of two workers."""
    found = {}
    while len(found) < 2:
        pair = await callers.connect()
        found.setdefault((await ask(*pair))[2], pair)
    return tuple(found.values())


async def page(address):
    reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    told = (await reader.read()).decode()
    writer.close()
    return told


async def test_what_a_busy_worker_knows_counts_more_than_what_a_quiet_one_knew(tmp_path):
    moody = Moody()
    circuit = {"faults": 2, "probe": f"{PROBE}s"}
    async with RawPeer(moody) as peer:
        made = configuration(peer.url, control="127.0.0.1:0")
        made["routes"]["pay"]["circuit"] = circuit
        async with serving(tmp_path, made, "--workers", "2") as paraf, Callers(paraf.address) as callers:
            busy, quiet = await of_both(callers)
            moody.ahead = 300
            await asyncio.sleep(1.1)  # one Date a second is looked at
            for pair in (busy, quiet):
                await ask(*pair)
            assert await paraf.metric("paraf_clock_skew_seconds") > 290
            moody.ahead = 0
            await asyncio.sleep(1.1)
            await ask(*busy)
            assert abs(await paraf.metric("paraf_clock_skew_seconds")) < 10
            moody.status = "500 No"
            for pair in (busy, quiet) * 2:
                await ask(*pair)
            assert await paraf.metric("paraf_circuit_state") == 2
            moody.status = "200 OK"
            await asyncio.sleep(PROBE)
            assert {(await ask(*busy))[0] for _ in range(20)} == {200}
            assert await paraf.metric("paraf_circuit_state") == 1
            told = await page(paraf.ready["control"])
            assert re.findall(r">(open|half-open|closed)<", told) == ["half-open"]
            assert " s behind" not in told
            assert (await ask(*quiet))[0] == 200
            assert await paraf.metric("paraf_circuit_state") == 0
