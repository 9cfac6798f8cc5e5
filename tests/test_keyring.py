"""References lead to secrets: variables and real files, their newline, their modes and every way to be missing."""

import json
import os
from pathlib import Path

import pytest

from proxy.keyring import Keyring, spki_fingerprint
from proxy.model import Secret
from proxy.settings import EnvReference, FileReference, Inline, Reference

FORMS = {
    vector["id"]: vector
    for vector in json.loads((Path(__file__).parent / "vectors" / "key-formats.json").read_text())["vectors"]
}
NOWHERE = Path("/nonexistent")


def write(path: Path, content: bytes, mode: int = 0o600) -> FileReference:
    path.write_bytes(content)
    path.chmod(mode)
    return FileReference(path.name)


def refusal(reference: Reference, base: Path = NOWHERE, *, strict: bool = False, **environ: str) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        Keyring(strict_permissions=strict).read(reference, environ=environ, base=base)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_a_variable_is_taken_as_it_is() -> None:
    environ = {"S": " hunter2\n"}
    assert Keyring().read(EnvReference("S"), environ=environ, base=NOWHERE) == Secret(" hunter2\n")


def test_an_inline_secret_is_itself() -> None:
    assert Keyring().read(Inline(Secret("hunter2")), environ={}, base=NOWHERE) == Secret("hunter2")


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2\n\n", "hunter2\n"),
        (b"hunter2\r", "hunter2\r"),
        (b" hunter2 \n", " hunter2 "),
        ("rahasia-é\n".encode(), "rahasia-é"),
    ],
)
def test_one_newline_at_the_end_of_a_file_is_dropped(tmp_path: Path, content: bytes, secret: str) -> None:
    reference = write(tmp_path / "s", content)
    assert Keyring().read(reference, environ={}, base=tmp_path) == Secret(secret)


def test_paths_are_relative_to_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    write(tmp_path / "secrets" / "s", b"hunter2")
    keyring = Keyring()
    assert keyring.read(FileReference("secrets/s"), environ={}, base=tmp_path) == Secret("hunter2")
    assert keyring.read(FileReference(str(tmp_path / "secrets" / "s")), environ={}, base=NOWHERE) == Secret("hunter2")


def test_what_is_missing_is_named() -> None:
    assert refusal(EnvReference("DOKU")) == "environment variable DOKU is not set"
    assert refusal(EnvReference("DOKU"), DOKU="") == "environment variable DOKU is empty"
    assert refusal(EnvReference("DOKU"), DOKU="\udcff") == "environment variable DOKU is not text in UTF-8"
    assert refusal(FileReference("s")) == "/nonexistent/s does not exist"
    assert refusal(Inline(Secret(""))) == "the text is empty"


def test_files_that_hold_no_secret(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "a", b""), tmp_path).endswith("/a is empty")
    assert refusal(write(tmp_path / "b", b"\n"), tmp_path).endswith("/b is empty")
    assert refusal(write(tmp_path / "c", b"hunter2\xff"), tmp_path).endswith("/c is not text in UTF-8")
    assert "byte order mark" in refusal(write(tmp_path / "d", b"\xef\xbb\xbfhunter2"), tmp_path)
    assert "over 1 MiB" in refusal(write(tmp_path / "e", b"x" * (1 << 20) + b"x"), tmp_path)
    assert "does not exist" in refusal(FileReference("a/b"), tmp_path)


