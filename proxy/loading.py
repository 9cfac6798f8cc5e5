"""A configuration file made into a generation, as often as it is asked for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from proxy.catalogue import text_of
from proxy.errors import ConfigError, Finding
from proxy.files import Files
from proxy.generation import Generation, build
from proxy.partial import follows_from, without
from proxy.settings import Settings, read_source
from proxy.source import Source, parse
from proxy.variables import VARIABLES

Adjust = Callable[[Settings], Settings]

_ROUNDS: Final = 4
"""Times that what is wrong is taken out: what is missing then takes what is around it with it."""


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
        source = self._source(files)
        try:
            settings, warnings = self._read(source)
        except ConfigError as error:
            raise ConfigError(sorted((*error.findings, *self._beyond(source, error.findings, files)))) from None
        settings = self.adjust(settings)
        generation = self._build(settings, files)
        found = tuple(sorted((*warnings, *generation.findings)))
        return Loaded(settings, replace(generation, number=number), found, files)

    def settings(self, files: Files) -> tuple[Settings, list[Finding]]:
        """As written, without what the references lead to. Raises ConfigError."""
        return self._read(self._source(files))

    def _source(self, files: Files) -> Source:
        return parse(text_of(Path(self.name), self.name, files, pipe=True), self.name)

    def _read(self, source: Source) -> tuple[Settings, list[Finding]]:
        return read_source(source, environ=VARIABLES, allow_inline_secrets=self.allow_inline_secrets)

    def _build(self, settings: Settings, files: Files) -> Generation:
        return build(settings, environ=VARIABLES, folder=Path(self.name).resolve().parent, files=files)

    def _beyond(self, source: Source, findings: Iterable[Finding], files: Files) -> list[Finding]:
        """What is wrong with profiles and secrets, as far as the rest of the file can be read: so that an operator
        mends all of it in one go.
        """
        wrong = _paths(findings)
        for _ in range(_ROUNDS):
            try:
                settings, _ = self._read(without(source, wrong))
            except ConfigError as error:
                wrong |= _paths(error.findings)
            else:
                return self._of_the_rest(self.adjust(settings), wrong, files)
        return []

    def _of_the_rest(self, settings: Settings, wrong: frozenset[str], files: Files) -> list[Finding]:
        try:
            self._build(settings, files)
        except ConfigError as error:
            return [each for each in error.findings if not follows_from(each.path, wrong)]
        return []


def _paths(findings: Iterable[Finding]) -> frozenset[str]:
    return frozenset(each.path for each in findings if each.severity == "error")
