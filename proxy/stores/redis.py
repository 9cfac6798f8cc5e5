"""Tokens that many hosts share, in Redis or Valkey. Each step is one script, which Redis takes as a whole.

How long a token has to live is asked of Redis, whose clock is one for all: the wall clocks of hosts differ.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from proxy.errors import StoreFault
from proxy.model import Account, Secret, Token
from proxy.storeforms import RedisForm, RedisLogin
from proxy.stores import Held, Lease, StoreWatch
from proxy.stores.record import client_hash, mark
from proxy.stores.safe import Safe
from proxy.stores.scripts import CLAIM, DROP, GET, PUT, RELEASE, RENEW

PATIENCE: Final = 1.0
"""Seconds for one step, connecting included. Who has a token waits for none."""


class RedisStore:
    """Connects when it is first needed, and again after every fault; `monotonic` is what deadlines count on."""

    def __init__(
        self, form: RedisForm, login: RedisLogin, safe: Safe, monotonic: Callable[[], float], watch: StoreWatch
    ) -> None:
        self._form = form
        self._login = _Login(login)
        self._leaving: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._connect()
        self._safe = safe
        self._now = monotonic
        self._watch = watch

    async def get(self, account: Account) -> Token | None:
        asked = self._now()
        found = await self._run(GET, account)
        return found and self._open(account, found[0], asked, found[1])

    async def claim(self, account: Account, owner: str, worn: Token | None) -> Token | Lease | Held:
        worn_mark = mark(worn) if worn else ""
        while True:
            asked = self._now()
            said = await self._run(CLAIM, account, owner, worn_mark, _ms(account.min_gap))
            match said:
                case b"lease", fence, failures, moment:
                    # The clock there has gone on since: what is reckoned with this ends too early, never too late.
                    return Lease(owner, fence, failures, moment / 1000 - self._now())
                case b"held", why, left:
                    return Held(left / 1000, why.decode())
                case b"kept", record, worn_mark, left:
                    if token := self._open(account, record, asked, left):
                        return token
                    worn_mark = worn_mark.decode()  # nobody can read it: it is as if it were not there

    async def renew(self, account: Account, lease: Lease) -> bool:
        return bool(await self._run(RENEW, account, lease.owner, lease.fence))

    async def put(self, account: Account, token: Token, lease: Lease) -> Token:
        asked = self._now()
        ours = self._safe.seal(account, token), mark(token), token.expires_at_ms, _ms(token.deadline + lease.ahead)
        other = await self._run(PUT, account, lease.owner, lease.fence, *ours)
        return (other and self._open(account, other[0], asked, other[1])) or token

    async def release(self, account: Account, lease: Lease, rest: float | None = None) -> bool:
        return bool(await self._run(RELEASE, account, lease.owner, lease.fence, "" if rest is None else _ms(rest)))

    async def drop(self, account: Account, token: Token, *, refused: bool = True) -> int:
        return int(await self._run(DROP, account, mark(token), int(refused)))

    def log_in(self, login: RedisLogin) -> None:
        """Redis leaves a connection open whose password has changed since: none is lost. Those that other
        authorities vouched for end with the steps that are under way on them.
        """
        before, self._login.now = self._login.now, login
        if login.ca != before.ca:
            task = asyncio.get_running_loop().create_task(self._leave(self._redis))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            self._connect()

    async def close(self) -> None:
        self._over.set()
        for task in tuple(self._leaving):
            await task
        await self._redis.aclose()

    def _connect(self) -> None:
        """Make the client: it dials when it is first asked."""
        self._redis = _client(self._form, self._login)
        self._scripts = {text: self._redis.register_script(text) for text in (GET, CLAIM, RENEW, PUT, RELEASE, DROP)}

    async def _leave(self, client: Redis) -> None:
        """When no step can be under way on it any more, or all is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), PATIENCE)
        await client.aclose()

    def _open(self, account: Account, record: bytes, asked: float, left: int) -> Token | None:
        """`asked`: when the question went out, `left`: what Redis then said, in whole milliseconds."""
        return self._safe.open(account, record, asked + (left - 1) / 1000)

    async def _run(self, script: str, account: Account, *arguments: str | bytes | int) -> Any:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._scripts[script](keys=_keys(account), args=arguments)
        except (RedisError, OSError) as error:
            self._watch.failed(type(error).__name__)
            raise StoreFault from None
        self._watch.answered()
        return answer


class _Login(CredentialProvider):
    """Asked by the library for each connection."""

    def __init__(self, login: RedisLogin) -> None:
        self.now = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = _revealed(self.now.password) or ""
        return (self.now.username.reveal(), password) if self.now.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def _client(form: RedisForm, provider: _Login) -> Redis:
    login = provider.now
    return Redis(
        host=form.host,
        port=form.port,
        unix_socket_path=form.socket,
        db=form.database,
        credential_provider=provider if login.password or login.username else None,
        ssl=form.tls,
        ssl_ca_data=login.ca,
        ssl_check_hostname=True,
        # No repeats below us: when a step failed, who asked for it decides.
        retry=Retry(NoBackoff(), 0),
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        # RESP2: every server has it, and the library asks for no notices about a cloud's maintenance.
        protocol=2,
    )


def _revealed(secret: Secret | None) -> str | None:
    return secret.reveal() if secret else None


def _keys(account: Account) -> list[str]:
    """The braces keep both on one node, should somebody put a cluster's proxy in front."""
    url = account.token_url.partition("://")[2]
    name = f"{{{account.provider}:{account.environment}:{url}:{client_hash(account)}}}"
    return [f"paraf:{name}:token", f"paraf:{name}:lease"]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
