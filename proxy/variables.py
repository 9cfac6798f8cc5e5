"""The variables of the environment, and how those that hold a secret leave it once they were read."""

import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from proxy.hardening import overwrite_variable
from proxy.model import Secret
from proxy.references import EnvReference


class Variables(Mapping[str, str]):
    """What `environ` says, hidden variables too: a reload reads them again, and nobody else finds them."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._hidden: dict[str, Secret] = {}

    def hide(self, names: Iterable[str]) -> None:
        """Take them out of the environment: children, crash reports and /proc do not show them any more."""
        for name in {*names} & self._environ.keys():
            self._hidden[name] = Secret(self._environ[name])
            overwrite_variable(name)
            del self._environ[name]

    def __getitem__(self, name: str) -> str:
        return self._hidden[name].reveal() if name in self._hidden else self._environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._environ, **self._hidden})

    def __len__(self) -> int:
        return len({**self._environ, **self._hidden})


VARIABLES: Final = Variables(os.environ)
"""Those of this process: one for all, as its environment is."""


def named(value: Any) -> Iterator[str]:
    """The variables that the references in settings name."""
    if isinstance(value, EnvReference):
        yield value.name
        yield from named(value.passphrase)
    elif is_dataclass(value):
        for each in fields(value):
            yield from named(getattr(value, each.name))
    elif isinstance(value, Mapping):
        yield from named(tuple(value.values()))
    elif isinstance(value, tuple):
        for item in value:
            yield from named(item)
