"""What most commands begin with: the option that names the file, and the file made into a generation."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from proxy.errors import ConfigError, Finding
from proxy.generation import Generation, build
from proxy.settings import Settings, read_settings
from proxy.variables import VARIABLES


@dataclass(frozen=True, slots=True)
class Loaded:
    settings: Settings
    generation: Generation
    warnings: tuple[Finding, ...]


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


def load(
    file: str, *, allow_inline_secrets: bool, adjust: Callable[[Settings], Settings] = lambda settings: settings
) -> Loaded:
    """`adjust` has the last word on the settings. Raises ConfigError with every finding."""
    settings, warnings = settings_of(file, allow_inline_secrets=allow_inline_secrets)
    settings = adjust(settings)
    generation = build(settings, environ=VARIABLES, folder=Path(file).resolve().parent)
    return Loaded(settings, generation, tuple(sorted((*warnings, *generation.findings))))


def settings_of(file: str, *, allow_inline_secrets: bool) -> tuple[Settings, list[Finding]]:
    """Without what the references lead to. Raises ConfigError."""
    return read_settings(text_of(file), file, environ=os.environ, allow_inline_secrets=allow_inline_secrets)


def text_of(file: str) -> str:
    """Raises ConfigError."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        words = f"cannot be read: {error.strerror or 'unknown'}"
    except UnicodeDecodeError:
        words = "is not UTF-8 text"
    raise ConfigError([Finding(file, 1, 1, "(file)", words)])
