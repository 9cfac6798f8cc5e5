"""What it costs to begin: nothing is loaded before it is needed."""

import json
import subprocess
import sys

import pytest

TRUSTED = """
import gc, json, os, ssl
import proxy.{module}
import aiohttp
contexts = [each for each in gc.get_objects() if isinstance(each, ssl.SSLContext)]
left = [os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")]
print(json.dumps([[each.cert_store_stats()["x509"] for each in contexts], left]))
"""
LOADED = """
import sys
from proxy.commands import main
try:
    main(["{command}", "--help"])
finally:
    print(*sys.modules)
"""


def said(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("module", ["commands.serve", "child"])
@pytest.mark.parametrize("file", [None, "/nonexistent/roots.pem"])
def test_aiohttp_is_loaded_without_authorities_and_the_environment_left_as_it_was(module, file, monkeypatch):
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if file:
        monkeypatch.setenv("SSL_CERT_FILE", file)
    trusted, left = json.loads(said(TRUSTED.format(module=module)))
    assert len(trusted) == 2
    assert set(trusted) == {0}
    assert left == [file, None]


@pytest.mark.parametrize(
    "command", ["check", "sign", "exec", "env", "ca", "token", "wait", "inject", "providers", "schema"]
)
def test_a_command_that_serves_nothing_loads_no_server(command):
    loaded = said(LOADED.format(command=command)).split()
    assert "click" in loaded
    assert not {"aiohttp", "uvloop", "redis", "opentelemetry"} & set(loaded)
