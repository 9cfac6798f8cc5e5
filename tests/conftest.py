"""Puts this folder on the path, so that tests share their tools by plain import."""

import asyncio
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# A shell starts jobs in the background with SIGINT ignored, `nohup` with SIGHUP; the programs under test would inherit
# that, and `paraf exec` keeps what it was told to ignore.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
async def named(monkeypatch):
    """`named(api_example=["127.0.0.1"])`: what names lead to, in the loop of the test."""
    from names import Names  # noqa: PLC0415 -- this folder is on the path by now

    def install(**known):
        names = Names(**known)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
        return names

    return install


def pytest_asyncio_loop_factories(config, item):
    """PARAF_TEST_LOOP=uvloop runs every test over uvloop; those marked `both_loops` run over both always."""
    both = item.get_closest_marker("both_loops") is not None
    names = ("asyncio", "uvloop") if both else (os.environ.get("PARAF_TEST_LOOP", "asyncio"),)
    return {name: import_module(name).new_event_loop for name in names}
