from collections.abc import Iterator

import pytest
from redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(one_redis: RedisServer) -> RedisServer:
    """Empty."""
    one_redis.flush()
    return one_redis
