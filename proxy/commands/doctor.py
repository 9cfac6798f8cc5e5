"""`paraf doctor`: is it us, the clock, the key or the provider?"""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from proxy.commands import EXIT_FAILURE
from proxy.commands.configuration import config_options, load
from proxy.doctor import Check, examine

MARKS = {"ok": "ok", "warning": "WARN", "failed": "FAILED", "skipped": "-"}
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": None}


@click.command()
@config_options
@click.option("--take-token", is_flag=True, help="Fetch for exclusive accounts too: this ends the token in use.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(file: str, allow_inline_secrets: bool, take_token: bool, as_json: bool) -> int:
    """Look at names, TLS, clock, keys, files, store and tokens. Sends nothing of a payment. Exit 1 if a check fails."""
    loaded = load(file, allow_inline_secrets=allow_inline_secrets)
    checks = asyncio.run(
        examine(loaded.settings, loaded.generation, Path(file).resolve().parent, take_token=take_token)
    )
    good = all(check.state != "failed" for check in checks)
    colour = False if "NO_COLOR" in os.environ else None
    click.echo(_json(checks, good=good) if as_json else _table(checks), color=colour)
    return 0 if good else EXIT_FAILURE


def _json(checks: Sequence[Check], *, good: bool) -> str:
    return json.dumps({"good": good, "checks": [asdict(check) for check in checks]}, indent=1)


def _table(checks: Sequence[Check]) -> str:
    """Grouped by what was looked at."""
    lines: list[str] = []
    subject = ""
    for check in checks:
        if check.subject != subject:
            subject = check.subject
            lines.append(subject)
        mark = click.style(f"{MARKS[check.state]:6}", fg=COLOURS[check.state])
        lines.append(f"  {mark} {check.name:6} {check.words}")
    return "\n".join(lines)
