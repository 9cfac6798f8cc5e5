"""The rules of the house, read from the files themselves: imports point down, what is pure stays pure."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from shutil import which

import pytest
from packaging.requirements import Requirement

from proxy.catalogue import Catalogue

ROOT = Path(__file__).parent.parent

LAYERS = """
    __main__
    commands
    compare doctor supervisor
    worker alone child
    app kube sandbox
    standing reloading
    inbound
    pipeline shadow
    crew answers evidence recent overview
    fetch loading inquest
    generation
    interception surroundings
    tokens
    storekeys outlets errand gate breaker deadline callers
    failures sharing
    stores outbound keyring catalogue upstreams sealing telemetry ids
    keyforms authority files
    signing
    routes headers shares
    settings
    storeforms outletforms
    variables
    crosschecks references switches
    quantities
    addresses shape bounds
    partial
    source
    model
    alarm errors clock hardening line notify outbox stopping remembered rootless __init__
"""
"""From the top down. A row imports from rows below it; two rooms of one row do not know each other."""

PURE = """signing settings storeforms outletforms stores.record crosschecks references source shape quantities switches
    addresses routes headers shares remembered model errors bounds partial inbound.ways inbound.problem inbound.page
    kube.inject kube.sidecar""".split()
IMPURE = frozenset(
    """aiohttp asyncio http.client http.server importlib io logging multiprocessing os pathlib random secrets select
    shutil signal socket ssl structlog subprocess sys tempfile threading time urllib.request uuid""".split()
)
DEEDS = frozenset("open print input now utcnow today eval exec __import__".split())
"""Calls that read a clock or touch the world without an import that tells."""

MAY_IMPORT = {
    "aiohappyeyeballs": "outbound.dial",
    "aiohttp": "inbound outbound.session outbound.pool sandbox.server app rootless",
    "click": "commands",
    "cryptography": "signing.algorithms authority keyring keyforms storekeys stores.record generation sandbox commands",
    "httptools": "outbound.line",
    "msgspec": "signing.canonical",
    "opentelemetry": "telemetry.traces",
    "prometheus_client": "telemetry.metrics",
    "redis": "stores.redis",
    "ruamel": "kube.text",
    "structlog": "telemetry",
    "uvloop": "app",
    "yaml": "source commands",
    "yarl": "outbound.session",
}
"""Each library and the modules that may know it."""

SANDBOX_KNOWS = {"model", "errors", "clock"}

SHARED_VECTORS = {"netzme-main": "netzme", "netzme-vsnap": "snap"}
"""Profiles without vectors of their own, and the profile whose vectors hold for them: schemes and digests agree."""

TOP = set(
    """pyproject.toml README.md proxy config tests deploy Dockerfile .ci LICENSE CHANGELOG.md requirements.lock
    .dockerignore .github .gitignore""".split()
)
MOST_LINES = 400
BANNED_NAMES = {"util", "utils", "helper", "helpers", "manager", "handler", "service", "data", "info", "common", "misc"}
MACHINE_PATH = re.compile(r"(?<![\w.}/-])/(?:home|root|tmp|work|Users)/\w")
REGISTRY = re.compile(
    r"pypi[.]org|python[h]osted|npm[j]s|proxy[.]golang|(?:index[-]url|find[-]links)\s*=\s*\S+://", re.IGNORECASE
)


def name_of(file: Path) -> str:
    """`proxy/signing/draft.py` → `signing.draft`; a package by its own name."""
    parts = file.relative_to(ROOT / "proxy").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(file): file for file in sorted((ROOT / "proxy").rglob("*.py"))}
LAYER = {room: depth for depth, row in enumerate(LAYERS.strip().splitlines()) for room in row.split()}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


def room(module: str) -> str:
    return module.partition(".")[0]


def within(module: str, rooms: str | list[str]) -> bool:
    """Is it one of these modules, or inside one of these packages?"""
    listed = rooms.split() if isinstance(rooms, str) else rooms
    return any(module == each or module.startswith(f"{each}.") for each in listed)


@cache
def imported(module: str) -> frozenset[str]:
    """Full names of every import, those inside functions too; `from x import y` as `x.y` when that is a module."""
    names = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in whole if name.removeprefix("proxy.") in MODULES}
            names |= modules if modules == whole else {*modules, str(node.module)}
    return frozenset(names)


def own(module: str) -> set[str]:
    """The modules of ours that it imports, as names of MODULES."""
    names = {name for name in imported(module) if name.partition(".")[0] == "proxy"}
    return {name.removeprefix("proxy.") if name != "proxy" else "__init__" for name in names}


def foreign(module: str) -> set[str]:
    return {name for name in imported(module) if name.partition(".")[0] != "proxy"}


@cache
def tracked() -> tuple[Path, ...]:
    """What git tracks or would, and where there is no git all that lies under the known names."""
    command = ("git", "ls-files", "-co", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) if which("git") else None
    if listed is not None and listed.returncode == 0:
        return tuple(path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file())
    found = [path for name in TOP for path in (ROOT / name, *(ROOT / name).rglob("*")) if path.is_file()]
    return tuple(path for path in found if path.suffix != ".pyc")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    mine = LAYER.get(room(module))
    assert mine is not None, f"{module} has no place in LAYERS"
    wrong = {name for name in own(module) if room(name) != room(module) and LAYER[room(name)] <= mine}
    assert not wrong, f"{module} stands beside or below what it imports"


def test_every_place_in_the_house_is_taken():
    assert set(LAYER) == {room(module) for module in MODULES}


def test_no_module_needs_itself():
    """Inside a package too: take away what needs nothing that is left, until nothing is left."""
    needs = {module: own(module) & MODULES.keys() - {module} for module in MODULES}
    while needs:
        free = [module for module, below in needs.items() if not below & needs.keys()]
        assert free, f"a circle among {sorted(needs)}"
        for module in free:
            del needs[module]


def is_promise(function: ast.AsyncFunctionDef) -> bool:
    """A method of a Protocol: no deed, a docstring or `...` alone."""
    return all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in function.body)


def impurities(module: str) -> Iterator[str]:
    yield from (name for name in foreign(module) if {name, name.partition(".")[0]} & IMPURE)
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"await in line {node.lineno}"
        if isinstance(node, ast.AsyncFunctionDef) and not is_promise(node):
            yield f"async {node.name}"
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in DEEDS:
            yield f"a deed in line {node.lineno}"


@pytest.mark.parametrize("module", [module for module in MODULES if within(module, PURE)])
def test_what_is_pure_does_nothing_to_the_world(module):
    assert list(impurities(module)) == []


def test_the_pure_modules_are_there():
    assert all(any(within(module, [name]) for module in MODULES) for name in PURE)


@pytest.mark.parametrize("module", [module for module in MODULES if within(module, "sandbox")])
def test_the_sandbox_knows_nothing_of_the_signer(module):
    assert {room(name) for name in own(module)} <= {*SANDBOX_KNOWS, "sandbox"}


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_in_their_rooms(module):
    theirs = {name.partition(".")[0] for name in foreign(module)} & MAY_IMPORT.keys()
    assert {library for library in theirs if not within(module, MAY_IMPORT[library])} == set()


def test_every_library_is_a_declared_dependency():
    """What is imported is installed, and what is installed is used; an extra has one room."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in extras if name != "test" for line in extras[name])]
    distributions = {re.split(r"[<>=~! ;\[]", line)[0] for line in lines}
    otel = dict.fromkeys(("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"), "opentelemetry")
    named = {"pyyaml": "yaml", "ruamel.yaml": "ruamel", **otel}
    declared = {named.get(name, name.replace("-", "_")) for name in distributions}
    standard = sys.stdlib_module_names
    used = {name.partition(".")[0] for module in MODULES for name in foreign(module)} - standard
    assert used == declared == MAY_IMPORT.keys()


