"""What is left of a file when its mistakes are taken out, so that the rest can be looked at in the same reading."""

from collections.abc import Collection
from dataclasses import replace

from proxy.source import Mapping, Node, Path, Sequence, Source, dotted


def without(source: Source, wrong: Collection[str]) -> Source:
    """Without every member and item under one of these dotted paths."""
    return replace(source, root=_rest(source.root, (), wrong))


def _rest(node: Node, path: Path, wrong: Collection[str]) -> Node:
    if isinstance(node, Mapping):
        kept = [(key, below) for key, below in node.members if dotted((*path, key.text)) not in wrong]
        return replace(node, members=tuple((key, _rest(below, (*path, key.text), wrong)) for key, below in kept))
    if isinstance(node, Sequence):
        steps = [((*path, str(index)), below) for index, below in enumerate(node.items)]
        return replace(node, items=tuple(_rest(below, at, wrong) for at, below in steps if dotted(at) not in wrong))
    return node


def follows_from(path: str, wrong: Collection[str]) -> bool:
    """Is it said of a place around what was taken out? Then it may be the doing of that: `client_secret is missing`."""
    return any(f"{each}.".startswith(f"{path}.") for each in wrong)
