"""`paraf token`: the tokens of a Paraf that runs, by its control listener."""

import asyncio
import json
from typing import Any, Final
from urllib.parse import quote

import click

from proxy.commands import EXIT_FAILURE
from proxy.commands.configuration import config_options, load, settings_of
from proxy.commands.operator import Nobody, operator_of
from proxy.errors import StartError, StoreFault
from proxy.loading import Loaded
from proxy.model import Account
from proxy.settings import Settings
from proxy.storeforms import MEMORY

COLUMNS: Final = {
    "account": "ACCOUNT",
    "state": "STATE",
    "age_s": "AGE",
    "expires_in_s": "ENDS IN",
    "expires_at": "ENDS AT",
    "fingerprint": "FINGERPRINT",
    "holder": "FETCHED BY",
}
_MEMORY: Final = "with `store: memory` only a Paraf that runs knows its tokens"


@click.command()
@config_options
@click.option(
    "--take-token",
    is_flag=True,
    help="With refresh, for an exclusive account: end the token in use, for whoever else uses it too.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("deed", type=click.Choice(["list", "refresh", "purge"]))
@click.argument("account", required=False)
def token(
    file: str, allow_inline_secrets: bool, take_token: bool, as_json: bool, deed: str, account: str | None
) -> int:
    """List tokens (age, end, fingerprint, who fetched it; never the value), fetch another one, or forget one.

    Asks the Paraf that runs with this configuration, at its `control`. Without one, `list` reads a shared store.
    """
    if (deed == "list") != (account is None):
        raise click.UsageError("list takes no account" if account else f"{deed} needs an account: `list` shows them")
    settings, _ = settings_of(file, allow_inline_secrets=allow_inline_secrets)
    if deed == "list":
        listed = _listed(settings)
        tokens = _stored(file, allow_inline_secrets=allow_inline_secrets) if listed is None else listed
        click.echo(json.dumps(tokens, indent=1) if as_json else _table(tokens))
        return 0
    query = "?take_token=true" if take_token else ""
    status, answer = operator_of(settings).ask("POST", f"/tokens/{quote(str(account), safe='')}/{deed}{query}")
    return _told(status, answer, as_json=as_json)


def _told(status: int, answer: Any, *, as_json: bool) -> int:
    if status == 200:
        click.echo(json.dumps(answer, indent=1) if as_json else _words(answer))
        return 0
    hint = " (--take-token says so)" if status == 409 else ""
    click.echo(f"paraf: {answer['detail']}{hint}", err=True)
    return EXIT_FAILURE


def _words(answer: Any) -> str:
    if "purged" in answer:
        return f"{answer['account']}: {'forgotten' if answer['purged'] else 'there was none'}"
    return _table([answer])


def _listed(settings: Settings) -> Any | None:
    """None when nobody answers and a store is shared, which can be read."""
    try:
        status, answer = operator_of(settings).ask("GET", "/tokens")
    except Nobody as nobody:
        if settings.store != MEMORY:
            return None
        raise StartError(f"{nobody}; {_MEMORY}") from None
    if status != 200:
        raise StartError(answer["detail"])
    return answer["tokens"]


def _stored(file: str, *, allow_inline_secrets: bool) -> list[dict[str, Any]]:
    """What the shared store has, by the word of no process. It is read with the accounts' own secrets."""
    return asyncio.run(_read(load(file, allow_inline_secrets=allow_inline_secrets)))


async def _read(loaded: Loaded) -> list[dict[str, Any]]:
    from proxy.answers import account_shown
    from proxy.clock import SystemClock
    from proxy.stores.opening import opened

    generation, clock = loaded.generation, SystemClock()
    login, secrets = generation.store.login, generation.store_secrets
    async with opened(loaded.settings.store, login, secrets, clock, _Quiet()) as store:
        try:
            return [account_shown(account, await store.get(account), clock) for account in generation.accounts]
        except StoreFault:
            raise StartError("no Paraf answers, and the store of tokens cannot be reached") from None


class _Quiet:
    """A StoreWatch: whoever lists sees what is there."""

    def answered(self) -> None:
        """Nothing to tell."""

    def failed(self, reason: str) -> None:
        """Told as a whole."""

    def readable(self, account: Account) -> None:
        """Listed."""

    def unreadable(self, account: Account) -> None:
        click.echo("paraf: a record was kept with another key, and is passed over", err=True)


def _table(tokens: list[dict[str, Any]]) -> str:
    rows = [list(COLUMNS.values()), *([_cell(each.get(name)) for name in COLUMNS] for each in tokens)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f} s"
    return "-" if value is None else str(value)
