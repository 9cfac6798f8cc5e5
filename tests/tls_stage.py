"""The sandbox over TLS, a configuration file that leads to it, and programs run with both."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trustme
import yaml
from running import of

from proxy.clock import SystemClock
from proxy.sandbox.accounts import FreshAccount
from proxy.sandbox.server import Entry, Sandbox

SECRET = "PARAF_TEST_SECRET"
"""The variable that holds the client secret."""
PARAF = (sys.executable, "-m", "proxy")
ROOT = Path(__file__).parent.parent


@dataclass
class Done:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass
class TlsStage:
    folder: Path
    fresh: FreshAccount
    sandbox: Sandbox
    configured: dict[str, Any]
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The configuration, as it is by now."""
        path = self.folder / "paraf.yaml"
        path.write_text(yaml.safe_dump(self.configured))
        return path

    @property
    def route(self) -> dict[str, Any]:
        return self.configured["routes"]["pay"]

    @property
    def left(self) -> list[str]:
        """What lies in the folder for temporary files."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())

    def calls(self) -> list[Entry]:
        return [entry for entry in self.sandbox.journal if entry.kind == "call"]

    def tokens(self) -> list[Entry]:
        return [entry for entry in self.sandbox.journal if entry.kind == "token"]

    async def begin(self, *words: str, **options: Any) -> asyncio.subprocess.Process:
        options = {"env": self.environ, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE} | options
        return await asyncio.create_subprocess_exec(*words, cwd=self.folder, **options)

    async def run(self, *words: str, seconds: float = 60, **environ: str) -> Done:
        process = await self.begin(*words, env=self.environ | environ)
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def behind(self, *words: str, options: tuple[str, ...] = (), seconds: float = 60, **environ: str) -> Done:
        """A program under `paraf exec`."""
        return await self.run(*PARAF, "exec", "-c", str(self.file), *options, "--", *words, seconds=seconds, **environ)


@asynccontextmanager
async def tls_stage(folder: Path, profile: str, *hosts: str, base: str = "", **route: Any) -> AsyncIterator[TlsStage]:
    """One account of `profile`, whose provider is the sandbox at `https://localhost`, and `hosts` that select it.

    `base`: a path below which the provider is, and which it does not sign. External ids may be of any form.
    """
    (fresh,) = of(profile)
    readings = {"external_id": "free"} | ({"strip_base_path": "true"} if base else {})
    if base:
        route["strip_base_path"] = True
    account = replace(fresh.account, name=base.strip("/") or fresh.account.name, readings=readings)
    fresh = replace(fresh, account=account)
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.cert_pem.write_to_path(folder / "provider-ca.pem")
    sandbox = Sandbox([fresh.account], clock=SystemClock(), tls=tls)
    _, port = await sandbox.start("127.0.0.1", 0)
    (folder / "tmp").mkdir()
    credentials: dict[str, Any] = {"client_id": fresh.account.client_id, "client_secret": {"env": SECRET}}
    if fresh.private_key_pem:
        (folder / "private.pem").write_text(fresh.private_key_pem)
        (folder / "private.pem").chmod(0o600)
        credentials["private_key"] = {"file": "private.pem"}
    written = {
        "provider": profile,
        "upstream": f"https://localhost:{port}{base}",
        "hosts": list(hosts),
        "allow_private": True,
        "tls": {"ca": "provider-ca.pem"},
        "credentials": credentials,
    }
    configured = {"version": 1, "admin": "off", "routes": {"pay": {**written, **route}}}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ = {
        **kept,
        SECRET: fresh.account.client_secret.reveal(),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(ROOT),
    }
    try:
        yield TlsStage(folder, fresh, sandbox, configured, environ)
    finally:
        await sandbox.stop()
