"""What lies in deploy/ beside the chart: the unit for systemd, compose, what a release is made by."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import proxy
from proxy.settings import Drain

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "deploy" / "systemd" / "paraf.service"
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
RELEASE = ROOT / ".github" / "workflows" / "release.yaml"


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **more)


@pytest.mark.slow
def test_systemd_takes_the_unit_as_it_is_written(tmp_path):
    """With a program that is here; every setting must be known to it."""
    here = tmp_path / "paraf.service"
    here.write_text(UNIT.read_text().replace("/opt/paraf/bin/paraf", str(Path(sys.executable).parent / "paraf")))
    done = run("systemd-analyze", "verify", str(here))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
def test_the_unit_is_confined():
    """1.4 of 10, where 10 is no protection: what is left is the network, which it needs."""
    done = run("systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", str(UNIT))
    assert done.returncode == 0, done.stdout


def test_time_to_end_covers_the_drain():
    seconds = int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)[1])
    assert seconds > Drain().delay + Drain().timeout


def test_every_program_of_compose_is_confined_and_in_one_network():
    services = COMPOSE["services"]
    assert set(services) == {"shop", "paraf", "sandbox"}
    for each in services.values():
        assert (each["read_only"], each["cap_drop"], each["mem_limit"]) == (True, ["ALL"], "128m")
        assert each["security_opt"] == ["no-new-privileges:true"]
    assert {services[name]["network_mode"] for name in ("paraf", "sandbox")} == {"service:shop"}
    assert services["paraf"]["image"].endswith(f"paraf:{proxy.__version__}}}")


def test_notes_of_a_release_are_a_section_of_the_changelog(tmp_path):
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "release-notes", tmp_path / "deploy")
    log = "# Changes\n\n## [Unreleased]\n\n- c\n\n## [0.2.0] - 2026-01-01\n\n- b\n\n## [0.1.0]\n\n- a\n"
    (tmp_path / "CHANGELOG.md").write_text(log)
    program = str(tmp_path / "deploy" / "release-notes")
    assert run(program, "0.2.0").stdout == "\n- b\n\n"
    assert run(program, "0.1.0").stdout == "\n- a\n"
    assert run(program, "0.3.0").returncode == 1


def test_the_release_gives_each_job_only_what_it_needs():
    jobs = yaml.safe_load(RELEASE.read_text("utf-8"))
    assert jobs["permissions"] == {}
    for name, job in jobs["jobs"].items():
        assert job["timeout-minutes"] <= 60
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.search(r"@(v\d+|[0-9a-f]{40}|release/v1)$", each) for each in uses), name
        if "id-token" in job["permissions"]:
            assert job["environment"] == "release"
            assert {job["needs"]} <= {"check", "package"}


PAGES = ("deploy/README.md", "deploy/helm/paraf/README.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_pages_lead_somewhere(page):
    place = ROOT / page
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", place.read_text("utf-8")):
        file = place.parent / target if target else place
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
