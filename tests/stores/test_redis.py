"""A real redis-server: down, asleep, emptied, behind a password and behind TLS."""

import asyncio
import socket
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from keeping import DOKU, KEY, OTHER, Seen, keep, leased, redis_store, token, value
from redis_server import RedisServer, redis_server

from proxy.errors import StoreFault
from proxy.model import Secret
from proxy.storeforms import RedisForm, RedisLogin
from proxy.stores import LEASE, Held, Lease
from proxy.stores.redis import PATIENCE, RedisStore
from proxy.stores.safe import Safe


@pytest.fixture
async def store(redis):
    made = redis_store(redis.socket)
    yield made
    await made.close()


@pytest.fixture
def server(tmp_path):
    with redis_server(tmp_path) as server:
        yield server


async def test_keys_name_the_account_and_tell_no_secret(store, redis) -> None:
    await keep(store, token("tok-SECRET"))
    with redis.client() as asking:
        names = sorted(asking.keys("*"))
        kept = {name: asking.hgetall(name) for name in names}
        left = asking.pttl(names[1])
    assert [name.rpartition(b":")[2] for name in names] == [b"lease", b"token"]
    assert all(name.startswith(b"paraf:{doku:sandbox:api.test/token:") for name in names)
    for told in (b"SECRET", DOKU.client_id.encode(), KEY.reveal().encode()):
        assert told not in repr(kept).encode()
    assert 59_000 < left <= 60_000


async def test_the_rest_of_a_life_is_what_redis_says(store, redis) -> None:
    """A token read after a time on the way is not taken for a longer-lived one than it is."""
    kept = token("a", 60)
    await keep(store, kept)
    for _ in range(20):
        got = await store.get(DOKU)
        assert got
        assert kept.deadline - 0.05 < got.deadline <= kept.deadline


async def test_fences_grow_also_when_redis_forgot_everything(store, redis) -> None:
    first = await leased(store)
    redis.flush()
    assert not await store.renew(DOKU, first)
    second = await leased(store, owner="b")
    assert second.fence > first.fence
    assert value(await store.put(DOKU, token("late", ends_ms=1), first)) == "late"
    assert value(await store.put(DOKU, token("new", ends_ms=0), second)) == "new"


async def test_a_lease_ends_by_the_clock_of_redis(store, redis) -> None:
    await leased(store, owner="dead")
    with redis.client() as asking:
        (name,) = asking.keys("*:lease")
        for moment in ("leased", "called", "rests"):
            asking.hincrby(name, moment, -int(LEASE * 1000) + 300)
    assert (await store.claim(DOKU, "b", None)) == Held(pytest.approx(0.15, abs=0.15), "call")
    await asyncio.sleep(0.3)
    assert isinstance(await store.claim(DOKU, "b", None), Lease)


async def test_a_clock_of_redis_that_was_set_back_holds_nobody_up(store, redis) -> None:
    await leased(store, owner="dead")
    with redis.client() as asking:
        (name,) = asking.keys("*:lease")
        for moment in ("leased", "called", "rests"):
            asking.hincrby(name, moment, 3_600_000)
    assert isinstance(await store.claim(DOKU, "b", None), Lease)


async def test_a_record_of_another_key_counts_as_absent(redis) -> None:
    seen, old, new = Seen(), Secret("the old secret..."), Secret("the new secret...")
    writer, reader, both = (redis_store(redis.socket, seen, *keys) for keys in ((old,), (new,), (new, old)))
    await keep(writer, token("a"))
    assert await reader.get(DOKU) is None
    assert seen.damaged == 1
    assert value(await both.get(DOKU)) == "a"
    lease = await leased(reader, owner="b")
    assert value(await reader.put(DOKU, token("b"), lease)) == "b"
    assert value(await both.claim(DOKU, "c", None)) == "b"
    for store in (writer, reader, both):
        await store.close()


async def test_down_is_a_fault_at_once_and_up_is_up_without_a_restart_of_ours(server) -> None:
    seen = Seen()
    store = redis_store(server.socket, seen)
    await keep(store, token("a"))
    server.kill()
    started = time.monotonic()
    for _ in range(3):
        with pytest.raises(StoreFault):
            await store.get(DOKU)
    assert time.monotonic() - started < PATIENCE
    server.start()  # empty, and it knows none of our scripts
    await keep(store, token("b"))
    assert value(await store.get(DOKU)) == "b"
    assert seen.faults == ["ConnectionError"] * 3
    await store.close()


async def test_durable_redis_gives_back_what_it_had(tmp_path) -> None:
    with redis_server(tmp_path, durable=True) as server:
        store = redis_store(server.socket)
        await keep(store, token("a"))
        server.kill()
        server.start()
        await asyncio.sleep(0.01)  # the loop learns that its connection is gone
        assert value(await store.get(DOKU)) == "a"
        await store.close()


async def test_asleep_is_a_fault_after_a_second(server) -> None:
    seen = Seen()
    store = redis_store(server.socket, seen)
    await keep(store, token("a"))
    with server.asleep():
        started = time.monotonic()
        outcomes = await asyncio.gather(*(store.get(DOKU) for _ in range(5)), return_exceptions=True)
        assert PATIENCE - 0.1 < time.monotonic() - started < 2 * PATIENCE
    assert {type(outcome) for outcome in outcomes} == {StoreFault}
    assert value(await store.get(DOKU)) == "a"
    assert set(seen.faults) == {"TimeoutError"}
    await store.close()


