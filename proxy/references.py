"""References to secrets: where one lies, never what it is, and how a configuration file writes them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from proxy.model import Secret
from proxy.shape import BAD, Key, Parsed, Record, Shape, Text, did_you_mean
from proxy.source import Mapping, Node, Path, Report


@dataclass(frozen=True, slots=True)
class EnvReference:
    name: str
    passphrase: "Reference | None" = None


@dataclass(frozen=True, slots=True)
class FileReference:
    """`path` as written: relative to the folder of the configuration file."""

    path: str
    passphrase: "Reference | None" = None


@dataclass(frozen=True, slots=True)
class Inline:
    """The secret itself, for an operator who asked for it, and texts that are no secret, such as a client id."""

    value: Secret


Reference = EnvReference | FileReference | Inline

_FORMS: Final = "{env: NAME} or {file: PATH}"
_CLIENT_ID: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")


def refuse_literal(_: str) -> NoReturn:
    raise ValueError(f"a secret stands in the file: use {_FORMS}, or start with --allow-inline-secrets")


def inline(text: str) -> Inline:
    return Inline(Secret(text))


def path_of_file(text: str) -> FileReference:
    return FileReference(text)


def client_id(text: str) -> Inline:
    """It goes into headers: printable ASCII, no blank at either end."""
    if "${" in text:
        raise ValueError("variables are not filled in: write {env: NAME}")
    if not _CLIENT_ID.fullmatch(text):
        raise ValueError(f"must be printable ASCII without blanks around it, or {_FORMS}")
    return inline(text)


@dataclass(frozen=True, slots=True)
class ReferenceShape:
    """`{env: NAME}` or `{file: PATH}`; `literal` says what a bare text is. A finding repeats no key from inside."""

    literal: Callable[[str], Reference] = refuse_literal
    passphrase: "ReferenceShape | None" = None

    def read(self, node: Node, path: Path, report: Report) -> Any:
        if not isinstance(node, Mapping):
            return Parsed(self.literal, _FORMS).read(node, path, report)
        record = self._record()
        strangers = [key for key, _ in node.members if key.text not in record.keys]
        for key in strangers:
            report.add(key, path, f"unknown key in a reference{did_you_mean(key.text, record.keys)}")
        return BAD if strangers else record.read(node, path, report)

    def _record(self) -> Record:
        keys = {
            "env": Key(Text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable"), "a variable"),
            "file": Key(Text(r"[^\x00]+", "the path of a file"), "a file, relative to the configuration file"),
        }
        if self.passphrase:
            keys["passphrase"] = Key(self.passphrase, "what an encrypted key is opened with")
        return Record(keys, _reference)

    def schema(self) -> dict[str, Any]:
        one = {"$ref": "#/$defs/reference" if self.passphrase else "#/$defs/passphrase"}
        if self.literal in (refuse_literal, inline):
            return one
        return {"anyOf": [{"type": ["string", "number", "boolean"]}, one]}

    def definition(self) -> dict[str, Any]:
        """What `$ref` in `schema` leads to."""
        return {**self._record().schema(), "oneOf": [{"required": ["env"]}, {"required": ["file"]}]}


def _reference(env: str | None, file: str | None, passphrase: Reference | None = None) -> Reference:
    if env is not None and file is None:
        return EnvReference(env, passphrase)
    if file is not None and env is None:
        return FileReference(file, passphrase)
    raise ValueError(f"must be one of {_FORMS}")


@dataclass(frozen=True, slots=True)
class CredentialsShape:
    """Names are the profile's, so any may stand here; only `client_id` may be a bare text."""

    secret: ReferenceShape

    def read(self, node: Node, path: Path, report: Report) -> Any:
        if not isinstance(node, Mapping):
            report.add(node, path, "must be a mapping with client_id and the provider's other credentials")
            return BAD
        read = {key.text: self._shape(key.text).read(value, (*path, key.text), report) for key, value in node.members}
        odd = [key for key, _ in node.members if not re.fullmatch(r"[a-z][a-z0-9_]*", key.text)]
        for key in odd:
            report.add(key, path, "the name of a credential has small letters, digits and _")
        return BAD if odd or BAD in read.values() else read

    def _shape(self, name: str) -> Shape:
        return replace(self.secret, literal=client_id) if name == "client_id" else self.secret

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {name: self._shape(name).schema() for name in ("client_id", "client_secret", "private_key")},
            "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
            "additionalProperties": self.secret.schema(),
        }
