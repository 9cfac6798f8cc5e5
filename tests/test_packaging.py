"""What is installed is what is here: a wheel and an editable install both find the profiles and run the command."""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import proxy

ROOT = Path(__file__).parent.parent
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "proxy", "config")
PROFILES = sorted(path.stem for path in (ROOT / "config" / "providers").glob("*.yaml"))

pytestmark = pytest.mark.slow


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is packaged: setuptools leaves files beside its source, and takes up those it left before."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        place = ROOT / name
        copied = shutil.copy if place.is_file() else shutil.copytree
        copied(place, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    made = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    run(*pip, "--wheel-dir", str(made), str(source), cwd=made)
    return next(made.glob("*.whl"))


@pytest.fixture(scope="module")
def packed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        yield archive


def fresh(folder, *install):
    """A new environment with Paraf installed; its dependencies are borrowed from the one that runs the tests."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ("--quiet", "--ignore-installed", "--no-deps", "--no-index", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "--python", str(python), "install", *options, *install, cwd=folder)
    return folder / "bin"


def test_every_module_is_packed(packed):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "proxy").rglob("*.py")}
    assert {name for name in packed.namelist() if name.endswith(".py")} == {*modules, "proxy/providers/__init__.py"}


def test_profiles_and_the_mark_of_types_are_packed(packed):
    assert {f"proxy/providers/{name}.yaml" for name in PROFILES} | {"proxy/py.typed"} <= set(packed.namelist())


def test_what_the_wheel_says_of_itself(packed):
    said = email.message_from_bytes(packed.read(f"paraf-{proxy.__version__}.dist-info/METADATA"))
    assert (said["Name"], said["Version"], said["Requires-Python"]) == ("paraf", proxy.__version__, ">=3.11")
    assert said["License-Expression"] == "Apache-2.0"
    assert any(line.startswith("aiohttp==") for line in said.get_all("Requires-Dist"))


@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_an_installed_paraf_finds_its_profiles(way, wheel, source, tmp_path):
    programs = fresh(tmp_path / "venv", *((str(wheel),) if way == "wheel" else ("--editable", str(source))))
    module = (str(programs / "python"), "-m", "proxy", "providers")
    for command, folder in (((str(programs / "paraf"), "providers"), tmp_path), (module, tmp_path), (module, source)):
        listed = run(*command, cwd=folder)
        assert [line.split()[0] for line in listed.splitlines()] == PROFILES
    where = run(str(programs / "python"), "-c", "import proxy; print(proxy.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path if way == "wheel" else source)


def pinned(name):
    """Version and hashes by package."""
    text = (ROOT / name).read_text("utf-8")
    parts = re.findall(r"^([a-z0-9._-]+)==(\S+)((?:.*\\\n)+.*)$", text, re.MULTILINE)
    return {package: (version, frozenset(re.findall(r"sha256:\w+", rest))) for package, version, rest in parts}


def test_the_image_gets_what_the_tests_ran_with():
    """deploy/requirements.lock is a part of requirements.lock; `uv pip compile` renews it, as its first lines say."""
    image, tested = pinned("deploy/requirements.lock"), pinned("requirements.lock")
    assert len(image) > 15
    assert image.items() <= tested.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = map(
        Requirement, (*project["dependencies"], *extras["fast"], *extras["inject"], *extras["otel"], *extras["redis"])
    )
    assert {canonicalize_name(each.name) for each in wanted} <= image.keys()
    assert "pytest" not in image


def test_a_wheel_is_the_same_bytes_each_time(source, tmp_path, monkeypatch):
    """From copies that were made at different times, with the moment that release builds set."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "315532800")
    made = []
    for number in range(2):
        copy = shutil.copytree(
            source, tmp_path / f"copy-{number}", ignore=shutil.ignore_patterns("build", "*.egg-info")
        )
        for path in copy.rglob("*"):
            os.utime(path, (1_000_000_000 + number * 86_400,) * 2)
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
        run(*pip, "--wheel-dir", str(tmp_path / str(number)), str(copy), cwd=tmp_path)
        made += (tmp_path / str(number)).glob("*.whl")
    assert made[0].name == made[1].name
    assert made[0].read_bytes() == made[1].read_bytes()


def test_the_dockerfile_has_nothing_to_complain_of():
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_given_only_what_is_packaged():
    wanted = (ROOT / ".dockerignore").read_text("utf-8").split()
    kept = {line.removeprefix("!") for line in wanted if line.startswith("!")}
    assert wanted[0] == "*"
    assert kept == {"pyproject.toml", "README.md", "LICENSE", "proxy", "config/providers"} | {
        "deploy/build.lock",
        "deploy/requirements.lock",
    }