@pytest.mark.parametrize("module", MODULES)
def test_only_signing_makes_a_signed_request(module):
    calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    makes = any(getattr(function, "id", getattr(function, "attr", "")) == "SignedRequest" for function in calls)
    assert not makes or within(module, "signing")


def vector_profiles() -> set[str]:
    """The profiles that tests/signing/test_vectors.py runs, from its own table."""
    module = ast.parse((ROOT / "tests" / "signing" / "test_vectors.py").read_text("utf-8"))
    table = next(
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PROFILES"
    )
    files = {path.stem for path in (ROOT / "tests" / "vectors").glob("*.json")}
    return {profile for (file, _), profile in table.items() if file in files}


@pytest.mark.parametrize("profile", Catalogue().names)
def test_every_profile_has_vectors(profile):
    catalogue = Catalogue()
    judged = SHARED_VECTORS.get(profile, profile)
    assert judged in vector_profiles(), (
        f"{profile}: vectors in tests/vectors, and a row in tests/signing/test_vectors.py"
    )
    mine, theirs = catalogue.laid_out(profile), catalogue.laid_out(judged)
    alike = ("schemes", "let", "canonical", "timestamp", "method_case", "signature")
    assert {key: mine.get(key) for key in alike} == {key: theirs.get(key) for key in alike}


def test_no_stale_word_on_shared_vectors():
    assert SHARED_VECTORS.keys() <= set(Catalogue().names)
    assert not SHARED_VECTORS.keys() & vector_profiles()


@pytest.mark.parametrize("profile", Catalogue().names)
def test_every_profile_has_a_row_in_the_readme(profile):
    assert re.search(rf"^\| `{profile}` \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_short(module):
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", MODULES)
def test_names_say_what_is_inside(module):
    classes = [node.name for node in ast.walk(tree(module)) if isinstance(node, ast.ClassDef)]
    words = {word.lower() for name in classes for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    words |= set(re.split(r"[._]", module))
    assert not words & BANNED_NAMES


def test_the_top_level_is_fixed():
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP


def test_nothing_of_one_machine_is_tracked():
    found = []
    for path in tracked():
        text = path.read_text("utf-8")
        found += [
            f"{path.relative_to(ROOT)}: {hit[0]}" for hit in (MACHINE_PATH.search(text), REGISTRY.search(text)) if hit
        ]
    assert found == []


def test_the_lock_holds_hashes_and_no_address():
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = re.findall(r"^[a-z0-9-]+==\S+", lock, re.MULTILINE)
    assert "://" not in lock
    assert len(pinned) == len(re.findall(r"^\S", lock, re.MULTILINE)) - len(re.findall(r"^#", lock, re.MULTILINE))
    assert len(re.findall(r"^[a-z].*(?:\\\n +--hash=sha256:[0-9a-f]{64} ?)+", lock, re.MULTILINE)) == len(pinned)


def test_the_lock_is_of_this_project():
    """Every requirement is in it, in a version that will do. `uv pip compile` renews it, as its first lines say."""
    lock = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = map(Requirement, (*project["dependencies"], *project["optional-dependencies"]["test"]))
    assert [str(each) for each in wanted if lock.get(each.name.lower(), "") not in each.specifier] == []


def test_python_files_under_tests_have_names_of_their_own():
    """They share one sys.path: two files of one name would be one module."""
    stems = [path.stem for path in (ROOT / "tests").rglob("*.py") if path.stem != "conftest"]
    assert sorted(stems) == sorted(set(stems))
