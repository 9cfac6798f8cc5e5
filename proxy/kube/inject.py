"""A manifest with the sidecar added. What was there stays as it is, object by object and key by key."""

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.errors import StartError
from proxy.kube.sidecar import NAME, OWN, Sidecar

Manifest = MutableMapping[str, Any]

TEMPLATES: Final = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "Job"), ("spec", "template")),
}
"""Where the pod stands in an object of each kind."""
INJECTED: Final = f"{NAME}/injected"
CHECKSUM: Final = f"{NAME}/config-checksum"
WANTED: Final = f"{NAME}/inject"
"""`"false"` among a pod's annotations leaves it alone."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the pods' annotations say: the version that injected, and the configuration that it was given."""

    version: str
    checksum: str


def workloads(document: Any) -> Iterator[Manifest]:
    """Those that have pods, in lists too, but not those that opted out."""
    if not isinstance(document, MutableMapping):
        return
    kind = str(document.get("kind", ""))
    if kind.endswith("List"):
        for item in document.get("items") or ():
            yield from workloads(item)
    elif kind in TEMPLATES and _wanted(document):
        yield document


def _wanted(workload: Manifest) -> bool:
    metadata = _pod(workload).get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    return str(annotations.get(WANTED, "true")).lower() != "false"


def inject(workload: Manifest, sidecar: Sidecar, mark: Mark) -> None:
    """Add the sidecar, or put it where an earlier one stands. Raises StartError."""
    pod = _pod(workload)
    spec = _part(pod, "spec")
    annotations = _made(_made(pod, "metadata"), "annotations")
    if INJECTED not in annotations:
        _refuse(workload, spec, sidecar)
    annotations.update({INJECTED: mark.version, CHECKSUM: mark.checksum})
    _place(spec, sidecar)
    volumes = spec.setdefault("volumes", [])
    _replace(volumes, sidecar.volumes(), [each for each in volumes if str(each.get("name")).startswith(OWN)])


def _pod(workload: Manifest) -> Manifest:
    part = workload
    for step in TEMPLATES[workload["kind"]]:
        part = _part(part, step)
    return part


def _part(above: Manifest, key: str) -> Manifest:
    part = above.get(key)
    if not isinstance(part, MutableMapping):
        raise StartError(f"the manifest has no {key} where its kind needs one")
    return part


def _made(above: Manifest, key: str) -> Manifest:
    if above.get(key) is None:
        above[key] = {}
    return _part(above, key)


def _refuse(workload: Manifest, spec: Manifest, sidecar: Sidecar) -> None:
    """What a sidecar would break, or what would break it."""
    name = f"{workload['kind']} {_part(workload, 'metadata').get('name', '')}"
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    if any(each.get("name") == NAME for each in containers):
        raise StartError(f"{name}: has a container {NAME} already that inject did not put there")
    if spec.get("hostNetwork"):
        raise StartError(f"{name}: hostNetwork: everybody on the node could have requests signed")
    taken = {port.get("containerPort") for each in containers for port in each.get("ports") or ()}
    if both := taken & sidecar.ports:
        raise StartError(f"{name}: port {min(both)} is the application's: set listen or admin otherwise")


def _place(spec: Manifest, sidecar: Sidecar) -> None:
    """Native: first of the init containers, so that those after it can call. Classic: last of the containers."""
    here, there = ("initContainers", "containers") if sidecar.native else ("containers", "initContainers")
    if spec.get(here) is None:
        _before(spec, here, "containers")
    _replace(spec[here], [sidecar.container()], _ours(spec[here]), first=sidecar.native)
    if there in spec:
        _replace(spec[there], [], _ours(spec[there]))
        if not spec[there]:
            del spec[there]


def _ours(containers: Iterable[Manifest]) -> list[Manifest]:
    return [each for each in containers if each.get("name") == NAME]


def _before(spec: Manifest, key: str, other: str) -> None:
    """An empty list under `key`, in front of `other` where the mapping keeps an order of its own."""
    spec.pop(key, None)
    insert = getattr(spec, "insert", None)
    if insert and other in spec:
        insert(list(spec).index(other), key, [])
    else:
        spec[key] = []


def _replace(items: list[Manifest], new: Sequence[Manifest], old: list[Manifest], *, first: bool = False) -> None:
    """`new` where the first of `old` stood, else at the front or the end."""
    at = items.index(old[0]) if old else 0 if first else len(items)
    for each in old:
        items.remove(each)
    for offset, each in enumerate(new):
        items.insert(at + offset, each)