def test_what_is_no_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    assert "is a folder" in refusal(FileReference("."), tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "no ordinary file" in refusal(FileReference("pipe"), tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert "leads to itself" in refusal(FileReference("loop"), tmp_path)


@pytest.mark.parametrize(
    ("mode", "remarked", "refused", "refused_strictly"),
    [
        (0o400, False, False, False),
        (0o640, False, False, False),
        (0o660, False, False, False),
        (0o644, True, False, True),
        (0o604, True, False, True),
        (0o602, False, True, True),
        (0o666, True, True, True),
    ],
)
def test_modes(tmp_path: Path, mode: int, *, remarked: bool, refused: bool, refused_strictly: bool) -> None:
    reference = write(tmp_path / "s", b"hunter2", mode)
    (tmp_path / "link").symlink_to("s")
    for each in (reference, FileReference("link")):
        remarks = Keyring().remarks(each, base=tmp_path)
        assert [f"mode {mode:04o}" in remark and "chmod o-rwx" in remark for remark in remarks] == [True] * remarked
        for strict, wrong in ((False, refused), (True, refused_strictly)):
            if wrong:
                assert "by others" in refusal(each, tmp_path, strict=strict)
            else:
                read = Keyring(strict_permissions=strict).read(each, environ={}, base=tmp_path)
                assert read == Secret("hunter2")


def test_remarks_look_at_the_passphrase_too_and_only_at_files(tmp_path: Path) -> None:
    write(tmp_path / "key", b"k", 0o644)
    write(tmp_path / "pass", b"p", 0o644)
    keyring = Keyring()
    assert len(keyring.remarks(FileReference("key", FileReference("pass")), base=tmp_path)) == 2
    assert len(keyring.remarks(EnvReference("K", FileReference("pass")), base=tmp_path)) == 1
    assert keyring.remarks(FileReference("missing", EnvReference("P")), base=tmp_path) == []
    assert keyring.remarks(Inline(Secret("x")), base=tmp_path) == []


def test_certificates_may_be_read_by_everybody_but_not_written(tmp_path: Path) -> None:
    reference = write(tmp_path / "ca.pem", b"-----BEGIN CERTIFICATE-----\n", 0o644)
    strict = Keyring(strict_permissions=True)
    assert strict.authorities(reference, environ={}, base=tmp_path) == "-----BEGIN CERTIFICATE-----\n"
    (tmp_path / "ca.pem").chmod(0o646)
    with pytest.raises(ValueError, match="written by others"):
        Keyring(strict_permissions=True).authorities(reference, environ={}, base=tmp_path)


def test_a_private_key_is_opened_with_its_passphrase_and_parsed_once(tmp_path: Path) -> None:
    form = FORMS["key-13-enc-pbes2"]
    write(tmp_path / "pass", form["passphrase"].encode() + b"\n")
    reference = FileReference(write(tmp_path / "key", form["material"].encode()).path, FileReference("pass"))
    keyring = Keyring()
    key = keyring.private_key(reference, environ={}, base=tmp_path)
    assert spki_fingerprint(key) == form["expect"]["spki_sha256"]
    assert keyring.private_key(reference, environ={}, base=tmp_path) is key


def test_a_private_key_out_of_a_variable() -> None:
    form = FORMS["key-06-literal-backslash-n"]
    key = Keyring().private_key(EnvReference("K"), environ={"K": form["material"]}, base=NOWHERE)
    assert spki_fingerprint(key) == form["expect"]["spki_sha256"]


def test_a_small_key_that_one_route_allows_is_not_allowed_for_the_next() -> None:
    keyring, environ = Keyring(), {"K": FORMS["key-26-rsa-1024"]["material"]}
    assert keyring.private_key(EnvReference("K"), environ=environ, base=NOWHERE, allow_small=True).key_size == 1024
    with pytest.raises(ValueError, match="RSA of 1024 bit"):
        keyring.private_key(EnvReference("K"), environ=environ, base=NOWHERE)


def test_a_missing_passphrase_is_named_before_the_key_is_tried() -> None:
    environ = {"K": FORMS["key-13-enc-pbes2"]["material"]}
    with pytest.raises(ValueError, match="environment variable P is not set"):
        Keyring().private_key(EnvReference("K", EnvReference("P")), environ=environ, base=NOWHERE)


def test_no_secret_is_shown_or_said(tmp_path: Path) -> None:
    keyring = Keyring()
    keyring.private_key(EnvReference("K"), environ={"K": FORMS["key-01-pkcs8"]["material"]}, base=NOWHERE)
    assert "hunter2" not in repr(keyring.read(EnvReference("S"), environ={"S": "hunter2"}, base=NOWHERE))
    assert "BEGIN" not in repr(keyring)
    for content in (b"hunter2\xff", b"\xef\xbb\xbfhunter2", b"hunter2" * 200_000):
        assert "hunter2" not in refusal(write(tmp_path / "s", content), tmp_path)
    assert "hunter2" not in refusal(write(tmp_path / "s", b"hunter2", 0o666), tmp_path)
