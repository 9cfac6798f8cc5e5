"""`paraf ca init`: a local authority for interception, for the hosts of the routes and no others."""

from pathlib import Path
from typing import Final

import click

from proxy.addresses import is_address
from proxy.commands.configuration import config_options, settings_of
from proxy.errors import StartError
from proxy.generation import hosts_of
from proxy.references import FileReference
from proxy.settings import Settings

DEFAULT: Final = ("ca/chain.pem", "ca/key.pem")


def chain_and_key(settings: Settings, folder: Path) -> tuple[Path, Path]:
    """Where `ca` has its files, or would have them. Raises StartError when it names no files."""
    if settings.ca is None:
        return folder / DEFAULT[0], folder / DEFAULT[1]
    if not isinstance(settings.ca.cert, FileReference) or not isinstance(settings.ca.key, FileReference):
        raise StartError("`ca` must name files: an authority cannot be written into a variable")
    return folder / settings.ca.cert.path, folder / settings.ca.key.path


@click.command()
@config_options
@click.argument("action", type=click.Choice(["init"]), expose_value=False)
@click.option("--force", is_flag=True, help="Make a new one where there is one; programs must then trust its root.")
def ca(file: str, allow_inline_secrets: bool, force: bool) -> None:
    """Make the local authority of interception: `paraf ca init`.

    It can sign for the hosts of FILE's routes alone. The root's key is thrown away at once.
    """
    from proxy.authority import make_authority, utc_now
    from proxy.surroundings import Trust, write

    settings, _ = settings_of(file, allow_inline_secrets=allow_inline_secrets)
    folder = Path(file).resolve().parent
    chain, key = chain_and_key(settings, folder)
    there = [str(path) for path in (chain, key) if path.exists()]
    if there and not force:
        raise StartError(f"{' and '.join(there)} exist: --force makes a new authority, whose root programs must trust")
    names = sorted({host for hosts in hosts_of(settings, folder).values() for host in hosts if not is_address(host)})
    if not names:
        raise StartError("no route has a host: write `hosts` under the route that is to be intercepted")
    made, trust = make_authority(names, utc_now()), Trust.within(chain.parent)
    try:
        trust.write(made.root)
        write(chain, made.chain.encode())
        write(key, made.key.reveal().encode(), mode=0o600)
    except OSError as error:
        raise StartError(f"cannot write {error.filename}: {error.strerror}") from None
    click.echo(f"certificate   {chain}\nkey           {key}\nto trust      {trust.root}")
    click.echo(f"with others   {trust.bundle}, for Java {trust.java}\nsigns for     {', '.join(names)}")
    click.echo("`paraf env` prints the variables by which programs find these.")
    if settings.ca is None:
        click.echo("Add to the configuration:  ca: {{cert: {}, key: {}}}".format(*DEFAULT))
