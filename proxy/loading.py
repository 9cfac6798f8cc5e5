"""A configuration file made into a generation, as often as it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxy.catalogue import text_of
from proxy.errors import Finding
from proxy.files import Files
from proxy.generation import Generation, build
from proxy.settings import Settings, read_settings
from proxy.variables import VARIABLES

Adjust = Callable[[Settings], Settings]


@dataclass(frozen=True, slots=True)
class Loaded:
    settings: Settings
    generation: Generation
    warnings: tuple[Finding, ...]
    files: Files = field(repr=False)
    """Of what it was made."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """`adjust` has the last word on the settings."""

    name: str
    allow_inline_secrets: bool = False
    adjust: Adjust = lambda settings: settings

    def load(self, files: Files | None = None, *, number: int = 1) -> Loaded:
        """`files`: where it is read from. Raises ConfigError with every finding."""
        files = files or Files()
        settings, warnings = self.settings(files)
        settings = self.adjust(settings)
        generation = build(settings, environ=VARIABLES, folder=Path(self.name).resolve().parent, files=files)
        found = tuple(sorted((*warnings, *generation.findings)))
        return Loaded(settings, replace(generation, number=number), found, files)

    def settings(self, files: Files) -> tuple[Settings, list[Finding]]:
        """As written, without what the references lead to. Raises ConfigError."""
        text = text_of(Path(self.name), self.name, files, pipe=True)
        return read_settings(text, self.name, environ=VARIABLES, allow_inline_secrets=self.allow_inline_secrets)
