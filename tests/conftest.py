"""Puts this folder on the path, so that tests share their tools by plain import."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def event_loop_policy():
    """PARAF_TEST_LOOP=uvloop runs every test over uvloop."""
    if os.environ.get("PARAF_TEST_LOOP") == "uvloop":
        return pytest.importorskip("uvloop").EventLoopPolicy()
    return asyncio.DefaultEventLoopPolicy()
