"""`paraf verify`: which part of a signed request differs from what its route would have signed."""

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import click

from proxy.addresses import BaseUrl
from proxy.clock import SystemClock
from proxy.commands import EXIT_FAILURE
from proxy.commands.asked import Look, body_of, file_of, headers_of, moment, with_host
from proxy.commands.configuration import Loaded, config_options, load
from proxy.commands.curl import Pasted, parse_curl
from proxy.doctor import opened_for
from proxy.errors import ProxyError, StartError, StoreFault
from proxy.evidence import at_hand
from proxy.generation import Lane
from proxy.inbound.ways import match
from proxy.model import Account
from proxy.shape import did_you_mean
from proxy.signing.diagnose import Diagnosis, diagnose
from proxy.signing.reading import Deviation, PartName, Presented, apart, reading
from proxy.storeforms import MEMORY

HOST: Final = "path.host"


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the part of its URL against which it is read."""

    lane: Lane
    base: BaseUrl
    presented: Presented
    elsewhere: Deviation | None = None
    """The URL leads to another host than the route's."""


@click.command()
@config_options
@click.argument("route")
@click.argument("request_words", nargs=-1, metavar="(METHOD TARGET | -)")
@click.option("-d", "--data", default="", help="The body, or @FILE.")
@click.option("-H", "--header", "headers", multiple=True, help="A header of the signed request, `Name: value`.")
@click.option("--curl", "command", help="The signed request as a curl command; `-` reads one from stdin.")
@click.option("--token", help="The access token that should have been used.")
@click.option("--at", help="When the request was sent (RFC 3339 or epoch milliseconds), if its own time is doubted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(
    file: str, allow_inline_secrets: bool, route: str, request_words: tuple[str, ...], data: str,
    headers: tuple[str, ...], command: str | None, token: str | None, at: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Say which part of a signed request differs: time, path, body, token, key, algorithm or encoding.

    TARGET is what the caller sends, prefix included; a full URL is the provider's. Exit 0 right, 1 differs.
    """
    pasted = _pasted(request_words, command, headers, data)
    loaded = load(file, allow_inline_secrets=allow_inline_secrets)
    question = _question(loaded, _lane(loaded, route), pasted)
    known = replace(question.presented, token=(token or "").encode(), sent_ms=moment(at) if at else None)
    tokens = asyncio.run(_kept(loaded, question.lane.account)) | ({"the one given": known.token} if token else {})
    found = diagnose(question.lane.binding, question.base, known, at_hand(loaded.generation, question.lane, tokens))
    if question.elsewhere:
        found = replace(found, plain=(question.elsewhere, *found.plain))
    click.echo(json.dumps(_as_json(route, found), indent=1) if as_json else "\n".join(_report(question, found)))
    return 0 if found.right else EXIT_FAILURE


async def _kept(loaded: Loaded, account: Account) -> dict[str, bytes]:
    """The token that the account has now, where another process can see it."""
    if loaded.settings.store == MEMORY:
        return {}
    try:
        async with opened_for(loaded.settings, loaded.generation, SystemClock()) as store:
            token = await store.get(account)
    except (StoreFault, StartError):
        click.echo("the store of tokens gives no answer: its token is not tried", err=True)
        return {}
    return {"the one in the store": token.value.reveal().encode()} if token else {}


def _pasted(words: tuple[str, ...], command: str | None, headers: tuple[str, ...], data: str) -> Pasted:
    if command is None and len(words) == 2:
        return _legible(Pasted(words[0].upper(), words[1], headers_of(headers), (body_of(data),)))
    if (words == ("-",)) is (command is not None) or words not in ((), ("-",)) or headers or data:
        raise click.UsageError("give METHOD and TARGET with -H and -d, or --curl '...', or - to read a curl command")
    try:
        return _legible(parse_curl(command if command is not None else sys.stdin.read(), file_of))
    except UnicodeError:
        raise click.UsageError("the curl command is no UTF-8: write a body of bytes as -d @FILE") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _legible(pasted: Pasted) -> Pasted:
    """What is signed as text must be some; Python gives other bytes of a command line as lone surrogates."""
    try:
        "".join((pasted.method, pasted.target, *(part for row in pasted.headers for part in row))).encode()
    except UnicodeError:
        raise click.UsageError("the method, the URL or a header holds bytes that are no UTF-8") from None
    return pasted


def _lane(loaded: Loaded, route: str) -> Lane:
    lanes = loaded.generation.lanes
    if route not in lanes:
        raise click.UsageError(f"no such route{did_you_mean(route, lanes)}")
    return lanes[route]


def _question(loaded: Loaded, lane: Lane, pasted: Pasted) -> Question:
    headers = tuple(row for row in pasted.headers if row[0].lower() not in ("host", "content-length"))
    prefix = lane.route.prefix
    if "://" not in pasted.target:
        presented = Presented(pasted.method, _matched(loaded, lane, pasted), headers, pasted.body, prefix)
        return Question(lane, _base(lane, presented), presented)
    host, target = _parted(pasted.target)
    presented = Presented(pasted.method, target, headers, pasted.body, prefix)
    base = _base(lane, presented)
    hosts = {base.origin.partition("://")[2], *lane.route.hosts}
    other = Deviation("path", HOST, f"the URL leads to {host}; the route's host is {base.origin.partition('://')[2]}")
    return Question(lane, base, presented, None if host in hosts else other)


def _parted(url: str) -> tuple[str, str]:
    """Host with its port, and the raw target."""
    host, slash, rest = url.partition("://")[2].partition("#")[0].partition("/")
    if "?" in host:
        host, mark, query = host.partition("?")
        slash, rest = "/", mark + query
    return host.rpartition("@")[2].lower(), slash + rest or "/"


def _matched(loaded: Loaded, lane: Lane, pasted: Pasted) -> str:
    """The provider's target of what a caller sends."""
    try:
        found = match(loaded.generation.table, Look(pasted.method, pasted.target, with_host(pasted.headers)))
    except ProxyError as error:
        raise click.UsageError(f"{error.code}: {error.detail}") from None
    if found.route.name != lane.route.name:
        raise click.UsageError(f"this target belongs to route {found.route.name}: a target begins with its prefix")
    return found.target


def _base(lane: Lane, presented: Presented) -> BaseUrl:
    """The token call's own, when it is that call: it may have another host and path."""
    call = lane.profile.token
    if lane.exchange is None or call is None or presented.method != call.endpoint.method:
        return lane.route.base
    base = BaseUrl.parse(lane.exchange.url.removesuffix(call.endpoint.target))
    return base if presented.target == base.path + call.endpoint.target else lane.route.base


def _as_json(route: str, found: Diagnosis) -> dict[str, Any]:
    return {
        "right": found.right,
        "route": route,
        "deviations": [asdict(each) for each in found.deviations],
        "explanations": [[asdict(each) for each in explanation] for explanation in found.explanations],
        "complete": found.complete,
    }


def _report(question: Question, found: Diagnosis) -> Iterator[str]:
    """One line for each part that differs; what stands for the route beside it."""
    name, profile = question.lane.route.name, question.lane.profile.name
    if found.right:
        yield f"right: this is what route {name} ({profile}) signs"
    elif found.signed:
        yield f"differs from what route {name} ({profile}) sends; the signature itself is right"
    else:
        yield f"differs from what route {name} ({profile}) signs"
    yield from (_line(question, each) for each in found.deviations)
    for other in found.explanations[1:]:
        yield "or, which gives the same signature:"
        yield from (_line(question, each) for each in other)
    if not found.complete:
        yield "not all was tried: the bound of work was met"
    yield from _age(question)


def _line(question: Question, deviation: Deviation) -> str:
    also = (
        f" (the same bytes: {', '.join(each.partition('.')[2] for each in deviation.also)})" if deviation.also else ""
    )
    wanted = _WANTED.get(deviation.part)
    switches = question.lane.binding.switches
    told = [f"{switch}: {str(switches[switch]).lower()}" for switch in wanted or () if switches.get(switch) is not None]
    return f"  {deviation.part:10}{deviation.words}{also}" + (
        f"\n            the route: {', '.join(told)}" if told else ""
    )


_WANTED: Final[dict[PartName, tuple[str, ...]]] = {
    "body": ("canonical",), "path": ("sign_path", "strip_base_path"), "time": ("timestamp",),
    "method": ("method_case",), "separator": ("token_separator",),
}  # fmt: skip


def _age(question: Question) -> Iterator[str]:
    """Whether a time is old only who pasted the request can say."""
    read, _ = reading(question.lane.binding, question.base, question.presented)
    if read.at_ms is not None:
        yield f"  its time is {apart(read.at_ms - SystemClock().now_ms())} this machine's clock"
