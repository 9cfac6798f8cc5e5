import asyncio

from virtual_time import in_virtual_time

from proxy.alarm import Alarm


class Rung(list):
    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.alarm = Alarm(self.loop, lambda: self.append(self.loop.time() - self.start))
        self.start = self.loop.time()

    def at(self, seconds):
        self.alarm.at(self.start + seconds)

    def shows(self, *moments):
        return [round(moment, 3) for moment in self] == list(moments)


@in_virtual_time
async def test_it_rings_once_at_the_moment_set_last():
    rung = Rung()
    for moment in (5, 9, 7):
        rung.at(moment)
    await asyncio.sleep(30)
    assert rung.shows(7)


@in_virtual_time
async def test_an_earlier_moment_counts_at_once():
    rung = Rung()
    rung.at(9)
    rung.at(2)
    await asyncio.sleep(3)
    assert rung.shows(2)


@in_virtual_time
async def test_moved_on_and_on_it_never_rings():
    rung = Rung()
    for _ in range(20):
        rung.alarm.at(rung.loop.time() + 2)
        await asyncio.sleep(1)
    assert rung.shows()
    await asyncio.sleep(2)
    assert rung.shows(21)


@in_virtual_time
async def test_off_it_is_silent_and_can_be_set_again():
    rung = Rung()
    rung.at(1)
    rung.alarm.off()
    await asyncio.sleep(2)
    rung.at(5)
    await asyncio.sleep(10)
    rung.at(20)
    rung.alarm.end()
    await asyncio.sleep(30)
    assert rung.shows(5)
