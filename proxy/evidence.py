"""What a route's neighbours could have lent to a signature by mistake: their keys, secrets and client ids."""

from collections.abc import Iterator, Mapping

from proxy.generation import Generation, Lane
from proxy.signing.guess import AtHand


def at_hand(generation: Generation, lane: Lane, tokens: Mapping[str, bytes]) -> AtHand:
    """For `diagnose` on a route. `tokens`: others than the one in the request, by words for them."""
    others = [other for other in generation.lanes.values() if other.account.identity != lane.account.identity]
    keys = {name: key.public_key() for name, key in lane.keys.items()}
    for other in others:
        keys |= {f"{name} of route {other.route.name}": key.public_key() for name, key in other.keys.items()}
    secrets = {words: value for other in others for words, value in _secrets(other)}
    clients = {f"that of route {other.route.name}": other.account.client_id.encode() for other in others}
    return AtHand(keys, tokens, secrets, {words: value for words, value in clients.items() if value})


def _secrets(lane: Lane) -> Iterator[tuple[str, bytes]]:
    """What templates of its profile mention and is no name: texts, and what base64 or hex stands for."""
    for name, kind in lane.profile.credentials.items():
        if kind != "pem" and name != "client_id" and name in lane.binding.known:
            yield f"{name} of route {lane.route.name}", lane.binding.known[name]
