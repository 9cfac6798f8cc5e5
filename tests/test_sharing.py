import stat
import subprocess
import sys

import pytest

from proxy.errors import StartError
from proxy.settings import read_settings
from proxy.sharing import joined, shared_store
from proxy.storeforms import FileForm

ROUTE = "{provider: doku, environment: sandbox, credentials: {client_id: a, client_secret: {env: S}}}"


def settings():
    return read_settings(f"version: 1\nroutes: {{doku: {ROUTE}}}\n", "paraf.yaml", environ={})[0]


def test_tokens_in_memory_go_into_a_private_folder_that_does_not_stay(tmp_path):
    with shared_store(settings(), {"RUNTIME_DIRECTORY": f"{tmp_path}:/other"}) as (changed, directory):
        assert directory.parent == tmp_path
        assert changed.store == FileForm(str(directory))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "token").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_to_are_passed_over(tmp_path):
    places = {"RUNTIME_DIRECTORY": str(tmp_path / "none"), "XDG_RUNTIME_DIR": str(tmp_path)}
    with shared_store(settings(), places) as (_, directory):
        assert directory.parent == tmp_path
    with shared_store(settings(), {}) as (_, directory):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not directory.exists()


def test_no_place_at_all_is_a_sentence(monkeypatch):
    monkeypatch.setattr("proxy.sharing._IN_MEMORY", "/none")
    monkeypatch.setattr("proxy.sharing.tempfile.gettempdir", lambda: "/none")
    with pytest.raises(StartError, match="set `store`, or RUNTIME_DIRECTORY"), shared_store(settings(), {}):
        pass


@pytest.mark.parametrize("ending", ["pass", "import os; os._exit(1)"])
def test_the_last_to_leave_clears_up(tmp_path, ending):
    directory = tmp_path / "private"
    directory.mkdir()
    code = (
        "import sys; from pathlib import Path; from proxy.sharing import joined\n"
        f"with joined(Path(sys.argv[1])): print(1, flush=True); input(); {ending}"
    )
    other = [sys.executable, "-c", code, str(directory)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline()
        with joined(directory):
            first.communicate("\n", timeout=10)
            assert directory.is_dir()
    assert not directory.exists()