async def test_a_host_that_does_not_answer_is_a_fault_after_a_second() -> None:
    """A listener whose line is full lets a connect wait, as a host does that drops packets."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        store = RedisStore(
            RedisForm("127.0.0.1", full.getsockname()[1]),
            RedisLogin(),
            Safe(lambda _: (KEY,), Seen()),
            time.monotonic,
            Seen(),
        )
        started = time.monotonic()
        with pytest.raises(StoreFault):
            await store.get(DOKU)
        assert time.monotonic() - started < 2 * PATIENCE
        await store.close()
        for each in waiting:
            each.close()


async def test_a_claim_whose_answer_was_lost_stops_nobody(server) -> None:
    """Redis executes what it read in its sleep, and nobody hears of it."""
    store = redis_store(server.socket)
    await store.get(DOKU)
    patient = replace(DOKU, min_gap=5.0)
    with server.asleep(), pytest.raises(StoreFault):
        await store.claim(patient, "me", None)
    assert isinstance(await store.claim(patient, "me", None), Lease)
    await store.close()


async def test_user_and_password(tmp_path) -> None:
    acl = ("--user", "paraf", "on", ">hunter2", "~paraf:*", "+@hash", "+@scripting", "+del", "+pttl", "+time")
    acl += ("+pexpire", "+pexpireat", "+@connection", "--user", "default", "on", ">hunter3", "~*", "+@all")
    with redis_server(tmp_path, options=acl) as server:
        right = redis_store(server.socket, login=RedisLogin(Secret("paraf"), Secret("hunter2")))
        await keep(right, token("a"))
        assert value(await right.get(DOKU)) == "a"
        await right.close()
        for login in (RedisLogin(), RedisLogin(None, Secret("wrong")), RedisLogin(Secret("paraf"), Secret("wrong"))):
            seen = Seen()
            wrong = redis_store(server.socket, seen, login=login)
            with pytest.raises(StoreFault):
                await wrong.get(DOKU)
            assert seen.faults[0].endswith("Error")
            await wrong.close()


async def test_a_password_that_changes_is_said_from_the_next_connection_on(tmp_path) -> None:
    with redis_server(tmp_path, options=("--requirepass", "hunter2")) as server:
        store = redis_store(server.socket, login=RedisLogin(None, Secret("hunter2")))
        await keep(store, token("a"))
        with server.client(password="hunter2") as operator:
            operator.config_set("requirepass", "hunter3")
            store.log_in(RedisLogin(None, Secret("hunter3")))
            assert value(await store.get(DOKU)) == "a"  # over the connection that was there
            operator.client_kill_filter(_type="normal", skipme=True)
        for _ in range(2):
            with suppress(StoreFault):  # the connection that was killed
                assert value(await store.get(DOKU)) == "a"
        assert value(await store.get(DOKU)) == "a"
        await store.close()


def with_tls(folder: Path, authority: trustme.CA, port: int) -> AbstractContextManager[RedisServer]:
    """A server on `port` of localhost, with a certificate of this authority."""
    made = authority.issue_cert("localhost")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    tls = ("--tls-port", str(port), "--tls-auth-clients", "no")
    tls += ("--tls-cert-file", str(folder / "cert.pem"), "--tls-key-file", str(folder / "key.pem"))
    return redis_server(folder, options=tls)


def over_tls(port: int, *trusted: trustme.CA, host: str = "localhost") -> RedisStore:
    form = RedisForm(host, port, tls=True)
    return RedisStore(form, trusting(*trusted), Safe(lambda _: (KEY,), Seen()), time.monotonic, Seen())


def trusting(*trusted: trustme.CA) -> RedisLogin:
    return RedisLogin(ca="".join(each.cert_pem.bytes().decode() for each in trusted) or None)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def test_tls_is_verified(tmp_path, port) -> None:
    authority, other = trustme.CA(), trustme.CA()
    with with_tls(tmp_path, authority, port):
        store = over_tls(port, authority)
        await keep(store, token("a"), OTHER)
        assert value(await store.get(OTHER)) == "a"
        await store.close()
        for wrong in (over_tls(port, authority, host="127.0.0.1"), over_tls(port, other), over_tls(port)):
            with pytest.raises(StoreFault):
                await wrong.get(OTHER)
            await wrong.close()


async def test_authorities_that_change_are_asked_from_then_on(tmp_path, port) -> None:
    old, new = trustme.CA(), trustme.CA()
    store = over_tls(port, old)
    with with_tls(tmp_path, old, port):
        await keep(store, token("a"))
    with with_tls(tmp_path, new, port):
        with pytest.raises(StoreFault):
            await store.get(DOKU)
        store.log_in(trusting(new))
        await keep(store, token("b"))
        store.log_in(trusting(old))
        with pytest.raises(StoreFault):  # also where a connection stands
            await store.get(DOKU)
    await store.close()


async def test_a_step_that_is_under_way_while_the_authorities_change_ends_in_order(tmp_path, port) -> None:
    old, new = trustme.CA(), trustme.CA()
    store = over_tls(port, old)
    with with_tls(tmp_path, old, port) as server:
        await keep(store, token("a"))
        with server.asleep():
            step = asyncio.create_task(store.get(DOKU))
            await asyncio.sleep(0.01)
            store.log_in(trusting(old, new))
        assert value(await step) == "a"
        assert value(await store.get(DOKU)) == "a"
        with server.client() as operator:

            async def left(number):
                async with asyncio.timeout(5 * PATIENCE):
                    while len(operator.client_list()) != number:  # noqa: ASYNC110 -- Redis tells nobody
                        await asyncio.sleep(0.02)

            assert len(operator.client_list()) == 3
            await left(2)  # the store's, and the operator's
            store.log_in(trusting(new, old))
            await store.close()
            await left(1)
