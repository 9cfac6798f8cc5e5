import json
import subprocess
import sys

import pytest

LOADED = """
import gc, json, os, ssl
import proxy.{package}.{module}
import aiohttp
contexts = [each for each in gc.get_objects() if isinstance(each, ssl.SSLContext)]
left = [os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")]
print(json.dumps([[each.cert_store_stats()["x509"] for each in contexts], left]))
"""


@pytest.mark.parametrize(("package", "module"), [("inbound", "plain"), ("outbound", "session")])
@pytest.mark.parametrize("said", [None, "/nonexistent/roots.pem"])
def test_aiohttp_is_loaded_without_authorities_and_nothing_else_is(package, module, said, monkeypatch):
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if said:
        monkeypatch.setenv("SSL_CERT_FILE", said)
    code = LOADED.format(package=package, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    trusted, left = json.loads(done.stdout)
    assert len(trusted) == 2
    assert set(trusted) == {0}
    assert left == [said, None]
