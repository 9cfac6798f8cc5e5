import asyncio
from types import SimpleNamespace

from proxy.clock import SystemClock
from proxy.standing import Standing, Succession
from proxy.telemetry.ended import Ended

ACCOUNT = SimpleNamespace(identity=("doku", "MCH-1"))


async def test_a_token_call_keeps_the_generation_it_began_with_though_its_errand_began_earlier():
    begun, go = asyncio.Event(), asyncio.Event()

    async def fetch(_account, _confirm):
        begun.set()
        await go.wait()
        return "token"

    def generation(number):
        made = SimpleNamespace(number=number, own_secrets={ACCOUNT.identity: ()})
        return Standing(made, None, fetch, {}, {})

    succession = Succession(Ended(SystemClock()))
    succession.follow(generation(1))
    with succession.using(ACCOUNT):
        succession.follow(generation(2))
        call = asyncio.create_task(succession.fetch(ACCOUNT, None))
        await begun.wait()
        succession.follow(generation(3))
        assert succession.numbers == [1, 2, 3]
        go.set()
        assert await call == "token"
        assert succession.numbers == [1, 3]
    assert succession.numbers == [3]
