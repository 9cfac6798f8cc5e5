import asyncio
import errno
import socket
from contextlib import asynccontextmanager, suppress

from proxy.inbound import accepting
from proxy.inbound.accepting import Accepting
from proxy.inbound.turns import Turns


class Echo(asyncio.Protocol):
    def __init__(self, mark):
        self.mark = mark

    def connection_made(self, transport):
        transport.write(self.mark)


@asynccontextmanager
async def accepting_on(listener, mark=b"x", seat=None, connect=None):
    faults = []
    made = Accepting(listener, connect or (lambda: Echo(mark)), seat or Turns(1).seat(0), faults.append)
    try:
        yield faults
    finally:
        await made.stop()


async def ask(listener):
    reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
    try:
        return await asyncio.wait_for(reader.read(1), 5)
    finally:
        writer.close()


def beside_a_stopped_one():
    """The seat of a worker that is ahead of one that takes nobody."""
    turns = Turns(2)
    seat, stopped = turns.seat(0), turns.seat(1)
    seat.took()
    assert stopped.lead() == 0
    return seat


async def test_callers_are_taken_until_it_stops():
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    async with accepting_on(listener) as faults:
        assert [await ask(listener) for _ in range(5)] == [b"x"] * 5
    assert (listener.fileno(), faults) == (-1, [])
    with socket.socket() as late:
        assert late.connect_ex(address) == errno.ECONNREFUSED


async def test_a_burst_is_shared_evenly():
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        turns = Turns(2)
        callers = [await asyncio.open_connection(*listener.getsockname()) for _ in range(100)]
        async with accepting_on(listener, b"a", turns.seat(0)), accepting_on(listener.dup(), b"b", turns.seat(1)):
            marks = [await asyncio.wait_for(reader.read(1), 5) for reader, _ in callers]
    for _, writer in callers:
        writer.close()
    assert 40 <= marks.count(b"a") <= 60
    assert marks.count(b"a") + marks.count(b"b") == 100


async def test_one_that_takes_its_turns_slowly_is_not_taken_for_stopped():
    """However long ago it was first waited for."""
    turns = Turns(2)
    quick, slow = turns.seat(0), turns.seat(1)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:

        async def take_slowly():
            while True:
                await asyncio.sleep(0.004)
                if not slow.lead():
                    with suppress(BlockingIOError):
                        taken.append(listener.accept()[0])
                        slow.took()

        taken = []
        async with accepting_on(listener.dup(), b"a", quick):
            assert [await ask(listener), await ask(listener)] == [b"a", b"a"]  # the second after a wait in vain
            listener.setblocking(False)
            slow.took()
            slow.took()
            await asyncio.sleep(accepting._PATIENCE + 0.05)
            taking = asyncio.create_task(take_slowly())
            callers = [await asyncio.open_connection(*listener.getsockname()) for _ in range(32)]
            async with asyncio.timeout(5):
                while quick.page[quick.at] + slow.page[slow.at] < 36:  # noqa: ASYNC110 -- nobody tells of it
                    await asyncio.sleep(0.01)
            taking.cancel()
    for _, writer in callers:
        writer.close()
    for sock in taken:
        sock.close()
    assert len(taken) >= 10


async def test_one_of_three_that_is_stopped_is_not_waited_for_long():
    turns = Turns(3)
    seats = [turns.seat(number) for number in range(3)]
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        async with accepting_on(listener, b"a", seats[0]), accepting_on(listener.dup(), b"b", seats[1]):
            many = await asyncio.wait_for(asyncio.gather(*(ask(listener) for _ in range(400))), 10)
    assert set(many) == {b"a", b"b"}


async def test_one_that_does_not_take_its_turn_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(accepting, "_PATIENCE", 2)
    busy = beside_a_stopped_one()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        async with accepting_on(listener, b"a", busy):
            assert await asyncio.wait_for(ask(listener), 1.5) == b"a"
            many = await asyncio.wait_for(asyncio.gather(*(ask(listener) for _ in range(300))), 10)
            assert many == [b"a"] * 300


async def test_at_the_end_whoever_waits_is_taken_whosever_turn_it_is():
    quick = beside_a_stopped_one()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        callers = [await asyncio.open_connection(*listener.getsockname()) for _ in range(200)]
        made = Accepting(listener, lambda: Echo(b"a"), quick, print)
        await made.stop()
        assert [await asyncio.wait_for(reader.read(1), 5) for reader, _ in callers] == [b"a"] * 200
    for _, writer in callers:
        writer.close()


async def test_a_shortage_of_files_is_told_and_waited_out(monkeypatch):
    monkeypatch.setattr(accepting, "_SHORTAGE", 0.05)
    short = [OSError(errno.EMFILE, "Too many open files")] * 2

    class Listener(socket.socket):
        def accept(self):
            if short:
                raise short.pop()
            return super().accept()

    with Listener() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with accepting_on(listener) as faults:
            assert await ask(listener) == b"x"
        assert [fault.errno for fault in faults] == [errno.EMFILE] * 2


async def test_a_shortage_at_the_end_leaves_nothing_to_do():
    """Two reasons to rest: a turn that is another's, and then no file for one more."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))

    class Full(socket.socket):
        def accept(self):
            raise OSError(errno.EMFILE, "Too many open files")

    with Full() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        made = Accepting(listener, lambda: Echo(b"x"), beside_a_stopped_one(), told.append)
        _, writer = await asyncio.open_connection(*listener.getsockname())
        async with asyncio.timeout(5):
            while made._pause is None:  # noqa: ASYNC110 -- nobody tells of it
                await asyncio.sleep(0)
        await made.stop()
        await asyncio.sleep(0.05)
    writer.close()
    assert [fault.errno for fault in told] == [errno.EMFILE]


async def test_a_fault_in_making_a_connection_costs_that_caller_only():
    turns = Turns(1)
    seat, broken = turns.seat(0), [True]

    def connect():
        if broken.pop():
            raise ValueError("hunter2")
        return Echo(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with accepting_on(listener, seat=seat, connect=connect) as faults:
            assert await ask(listener) == b""
            broken.append(False)
            assert await ask(listener) == b"x"
        assert [type(fault) for fault in faults] == [ValueError]
    assert seat.page[seat.at] == 1  # Echo does not say when it is over
