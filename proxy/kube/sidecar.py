"""The sidecar as Kubernetes objects, read off a configuration: its container, and the volumes that it needs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from posixpath import basename, dirname, normpath
from typing import Any, Final

from proxy.addresses import TcpListen
from proxy.errors import StartError
from proxy.settings import EnvReference, FileReference, Settings

Object = dict[str, Any]

NAME: Final = "paraf"
OWN: Final = f"{NAME}-"
"""What names of our volumes begin with."""
FOLDER: Final = "/etc/paraf"
FILE: Final = "paraf.yaml"
RUN: Final = "/run/paraf"
"""Writable: everything else of the container is read-only."""
USER: Final = 65532
SECRET_MODE: Final = 0o444
"""Without an fsGroup, which is the pod's own affair, Kubernetes gives every file to root: a mode for the owner alone
would keep us out. Only our container mounts it.
"""
RESOURCES: Final = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """`ports` are taken in the pod's network. `variables`: environment variables, each with the Secret it comes from;
    `folders`: mount points, likewise.
    """

    image: str
    admin_port: int
    ports: frozenset[int]
    config_map: str
    variables: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    native: bool = True

    def container(self) -> Object:
        return {
            "name": NAME,
            "image": self.image,
            "args": ["serve", "-c", f"{FOLDER}/{FILE}"],
            **({"restartPolicy": "Always"} if self.native else {}),
            **({"env": self._environment()} if self.variables else {}),
            "ports": [{"name": "paraf-admin", "containerPort": self.admin_port}],
            # Native: the containers of the app start when this has passed.
            "startupProbe": _probe("/startupz", self.admin_port, period=1, failures=60),
            "readinessProbe": _probe("/readyz", self.admin_port, period=5, failures=1),
            "livenessProbe": _probe("/livez", self.admin_port, period=10, failures=3),
            "resources": RESOURCES,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
                "runAsGroup": USER,
                "runAsNonRoot": True,
                "runAsUser": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": self._mounts(),
        }

    def volumes(self) -> list[Object]:
        return [
            {"name": f"{OWN}config", "configMap": {"name": self.config_map}},
            {"name": f"{OWN}run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            *(
                {"name": _secret(number), "secret": {"secretName": name, "defaultMode": SECRET_MODE}}
                for number, name in enumerate(self.folders.values(), 1)
            ),
        ]

    def _mounts(self) -> list[Object]:
        return [
            {"name": f"{OWN}config", "mountPath": FOLDER, "readOnly": True},
            {"name": f"{OWN}run", "mountPath": RUN},
            *(
                {"name": _secret(number), "mountPath": folder, "readOnly": True}
                for number, folder in enumerate(self.folders, 1)
            ),
        ]

    def _environment(self) -> list[Object]:
        return [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
            for name, secret in self.variables.items()
        ]


def _secret(number: int) -> str:
    return f"{OWN}secret-{number}"


def _probe(path: str, port: int, *, period: int, failures: int) -> Object:
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": period, "failureThreshold": failures}


def sidecar(
    settings: Settings,
    *,
    image: str,
    config_map: str,
    env_secret: str,
    secrets: Mapping[str, str],
    native: bool,
) -> Sidecar:
    """`secrets`: the Secret of a folder, where it is not the folder's own name. Raises StartError."""
    callers, admin = _ports(settings)
    references = list(_references(settings))
    variables = sorted({each.name for each in references if isinstance(each, EnvReference)})
    folders = sorted({_folder(each.path) for each in references if isinstance(each, FileReference)})
    _refuse_nested(folders)
    return Sidecar(
        image,
        admin,
        frozenset((*callers, admin)),
        config_map,
        variables=dict.fromkeys(variables, env_secret),
        folders={folder: secrets.get(folder) or basename(folder) for folder in folders},
        native=native,
    )


def _ports(settings: Settings) -> tuple[list[int], int]:
    """Of the listeners for callers, and of admin. Whoever reaches the former can have requests signed; the kubelet
    must reach the latter.
    """
    listens = [each for each in settings.listen if isinstance(each, TcpListen)]
    if not all(each.loopback for each in listens):
        raise StartError("listen: in a sidecar only the pod itself may call: write 127.0.0.1:PORT")
    if not isinstance(settings.admin, TcpListen) or settings.admin.loopback:
        raise StartError("admin: the kubelet asks for probes from outside the pod: write 0.0.0.0:PORT")
    return [each.port for each in listens], settings.admin.port


def _references(value: Any) -> Iterator[EnvReference | FileReference]:
    """Every reference to a secret, wherever in the settings it stands; passphrases too."""
    if isinstance(value, EnvReference | FileReference):
        yield value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = tuple(getattr(value, each.name) for each in fields(value) if each.name != "source")
    else:
        return
    for part in parts:
        yield from _references(part)


def _folder(path: str) -> str:
    folder = dirname(path)
    if not folder.startswith("/") or folder == "/" or normpath(path) != path:
        raise StartError("a secret's file needs its full path in the pod, in a folder: {file: /run/secrets/NAME/KEY}")
    return folder


def _refuse_nested(folders: list[str]) -> None:
    """A mount inside a read-only mount cannot be made."""
    taken = (*folders, FOLDER, RUN)
    if any(f"{each}/".startswith(f"{above}/") for each in folders for above in taken if each is not above):
        raise StartError(f"folders of secrets may not lie in each other, nor in {FOLDER} or {RUN}")
