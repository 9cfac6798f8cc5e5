"""What can be said of a request that the provider refused, while it is still at hand: kept without any of its secrets.

Paraf's own signature is held against the route once more, and its time against the provider's clock. What is then
left is how the provider reads the request: so the readings under which other bytes would have been signed are named.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from proxy.generation import Lane
from proxy.headers import date_ms, texts
from proxy.model import Headers, SignedRequest, UpstreamResponse
from proxy.signing.canonical import NotJson
from proxy.signing.diagnose import diagnose
from proxy.signing.guess import AtHand
from proxy.signing.profile import Profile, Signature
from proxy.signing.reading import Presented, reading
from proxy.signing.signer import CANONICAL, Call
from proxy.signing.template import Template
from proxy.telemetry.logs import place
from proxy.telemetry.story import Refusal

LARGE: Final = 65_536
"""Bytes of a body over which nothing is read again: others are to be served meanwhile."""
LONGEST: Final = 200
"""Characters of a target that are kept."""
_PRIVATE: Final = re.compile(r"[^/]*[%@][^/]*|[^/]{41,}|[0-9](?:[-_~.]?[0-9]){4,}")
"""An account or card number, an address or an opaque key, as a part of a path; escapes can hide any of them."""


def inquest(lane: Lane, call: Call, signed: SignedRequest, answer: UpstreamResponse) -> Refusal | None:
    """None for an answer that refuses nothing."""
    if not 400 <= answer.status < 500:
        return None
    if len(call.raw_body) > LARGE:
        return Refusal(redacted(call.aim.target), (f"the body has more than {LARGE} bytes: nothing was read again",))
    try:
        findings = tuple(_findings(lane, call, signed, texts(answer.fields)))
    except Exception as fault:  # noqa: BLE001 -- the caller waits for the provider's answer, whatever is found of it
        findings = (f"a fault in Paraf ended the look at it: {place(fault)}",)
    return Refusal(redacted(call.aim.target), findings)


def _findings(lane: Lane, call: Call, signed: SignedRequest, answer: Headers) -> Iterator[str]:
    if lane.bystander is not None:
        yield "sent as the caller signed it: the log says how that compares"
    else:
        yield from _of_signature(lane, call, signed, answer)
    others = [*_bodies(lane, call), *_paths(lane, call)]
    if others:
        yield f"if the signature is what it refuses: other bytes would be signed with {', '.join(others)}"


def _of_signature(lane: Lane, call: Call, signed: SignedRequest, answer: Headers) -> Iterator[str]:
    """Our own is right at the first try, so this is a matter of microseconds."""
    url = urlsplit(signed.url)
    target = url.path + (f"?{url.query}" if "?" in signed.url else "")
    there_ms = date_ms(answer)
    presented = Presented(call.aim.method, target, signed.headers, signed.body, sent_ms=there_ms)
    keys = {name: key.public_key() for name, key in lane.keys.items()}
    found = diagnose(lane.binding, lane.route.base, presented, AtHand(keys), work=0)
    if found.signed:
        yield "the signature is what the route signs"
        signatures = reading(lane.binding, lane.route.base, presented)[0].scheme.signatures
        if names := " or ".join(dict.fromkeys(_signed_with(signatures, lane.profile))):
            yield f"if it is refused all the same: the provider may have another {names} for this account"
    yield from (each.words for each in found.deviations)


def _signed_with(signatures: Iterable[Signature], profile: Profile) -> Iterator[str]:
    """What of the account's they rest on: a provider that holds an older one refuses what is right here."""
    for signature in signatures:
        if isinstance(signature.key, Template):
            yield from sorted(signature.key.names & profile.credentials.keys())
        else:
            yield f"public key for {signature.key}"


def _bodies(lane: Lane, call: Call) -> Iterator[str]:
    """Of the bytes that the provider got."""
    if not call.body:
        return
    for name, form in CANONICAL.items():
        try:
            differs = form(call.body) != call.canonical_body
        except NotJson:
            continue
        if differs and name != lane.binding.switches["canonical"]:
            yield f"canonical: {name}"


def _paths(lane: Lane, call: Call) -> Iterator[str]:
    switches = lane.binding.switches
    if "?" in call.aim.target:
        yield "another sign_path"
    if lane.route.base.path:
        yield f"strip_base_path: {str(not switches['strip_base_path']).lower()}"


def redacted(target: str) -> str:
    """Names stay, values go; what stands alone in a query may be either."""
    path, mark, query = target.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    names = [f"{_PRIVATE.sub('…', name)}=…" if equals else "…" for name, equals, _ in pairs]
    shown = _PRIVATE.sub("…", path) + (mark + "&".join(names) if query else mark)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
