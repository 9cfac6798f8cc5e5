"""How a configuration file points at secrets, and that no finding repeats one."""

from typing import Any

import pytest

from proxy.model import Secret
from proxy.references import (
    CredentialsShape,
    EnvReference,
    FileReference,
    Inline,
    ReferenceShape,
    inline,
    path_of_file,
)
from proxy.shape import BAD, Shape
from proxy.source import Report, parse

SECRET = ReferenceShape(passphrase=ReferenceShape())
OPEN = ReferenceShape(inline, ReferenceShape(inline))


def read(shape: Shape, text: str) -> tuple[Any, list[str]]:
    report = Report("x.yaml")
    node = parse(f"v: {text}\n", "x.yaml").root.get("v")  # type: ignore[union-attr]
    value = shape.read(node, ("v",), report)  # type: ignore[arg-type]
    found = sorted(report.findings)
    return value, [f"{finding.line}:{finding.column} {finding.path}: {finding.message}" for finding in found]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("{env: DOKU_SECRET}", EnvReference("DOKU_SECRET")),
        ("{file: secrets/doku}", FileReference("secrets/doku")),
        ("{file: k.pem, passphrase: {env: P}}", FileReference("k.pem", EnvReference("P"))),
        ("{env: K, passphrase: {file: p}}", EnvReference("K", FileReference("p"))),
    ],
)
def test_references(text: str, reference: object) -> None:
    assert read(SECRET, text) == (reference, [])
    assert read(OPEN, text) == (reference, [])


LITERAL = "a secret stands in the file: use {env: NAME} or {file: PATH}, or start with --allow-inline-secrets"
ONE_OF = "must be one of {env: NAME} or {file: PATH}"


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("hunter2", f"1:4 v: {LITERAL}"),
        ("'hunter2'", f"1:4 v: {LITERAL}"),
        ("|\n  hunter2", f"1:4 v: {LITERAL}"),
        ("~", "1:4 v: is empty: must be {env: NAME} or {file: PATH}"),
        ("[hunter2]", "1:4 v: must be {env: NAME} or {file: PATH}"),
        ("{}", f"1:4 v: {ONE_OF}"),
        ("{env: A, file: b}", f"1:4 v: {ONE_OF}"),
        ("{passphrase: {env: A}}", f"1:4 v: {ONE_OF}"),
        ("{hunter2}", "1:5 v: unknown key in a reference (known: env, file, passphrase)"),
        ("{fle: hunter2}", "1:5 v: unknown key in a reference (did you mean file?)"),
        ("{env: hunter-2}", "1:10 v.env: must be the name of an environment variable"),
        ("{file: ''}", "1:11 v.file: must be the path of a file"),
        ("{file: k, passphrase: hunter2}", f"1:26 v.passphrase: {LITERAL}"),
        ("{file: k, passphrase: {env: A, passphrase: {env: B}}}",
         "1:35 v.passphrase: unknown key in a reference (known: env, file)"),
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused_and_not_repeated(text: str, finding: str) -> None:
    value, found = read(SECRET, text)
    assert value is BAD
    assert found == [finding]


def test_a_literal_passes_only_where_it_was_asked_for() -> None:
    assert read(OPEN, "hunter2") == (Inline(Secret("hunter2")), [])
    value, found = read(OPEN, "{file: k, passphrase: hunter2}")
    assert value == FileReference("k", Inline(Secret("hunter2")))
    assert not found
    assert "hunter2" not in repr(value)


def test_a_certificate_may_be_a_plain_path() -> None:
    shape = ReferenceShape(path_of_file)
    assert read(shape, "ca.pem") == (FileReference("ca.pem"), [])
    assert read(shape, "{file: ca.pem}") == (FileReference("ca.pem"), [])


def test_a_client_id_may_stand_in_the_file() -> None:
    value, found = read(CredentialsShape(SECRET), "{client_id: 00012345, client_secret: {env: S}}")
    assert not found
    assert value == {"client_id": Inline(Secret("00012345")), "client_secret": EnvReference("S")}


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("{client_id: '${X}'}", "1:16 v.client_id: variables are not filled in: write {env: NAME}"),
        ("{client_id: ' x'}",
         "1:16 v.client_id: must be printable ASCII without blanks around it, or {env: NAME} or {file: PATH}"),
        ("{client_id: ~}", "1:16 v.client_id: is empty: must be {env: NAME} or {file: PATH}"),
        ("{client_secret: hunter2}", f"1:20 v.client_secret: {LITERAL}"),
        ("{Hunter2: {env: X}}", "1:5 v: the name of a credential has small letters, digits and _"),
        ("hunter2", "1:4 v: must be a mapping with client_id and the provider's other credentials"),
    ],
)  # fmt: skip
def test_credentials_refused(text: str, finding: str) -> None:
    value, found = read(CredentialsShape(SECRET), text)
    assert value is BAD
    assert found == [finding]


def test_all_findings_of_credentials_come_at_once() -> None:
    _, found = read(CredentialsShape(SECRET), "{client_id: ~, client_secret: a, private_key: {}}")
    assert len(found) == 3
