"""The image, built and run hardened with podman. By hand: python tests/cluster/image.py

Needs root, podman, buildah, runc, and a base: BASE=docker.io/library/python:3.12-slim where it can be pulled, or one
that tests/cluster/base made.
"""

import asyncio
import json
import os
import re
import tempfile
from pathlib import Path

import yaml
from showing import IMAGE, ROOT, answers, check, finish, run, said, under_load, until

BASE = os.environ.get("BASE", "docker.io/library/python:3.12-slim")
HARDENED = (
    "--read-only --user 65532:65532 --cap-drop ALL --security-opt no-new-privileges --memory 128m --pids-limit 64"
).split()
PORT, ADMIN = 18080, 19464


def build():
    run("buildah", "bud", "--pull-never", "--format", "docker", "--build-arg", f"BASE={BASE}", "-t", IMAGE, ROOT)


def looks():
    image = json.loads(said("podman", "inspect", IMAGE))[0]
    base = json.loads(said("podman", "inspect", BASE))[0]
    config = image["Config"]
    assert config["User"] == "65532:65532"
    assert config["Labels"]["org.opencontainers.image.title"] == "paraf"
    return (image["Size"] - base["Size"]) / 1e6


def memory(name):
    """MiB: of the container, and of its first process."""
    inside = said("podman", "inspect", name, "--format", "{{.State.Pid}}")
    rss = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{inside}/status").read_text())[1])
    pss = int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{inside}/smaps_rollup").read_text(), re.MULTILINE)[1])
    return rss / 1024, pss / 1024


def peak(name):
    """MiB, of the first process."""
    status = Path(f"/proc/{state(name)['Pid']}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


class Pod:
    """The sandbox and Paraf, in one network; the sandbox wrote the configuration."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def start(self):
        shared = self.folder / "shared"
        shared.mkdir()
        os.chown(shared, 65532, 65532)
        run("podman", "pod", "create", "--name", "paraf-check", "-p", f"127.0.0.1:{PORT}:8080",
            "-p", f"127.0.0.1:{ADMIN}:9464")  # fmt: skip
        run("podman", "run", "-d", "--pod", "paraf-check", "--name", "paraf-check-sandbox", *HARDENED, "-v",
            f"{shared}:/shared", IMAGE, "sandbox", "--provider", "doku-nonsnap", "--write", "/shared")  # fmt: skip
        until((shared / "paraf.yaml").exists, what="the sandbox's configuration")
        configured = yaml.safe_load((shared / "paraf.yaml").read_text())
        configured |= {"listen": "0.0.0.0:8080", "admin": "0.0.0.0:9464", "log": {"format": "json"}}
        configured["routes"]["doku-nonsnap"]["prefix"] = "/pay"
        (shared / "paraf.yaml").write_text(yaml.safe_dump(configured))
        run("podman", "run", "-d", "--pod", "paraf-check", "--name", "paraf-check-paraf", *HARDENED, "-v",
            f"{shared}:/etc/paraf:ro", IMAGE)  # fmt: skip
        until(lambda: answers(f"http://127.0.0.1:{ADMIN}/readyz") == 200, what="ready")

    def stop(self):
        run("podman", "pod", "rm", "-f", "paraf-check", check=False)


def state(name):
    return json.loads(said("podman", "inspect", name))[0]["State"]


def confined():
    status = Path(f"/proc/{state('paraf-check-paraf')['Pid']}/status").read_text()
    fields = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    assert fields["Uid"].split() == ["65532"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def main():
    with check("image builds") as told:
        build()
        told.append(f"{looks():.0f} MB on top of the base")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        pod = Pod(folder)
        try:
            with check("runs hardened: read-only root, UID 65532, no capability, no new privileges, 128 MiB") as told:
                pod.start()
                confined()
                told.append("idle RSS {:.0f} MiB, PSS {:.0f} MiB".format(*memory("paraf-check-paraf")))
            with check("HEALTHCHECK"):
                run("podman", "healthcheck", "run", "paraf-check-paraf")
            with check("SIGTERM under load") as told:

                def end():
                    told.append(f"RSS at most {peak('paraf-check-paraf'):.0f} MiB under load")
                    run("podman", "kill", "-s", "TERM", "paraf-check-paraf")

                count, lost = asyncio.run(under_load(("127.0.0.1", PORT), end, before=5))
                told.append(str(count))
                assert count["200"] > 100
                assert set(count) <= {"200", "refused"}, lost
                until(lambda: not state("paraf-check-paraf")["Running"], what="the end")
                assert state("paraf-check-paraf")["ExitCode"] == 0
        finally:
            pod.stop()
    finish()


if __name__ == "__main__":
    main()
