"""Manifests as text: the documents that change are written anew, the others stay byte for byte.

ruamel.yaml keeps comments, order, quotes and anchors of what it writes anew; PyYAML would keep none of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import LiteralScalarString

from proxy.addresses import is_loopback
from proxy.errors import StartError
from proxy.kube.inject import Manifest, Mark, inject, workloads
from proxy.kube.sidecar import FILE, RUN, Sidecar

_BOUNDARY: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)
"""No text inside a document can begin a line so (YAML 1.2.2, `c-forbidden`)."""
_INDENTED_LIST: Final = re.compile(r"^( *)[^\s#-][^\n]*:\n\1 +- ", re.MULTILINE)
_LABEL: Final = ("app.kubernetes.io/managed-by", "paraf-inject")
_ADMIN: Final = "127.0.0.1:9464"
"""The default."""


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration as the pods get it. `name` of the ConfigMap; `printed`: it comes with the manifest."""

    text: str
    name: str
    printed: bool = True

    @property
    def checksum(self) -> str:
        return sha256(self.text.encode()).hexdigest()[:16]


def for_pods(text: str, *, classic: bool) -> str:
    """The configuration as it must be in a pod, its comments kept: the kubelet asks for probes from outside, and
    operators come in by `kubectl exec`. `classic`: all containers are ended at once, and the app may call until it has.
    """
    yaml = _yaml(text)
    document = _read(yaml, text)
    if not isinstance(document, dict):
        return text
    changes: dict[str, Any] = {}
    host, _, port = str(document.get("admin", _ADMIN)).rpartition(":")
    if is_loopback(host):
        changes["admin"] = f"0.0.0.0:{port}"
    if "control" not in document:
        changes["control"] = f"unix:{RUN}/control.sock"
    if classic and "drain" not in document:
        changes["drain"] = {"delay": "10s"}
    return _changed(yaml, document, changes) if changes else text


def _changed(yaml: YAML, document: Any, changes: dict[str, Any]) -> str:
    """What is new stands after the first key, which is `version` in most files."""
    for key, value in changes.items():
        if key in document:
            document[key] = value
        else:
            document.insert(min(1, len(document)), key, value)
    return _written(yaml, document)


def injected(text: str, sidecar: Sidecar, configured: Configured, version: str) -> str:
    """Every document of `text` that has pods with the sidecar, and the ConfigMap. Raises StartError."""
    mark = Mark(version, configured.checksum)
    parts = [_part(part, sidecar, mark) for part in _documents(text)]
    namespaces = {name for part in parts for name in part.namespaces}
    if not namespaces:
        raise StartError("the manifest has no Deployment, StatefulSet, DaemonSet, Job, CronJob or Pod to inject into")
    if configured.printed:
        for namespace in sorted(namespaces):
            _hand_over(parts, _config_map(configured, namespace))
    return "".join(part.text for part in parts)


@dataclass(slots=True)
class _Part:
    """A document, its `---` included. `namespaces` of the workloads in it, "" for none named."""

    text: str
    content: Any
    namespaces: tuple[str, ...] = ()


def _documents(text: str) -> Iterator[str]:
    starts = [0, *(found.start() for found in _BOUNDARY.finditer(text))]
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if part := text[begin:end]:
            yield part if part.endswith("\n") else f"{part}\n"


def _part(text: str, sidecar: Sidecar, mark: Mark) -> _Part:
    yaml = _yaml(text)
    content = _read(yaml, text)
    found = list(workloads(content))
    for workload in found:
        inject(workload, sidecar, mark)
    namespaces = tuple(str(each["metadata"].get("namespace") or "") for each in found)
    return _Part(_written(yaml, content) if found else text, content, namespaces)


def _hand_over(parts: list[_Part], config_map: Manifest) -> None:
    """In place of the one that an earlier run printed, else at the end."""
    written = f"---\n{_written(_yaml(''), config_map)}"
    earlier = next((part for part in parts if _same(part.content, config_map)), None)
    if earlier:
        earlier.text = written
    else:
        parts.append(_Part(written, config_map))


def _same(content: Any, config_map: Manifest) -> bool:
    if not isinstance(content, dict) or content.get("kind") != "ConfigMap":
        return False
    there, mine = content.get("metadata") or {}, config_map["metadata"]
    return all(there.get(key) == mine.get(key) for key in ("name", "namespace"))


def _config_map(configured: Configured, namespace: str) -> Manifest:
    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": configured.name, **place, "labels": dict([_LABEL])},
        "data": {FILE: LiteralScalarString(configured.text)},
    }


def _yaml(text: str) -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    yaml.explicit_start = text.startswith("---")
    if _INDENTED_LIST.search(text):
        yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _read(yaml: YAML, text: str) -> Any:
    """The words of the library are left out: they quote what it read."""
    try:
        return yaml.load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", in line {mark.line + 1} of a document" if mark else ""
        raise StartError(f"the manifest is not valid YAML{where}: a template must be rendered first") from None


def _written(yaml: YAML, content: Any) -> str:
    out = StringIO()
    yaml.dump(content, out)
    return out.getvalue()
