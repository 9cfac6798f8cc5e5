"""One guess at what a signer did otherwise, and what else is known that it could have done it with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.signing.binding import Lazy
from proxy.signing.profile import Signature
from proxy.signing.reading import Deviation, PartName

Reseal = Callable[[Signature], Signature]


@dataclass(frozen=True, slots=True)
class AtHand:
    """What a signature could have been made with, each by words for it.

    `keys`: RSA public keys; the route's own under the names of its credentials.
    """

    keys: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tokens: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    clients: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Guess:
    """`lone` ones are not tried in pairs."""

    deviation: Deviation
    given: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    lazy: Mapping[str, Lazy] = field(default_factory=dict, repr=False)
    reseal: Reseal | None = None
    lone: bool = False


def guess(part: PartName, name: str, words: str, **given: bytes) -> Guess:
    return Guess(Deviation(part, f"{part}.{name}", words), given)
