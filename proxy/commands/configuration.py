"""What most commands begin with: the option that names the file, and the file made into a generation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from proxy import catalogue
from proxy.errors import Finding
from proxy.files import Files
from proxy.loading import Adjust, ConfigFile, Loaded
from proxy.settings import Settings

__all__ = ["Loaded", "config_options", "load", "settings_of", "text_of"]


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-c FILE` and `--allow-inline-secrets`."""
    file = click.option(
        "-c", "--config", "file", required=True, envvar="PARAF_CONFIG", metavar="FILE",
        help="Configuration file (or PARAF_CONFIG).",
    )  # fmt: skip
    inline = click.option(
        "--allow-inline-secrets", is_flag=True, help="Accept secrets written in the file itself: for tests only."
    )
    return file(inline(command))


def load(file: str, *, allow_inline_secrets: bool, adjust: Adjust = lambda settings: settings) -> Loaded:
    """`adjust` has the last word on the settings. Raises ConfigError with every finding."""
    return ConfigFile(file, allow_inline_secrets, adjust).load()


def settings_of(file: str, *, allow_inline_secrets: bool) -> tuple[Settings, list[Finding]]:
    """Without what the references lead to. Raises ConfigError."""
    return ConfigFile(file, allow_inline_secrets).settings(Files())


def text_of(file: str) -> str:
    """Raises ConfigError."""
    return catalogue.text_of(Path(file), file, Files(), pipe=True)
