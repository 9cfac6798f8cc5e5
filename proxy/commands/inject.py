"""`paraf inject`: a Kubernetes manifest with the sidecar added."""

import re
import sys

import click

from proxy import __version__
from proxy.errors import StartError
from proxy.settings import read_settings

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@click.command()
@click.option(
    "-c", "--config", "file", required=True, envvar="PARAF_CONFIG", metavar="FILE",
    help="Configuration file (or PARAF_CONFIG); its secrets need not be there.",
)  # fmt: skip
@click.option("--image", default=f"paraf:{__version__}", show_default=True, help="Image of the sidecar.")
@click.option(
    "--classic", is_flag=True, help="An ordinary container, for Kubernetes before 1.29; a Job then never ends."
)
@click.option("--secret", "secrets", multiple=True, metavar="FOLDER=NAME", help="Secret NAME is mounted at FOLDER.")
@click.option("--env-secret", default="paraf", show_default=True, help="Secret that holds the variables.")
@click.option("--config-map", default="paraf", show_default=True, help="Name of the ConfigMap that is printed too.")
@click.option("--existing-config-map", is_flag=True, help="Print no ConfigMap: it is there, with the key paraf.yaml.")
def inject(
    file: str,
    image: str,
    classic: bool,
    secrets: tuple[str, ...],
    env_secret: str,
    config_map: str,
    existing_config_map: bool,
) -> None:
    """Read a Kubernetes manifest from stdin, print it with the sidecar added.

    Deployment, StatefulSet, DaemonSet, Job, CronJob and Pod; several documents, lists too. A secret {env: X} of FILE
    becomes the variable X, from the key X of a Secret; a file /run/secrets/doku/KEY the key KEY of the Secret doku.
    Both must exist. A second run changes nothing.
    """
    try:
        from proxy.kube.text import Configured, for_pods, injected
    except ImportError:
        raise StartError("inject needs an extra: pip install 'paraf[inject]'") from None
    from proxy.commands.configuration import text_of
    from proxy.kube.sidecar import sidecar

    text = for_pods(text_of(file), classic=classic)
    settings, warnings = read_settings(text, file, environ={})
    for warning in warnings:
        click.echo(str(warning), err=True)
    made = sidecar(
        settings,
        image=image,
        config_map=config_map,
        env_secret=env_secret,
        secrets=dict(map(_folder_and_name, secrets)),
        native=not classic,
    )
    configured = Configured(text, config_map, printed=not existing_config_map)
    click.echo(injected(_manifest(), made, configured, __version__), nl=False)


def _manifest() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise StartError("the manifest is not UTF-8 text") from None


def _folder_and_name(given: str) -> tuple[str, str]:
    folder, _, name = given.rpartition("=")
    if not folder.startswith("/") or not _NAME.fullmatch(name):
        raise click.UsageError("--secret takes FOLDER=NAME, such as /run/secrets/doku=doku-credentials")
    return folder.rstrip("/"), name
