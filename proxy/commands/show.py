"""`paraf providers` and `paraf schema`: what Paraf knows."""

import json

import click
import yaml

from proxy.catalogue import Catalogue
from proxy.settings import json_schema
from proxy.shape import did_you_mean


@click.command()
@click.argument("name", required=False)
def providers(name: str | None) -> None:
    """List the profiles, or print one as it is laid out, with all that it extends."""
    catalogue = Catalogue()
    if name is None:
        for each in catalogue.names:
            profile = catalogue.profile(each)
            click.echo(f"{each:24} {profile.title:28} {', '.join(profile.environments) or 'needs upstream'}")
    elif name in catalogue.names:
        click.echo(yaml.safe_dump(catalogue.laid_out(name), sort_keys=False, allow_unicode=True, width=110).rstrip())
    else:
        raise click.UsageError(f"no such profile{did_you_mean(name, catalogue.names)}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors and other checks."""
    click.echo(json.dumps(json_schema(), indent=1))
