"""What keeps the sandbox an independent witness: it knows nothing of the signer."""

import ast
from pathlib import Path

import pytest

import proxy.sandbox

MODULES = sorted(Path(proxy.sandbox.__path__[0]).glob("*.py"))
BANNED = ("proxy.signing", "proxy.headers", "proxy.routes", "proxy.settings", "proxy.inbound", "proxy.outbound")
ALLOWED = ("proxy.sandbox", "proxy.model", "proxy.clock", "proxy.errors")
IMPURE = {"asyncio", "socket", "time", "random", "logging", "os", "pathlib", "aiohttp"}
PURE = {"answers", "bodies", "explain", "get_signature", "judge", "rules", "schemes", "stamps"}


def imported(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.name} imports relatively"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_no_import_of_the_signer(module):
    own = {name for name in imported(module) if name.split(".")[0] == "proxy"}
    assert not [name for name in own if name.startswith(BANNED)]
    assert all(name.startswith(ALLOWED) for name in own)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_only_the_server_knows_sockets_and_time(module):
    roots = {name.split(".")[0] for name in imported(module)}
    assert module.stem == "server" or "aiohttp" not in roots
    assert module.stem not in PURE or not roots & {*IMPURE, "secrets"}


def test_the_pure_modules_exist():
    assert {module.stem for module in MODULES} >= PURE
