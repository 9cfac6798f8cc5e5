"""Files as they were at one moment."""

import errno
import json
import os
import threading
import time

import pytest

from proxy import files as files_module
from proxy.files import Files


def test_a_file_is_looked_at_once(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    files = Files()
    assert files.file(path).content == b"one"
    path.write_text("two")
    assert files.file(path).content == b"one"
    assert files.again().file(path).content == b"two"


@pytest.mark.parametrize("change", ["content", "mode", "gone", "come", "name"])
def test_the_digest_tells_of_every_change(tmp_path, change):
    path, missing, folder = tmp_path / "a", tmp_path / "b", tmp_path / "folder"
    path.write_text("one")
    folder.mkdir()
    files = Files()
    for each in (path, missing):
        files.file(each)
    files.folder(folder)
    assert files.again().digest == files.digest
    stamp = path.stat().st_mtime_ns
    {
        "content": lambda: path.write_text("eno"),
        "mode": lambda: path.chmod(0o600),
        "gone": path.unlink,
        "come": lambda: missing.write_text(""),
        "name": (folder / "x").touch,
    }[change]()
    if path.exists():
        os.utime(path, ns=(stamp, stamp))
    assert files.again().digest != files.digest


def test_a_second_look_is_of_the_kind_of_the_first(tmp_path):
    """A mount of a file that is missing makes a folder of it: nothing has changed between two looks at that."""
    folder, file, missing = tmp_path / "folder", tmp_path / "file", tmp_path / "missing"
    folder.mkdir()
    file.touch()
    files = Files()
    for path in (folder, missing):
        files.file(path)
    for path in (tmp_path, file, tmp_path / "gone"):
        files.folder(path)
    for each in (files, Files.heard(json.loads(json.dumps(files.told())))):
        assert each.again().digest == files.digest
    (folder / "x").touch()
    assert files.again().digest == files.digest
    missing.mkdir()
    assert files.again().digest != files.digest


def test_another_process_sees_the_same_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\x00\xff")
    files = Files()
    look, folder = files.file(path), files.folder(tmp_path)
    files.file(tmp_path / "missing")
    heard = Files.heard(json.loads(json.dumps(files.told())))
    path.write_text("later")
    (tmp_path / "other").write_text("x")
    assert heard.file(path) == look
    assert heard.folder(tmp_path) == folder
    assert heard.file(tmp_path / "other").error == errno.ENOENT
    assert heard.digest != Files().digest


def test_what_is_no_ordinary_file(tmp_path):
    assert Files().file(tmp_path).error == errno.EISDIR
    assert Files().file(tmp_path / "a" / "b").error == errno.ENOENT
    null = Files().file(files_module.Path("/dev/null"))
    assert (null.error, null.is_ordinary, null.content) == (0, False, b"")


def test_a_pipe_is_waited_for_but_not_for_ever(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(files_module, "_WRITER", 0.2)
    began = time.monotonic()
    assert Files().file(pipe, pipe=True).content == b""
    assert time.monotonic() - began < 5
    assert Files().file(pipe).content == b""
    monkeypatch.setattr(files_module, "_WRITER", 10.0)
    writer = threading.Timer(0.2, lambda: pipe.write_text("text"))
    writer.start()
    files = Files()
    assert files.file(pipe, pipe=True).content == b"text"
    assert not files.is_repeatable
    writer.join()


def test_no_content_is_shown(tmp_path):
    (tmp_path / "a").write_text("hunter2")
    assert "hunter2" not in repr(Files().file(tmp_path / "a"))
