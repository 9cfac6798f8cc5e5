"""A real Prometheus of the test's own, on loopback, that scrapes twice a second."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

PROGRAM = shutil.which("prometheus") or "prometheus is not installed"
PROMTOOL = shutil.which("promtool") or "promtool is not installed"


@dataclass
class Prometheus:
    url: str
    session: aiohttp.ClientSession

    async def ask(self, expression: str) -> list[float]:
        """The values that it gives now, without those that are no number."""
        async with self.session.get(f"{self.url}/api/v1/query", params={"query": expression}) as answer:
            said = await answer.json()
        assert said["status"] == "success", (expression, said)
        return [value for each in said["data"]["result"] if (value := float(each["value"][1])) == value]

    async def is_ready(self) -> bool:
        with suppress(aiohttp.ClientError):
            async with self.session.get(f"{self.url}/-/ready") as answer:
                return answer.status == 200
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as asking:
        return int(asking.getsockname()[1])


def configured(folder: Path, targets: Sequence[str], rules: Sequence[Path]) -> Path:
    often = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    jobs = [{"job_name": "paraf", "static_configs": [{"targets": list(targets)}]}]
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump({"global": often, "rule_files": list(map(str, rules)), "scrape_configs": jobs}))
    return file


@asynccontextmanager
async def scraping(folder: Path, targets: Sequence[str], rules: Sequence[Path]) -> AsyncIterator[Prometheus]:
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, f"--config.file={configured(folder, targets, rules)}", f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}", stdout=log, stderr=log,
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
                prometheus = Prometheus(f"http://127.0.0.1:{port}", session)
                async with asyncio.timeout(60):
                    while not await prometheus.is_ready():
                        assert process.returncode is None, (folder / "prometheus.log").read_text()
                        await asyncio.sleep(0.1)
                yield prometheus
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def promtool(*arguments: Any) -> tuple[int, str]:
    """Exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        PROMTOOL, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
