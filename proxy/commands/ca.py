"""`paraf ca init`: a local authority for interception, for the hosts of the routes and no others."""

import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from proxy.addresses import is_address
from proxy.commands.configuration import config_options, settings_of
from proxy.errors import StartError
from proxy.generation import hosts_of
from proxy.references import FileReference
from proxy.settings import Settings

DEFAULT: Final = ("ca/chain.pem", "ca/key.pem")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files of an authority lie; what programs read is beside the certificate."""

    chain: Path
    key: Path

    @property
    def root(self) -> Path:
        from proxy.authority import ROOT

        return self.chain.with_name(ROOT)

    @property
    def bundle(self) -> Path:
        """The system's authorities and the root."""
        return self.chain.with_name("bundle.pem")

    @property
    def trust_store(self) -> Path:
        """The same for Java."""
        return self.chain.with_name("trust.p12")


def places_of(settings: Settings, folder: Path) -> Places:
    """Raises StartError when `ca` names no files."""
    if settings.ca is None:
        return Places(*(folder / name for name in DEFAULT))
    if not isinstance(settings.ca.cert, FileReference) or not isinstance(settings.ca.key, FileReference):
        raise StartError("`ca` must name files: an authority cannot be written into a variable")
    return Places(folder / settings.ca.cert.path, folder / settings.ca.key.path)


@click.command()
@config_options
@click.argument("action", type=click.Choice(["init"]), expose_value=False)
@click.option("--force", is_flag=True, help="Make a new one where there is one; programs must then trust its root.")
def ca(file: str, allow_inline_secrets: bool, force: bool) -> None:
    """Make the local authority of interception: `paraf ca init`.

    It can sign for the hosts of FILE's routes alone. The root's key is thrown away at once.
    """
    from proxy.authority import make_authority, utc_now

    settings, _ = settings_of(file, allow_inline_secrets=allow_inline_secrets)
    folder = Path(file).resolve().parent
    places = places_of(settings, folder)
    there = [str(path) for path in (places.chain, places.key) if path.exists()]
    if there and not force:
        raise StartError(f"{' and '.join(there)} exist: --force makes a new authority, whose root programs must trust")
    names = sorted(host for host in hosts_of(settings, folder) if not is_address(host))
    if not names:
        raise StartError("no route has a host: write `hosts` under the route that is to be intercepted")
    made = make_authority(names, utc_now())
    try:
        write_trust(places, made.root)
        write(places.chain, made.chain.encode())
        write(places.key, made.key.reveal().encode(), mode=0o600)
    except OSError as error:
        raise StartError(f"cannot write {error.filename}: {error.strerror}") from None
    click.echo(_report(settings, places, names))


def write_trust(places: Places, root: str) -> None:
    """What programs trust: the root alone, and with the system's authorities, as PEM and for Java."""
    from proxy.authority import java_trust_store

    bundle = system_authorities() + root
    write(places.root, root.encode())
    write(places.bundle, bundle.encode())
    write(places.trust_store, java_trust_store(bundle))


def system_authorities() -> str:
    """PEM of what OpenSSL trusts here: the file of SSL_CERT_FILE or the system's, and nothing if there is none."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return Path(paths.cafile).read_text("utf-8", "replace").rstrip("\n") + "\n"
    context = ssl.create_default_context()
    return "".join(ssl.DER_cert_to_PEM_cert(each) for each in context.get_ca_certs(binary_form=True))


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as kept:
            kept.write(content)
            os.fchmod(kept.fileno(), mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _report(settings: Settings, places: Places, names: list[str]) -> str:
    lines: list[Any] = [
        f"certificate   {places.chain}",
        f"key           {places.key}",
        f"to trust      {places.root}",
        f"with others   {places.bundle}, for Java {places.trust_store}",
        f"signs for     {', '.join(names)}",
        "`paraf env` prints the variables by which programs find these.",
    ]
    if settings.ca is None:
        lines.append("Add to the configuration:  ca: {{cert: {}, key: {}}}".format(*DEFAULT))
    return "\n".join(lines)
