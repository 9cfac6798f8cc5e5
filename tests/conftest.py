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


@pytest.fixture(autouse=True)
def heard():
    """No signal is ignored at the start of a test: programs under test would inherit it, and `paraf exec` keeps to it.

    A shell starts jobs in the background with SIGINT ignored, `nohup` with SIGHUP; `serve` in this process does too.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


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
