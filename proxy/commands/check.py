"""`paraf check`: everything that is wrong with a configuration, at once."""

import asyncio
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Final

import click
import yaml

from proxy.clock import SystemClock
from proxy.commands import EXIT_CONFIG, EXIT_FAILURE
from proxy.commands.configuration import Loaded, config_options, load
from proxy.errand import Fetch
from proxy.errors import ConfigError, Finding, ProxyError, TokenFault
from proxy.fetch import unleased
from proxy.model import Account
from proxy.settings import Circuit, Limits, Timeouts
from proxy.source import Severity


def _text(findings: Iterable[Finding]) -> str:
    return "\n".join(map(str, findings))


def _json(findings: Iterable[Finding]) -> str:
    return json.dumps([each.members for each in findings])


def _github(findings: Iterable[Finding]) -> str:
    return "\n".join(
        f"::{each.severity} file={each.file},line={each.line},col={each.column},title=paraf"
        f"::{each.path}: {each.message}"
        for each in findings
    )


FORMATS: Final[dict[str, Callable[[Iterable[Finding]], str]]] = {"text": _text, "json": _json, "github": _github}


@click.command()
@config_options
@click.option("--online", is_flag=True, help="Fetch a token for every account that can spare one.")
@click.option(
    "--take-token", is_flag=True, help="With --online: also for exclusive accounts, which ends their live token."
)
@click.option("--show-effective", is_flag=True, help="Print what the configuration comes to, secrets as stars.")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), default="text", help="Form of the findings.")
def check(
    file: str, allow_inline_secrets: bool, online: bool, take_token: bool, show_effective: bool, form: str
) -> int:
    """Check a configuration: all findings at once, as FILE:LINE:COLUMN: PATH: MESSAGE. Exit 0 good, 78 not."""
    try:
        loaded = load(file, allow_inline_secrets=allow_inline_secrets)
    except ConfigError as error:
        click.echo(FORMATS[form](error.findings))
        return EXIT_CONFIG
    findings = list(loaded.warnings)
    if online:
        findings += asyncio.run(_ask_providers(loaded, take_token=take_token))
    _print(
        findings, form, f"{file}: good: {len(loaded.generation.lanes)} routes, {len(loaded.generation.accounts)} tokens"
    )
    if show_effective:
        click.echo(_effective(loaded))
    return EXIT_FAILURE if any(finding.severity == "error" for finding in findings) else 0


def _print(findings: list[Finding], form: str, good: str) -> None:
    if findings or form == "json":
        click.echo(FORMATS[form](findings))
    elif form == "text":
        click.echo(good)


async def _ask_providers(loaded: Loaded, *, take_token: bool) -> list[Finding]:
    """One token call for each account, but not for one whose live token it would kill."""
    from proxy.app import token_calls

    async with token_calls(loaded.generation, SystemClock()) as fetch:
        asked = [await _ask(loaded, account, fetch, take_token) for account in loaded.generation.accounts]
    return [finding for finding in asked if finding]


async def _ask(loaded: Loaded, account: Account, fetch: Fetch, take_token: bool) -> Finding | None:
    def found(words: str, severity: Severity = "error") -> Finding:
        return loaded.settings.source.finding(("routes", account.name), words, severity, key=True)

    if account.exclusive and not take_token:
        return found(
            "exclusive: not asked, a new token would end the live one (--take-token asks all the same)", "warning"
        )
    try:
        await fetch(account, unleased)
    except TokenFault as fault:
        return found(f"token call: {fault.words}")
    except ProxyError as error:
        return found(f"token call: {error.detail}")
    return None


def _effective(loaded: Loaded) -> str:
    """Routes as they will run; no secret is in it, only the names of those that were read."""
    routes = {}
    for lane in loaded.generation.lanes.values():
        route, switches = lane.route, lane.binding.switches
        routes[route.name] = {
            "provider": lane.profile.name,
            "account": lane.account.name,
            "prefix": route.prefix or "/",
            "hosts": sorted(route.hosts),
            "mode": "shadow" if lane.bystander else "sign",
            "intercept": route.intercept,
            "upstream": route.base.text,
            "egress_proxy": f"{lane.outlet.egress.host}:{lane.outlet.egress.port}" if lane.outlet.egress else None,
            "token": lane.exchange.url if lane.exchange else None,
            "exclusive": lane.account.exclusive,
            "allow": [f"{rule.method} {rule.pattern}" for rule in route.allow] or ["everything under the base"],
            "limits": _shown(route.limits),
            "timeouts": _shown(route.timeouts),
            "circuit": "off" if math.isinf(lane.breaker.rule.faults) else _shown(lane.breaker.rule),
            "switches": {name: value for name, value in switches.items() if isinstance(value, str | bool)},
        }
    return str(yaml.safe_dump({"routes": routes}, sort_keys=False, allow_unicode=True)).rstrip()


def _shown(numbers: Limits | Timeouts | Circuit) -> dict[str, Any]:
    return {name: "off" if math.isinf(value) else value for name, value in asdict(numbers).items()}
