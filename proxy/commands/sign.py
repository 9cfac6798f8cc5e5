"""`paraf sign`: what would leave for a request, and nothing is sent."""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import click

from proxy.clock import SystemClock
from proxy.commands.asked import Look, as_curl, body_of, headers_of, moment, with_host
from proxy.commands.configuration import Loaded, config_options, load
from proxy.errors import ProxyError
from proxy.generation import Lane
from proxy.inbound.ways import match
from proxy.model import Secret, SignedRequest, Token
from proxy.sealing import seal
from proxy.signing.canonical import NotJson, minify, sort_keys, strip_blanks
from proxy.signing.draft import Draft
from proxy.signing.signer import Call

PLACEHOLDER: Final = "TOKEN"
"""Stands for the access token when none is given: nothing is fetched for a look."""


@dataclass(frozen=True, slots=True)
class Signed:
    lane: Lane
    call: Call
    draft: Draft
    request: SignedRequest

    def as_json(self) -> dict[str, Any]:
        return {
            "route": self.lane.route.name,
            "account": self.lane.account.name,
            "method": self.request.method,
            "url": self.request.url,
            "canonical_body": _shown(self.call.canonical_body),
            "body_sha256": hashlib.sha256(self.call.canonical_body).hexdigest(),
            "string_to_sign": _shown(self.draft.demands[0].message) if self.draft.demands else "",
            "signature": self.signature,
            "headers": dict(self.request.headers),
        }

    @property
    def signature(self) -> str:
        return self.request.headers[-1][1] if self.draft.headers_due else ""


def _shown(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


@click.command()
@config_options
@click.argument("route")
@click.argument("method")
@click.argument("target")
@click.option("-d", "--data", default="", help="The body, or @FILE.")
@click.option("-H", "--header", "headers", multiple=True, help="A header of the caller, `Name: value`.")
@click.option("--at", help="The time: RFC 3339 or epoch milliseconds. Default: now.")
@click.option(
    "--token", default=PLACEHOLDER, help="The access token. Nothing is fetched: without it a placeholder stands."
)
@click.option("--external-id", help="The id that Paraf would make.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--compare", is_flag=True, help="Ask the provider's own test signer too (Klikoo stage, requests without body)."
)
def sign(
    file: str, allow_inline_secrets: bool, route: str, method: str, target: str, data: str, headers: tuple[str, ...],
    at: str | None, token: str, external_id: str | None, as_json: bool, compare: bool,
) -> None:  # fmt: skip
    """Show what Paraf would send for METHOD TARGET through ROUTE. TARGET is what the caller sends, prefix included."""
    loaded = load(file, allow_inline_secrets=allow_inline_secrets)
    now_ms = moment(at) if at else SystemClock().now_ms()
    look = Look(method.upper(), target, with_host(headers_of(headers)))
    try:
        signed = asyncio.run(_sign(loaded, route, look, body_of(data), now_ms, token, external_id))
    except ProxyError as error:
        raise click.ClickException(f"{error.code}: {error.detail}") from None
    if token == PLACEHOLDER and signed.call.aim.scheme.token:
        click.echo(f"no --token given: {PLACEHOLDER} stands for it", err=True)
    click.echo(json.dumps(signed.as_json(), ensure_ascii=False, indent=1) if as_json else _report(signed))
    if compare:
        _compare(signed, now_ms, token)


async def _sign(
    loaded: Loaded, route: str, look: Look, body: bytes, now_ms: int, token: str, external_id: str | None
) -> Signed:
    found = match(loaded.generation.table, look)
    if found.route.name != route:
        raise click.UsageError(f"this target belongs to route {found.route.name}: a target begins with its prefix")
    lane = loaded.generation.lanes[route]
    call = lane.signer.admit(look.method, found.target, look.names, look.headers, body)
    if call.external_id is not None or lane.new_id is None:
        external_id = call.external_id
    elif external_id is None:
        external_id = lane.new_id(now_ms)
    kept = Token(Secret(token), 0, 0.0) if call.aim.scheme.token else None
    draft = lane.signer.draft(call, kept, now_ms, external_id)
    return Signed(lane, call, draft, await seal(draft, lane.keys))


def _report(signed: Signed) -> str:
    """For people: blanks of the string-to-sign visible, the digest under each body form, a curl line to copy."""
    parts = signed.as_json()
    body = signed.call.raw_body
    rows = [
        f"route           {parts['route']} (account {parts['account']}, profile {signed.lane.profile.name})",
        f"request         {parts['method']} {parts['url']}",
        f"canonical body  {parts['canonical_body'] or '(empty)'}",
        *(f"sha256 {name:9}{digest}" for name, digest in _digests(body)),
        *(f"string-to-sign  {_visible(demand.message)}" for demand in signed.draft.demands),
        "headers",
        *(f"  {name}: {value}" for name, value in signed.request.headers),
        "to send it by hand",
        f"  {as_curl(signed.request)}",
    ]
    return "\n".join(rows)


def _digests(body: bytes) -> list[tuple[str, str]]:
    """Of each form that a provider may digest; forms that are no other bytes are left out."""
    forms: dict[bytes, str] = {}
    for name, form in (("raw", bytes), ("minify", minify), ("sorted", sort_keys), ("no blanks", strip_blanks)):
        try:
            made = form(body)
        except NotJson:
            continue
        forms[made] = f"{forms[made]}={name}" if made in forms else name
    return [(name + " ", hashlib.sha256(made).hexdigest()) for made, name in forms.items()]


def _visible(message: bytes) -> str:
    return _shown(message).replace(" ", "·").replace("\t", "→").replace("\r", "␍").replace("\n", "␊\n                ")


def _compare(signed: Signed, now_ms: int, token: str) -> None:
    """The provider's signer for tests takes no body, so it can judge requests without one only."""
    from proxy.compare import ask_signer

    try:
        theirs = asyncio.run(ask_signer(signed.lane, signed.call, now_ms, Token(Secret(token), 0, 0.0)))
    except ProxyError as error:
        raise click.ClickException(f"{error.code}: {error.detail}") from None
    same = theirs == signed.signature
    click.echo(f"provider        {theirs}\nparaf           {signed.signature}\n{'same' if same else 'DIFFERENT'}")
    if not same:
        raise click.ClickException("the provider signs otherwise")
