"""What a program needs around it to find Paraf: variables, and files with the authorities that it should trust."""

import os
import re
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.authority import ROOT, TRUST_STORE_PASSWORD, java_trust_store

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Trust:
    """Files for programs. `bundle`: the system's authorities and the root; `java`: the same as PKCS#12."""

    root: Path
    bundle: Path
    java: Path

    @classmethod
    def within(cls, folder: Path) -> "Trust":
        return cls(folder / ROOT, folder / "bundle.pem", folder / "trust.p12")

    def write(self, root: str) -> None:
        bundle = system_authorities() + root
        write(self.root, root.encode())
        write(self.bundle, bundle.encode())
        write(self.java, java_trust_store(bundle))


def environment(
    address: str, prefixes: Mapping[str, str], hosts: Iterable[str], trust: Trust | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """The variables to set. `address`: HOST:PORT of Paraf; `prefixes` and their routes; `hosts` that it intercepts.

    Without `trust` nothing leads `https://` here. `environ` is what they are added to.
    """
    url = f"http://{address}"
    made = {f"PARAF_URL_{re.sub(r'[^A-Z0-9]', '_', name.upper())}": url + prefix for name, prefix in prefixes.items()}
    made |= _both_cases("http_proxy", url)
    made |= _both_cases("no_proxy", _no_proxy(environ, tuple(hosts)))
    options = _java_proxy("http", address)
    if trust:
        made |= _both_cases("https_proxy", url)
        made |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(trust.bundle))
        made["NODE_EXTRA_CA_CERTS"] = str(trust.root)
        options += _java_proxy("https", address) + _java_trust(trust.java)
    made["JAVA_TOOL_OPTIONS"] = " ".join(filter(None, (environ.get("JAVA_TOOL_OPTIONS"), *options)))
    return made


def _both_cases(name: str, value: str) -> dict[str, str]:
    return {name: value, name.upper(): value}


def _no_proxy(environ: Mapping[str, str], hosts: tuple[str, ...]) -> str:
    """This machine, and what was there before, but for entries that would lead one of the hosts around Paraf."""
    before = [each.strip() for each in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")]
    kept = [each for each in before if each and not any(_is_around(each, host) for host in hosts)]
    return ",".join(dict.fromkeys((*_LOCAL, *kept)))


def _is_around(entry: str, host: str) -> bool:
    name = entry.lower().lstrip("*").lstrip(".").partition(":")[0]
    return entry == "*" or host == name or host.endswith(f".{name}")


def _java_proxy(scheme: str, address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    options = [f"-D{scheme}.proxyHost={host.strip('[]')}", f"-D{scheme}.proxyPort={port}"]
    return [*options, "-Dhttp.nonProxyHosts=localhost|127.*|[::1]"] if scheme == "http" else options


def _java_trust(store: Path) -> list[str]:
    options = (
        f"-Djavax.net.ssl.trustStore={store}",
        "-Djavax.net.ssl.trustStoreType=PKCS12",
        f"-Djavax.net.ssl.trustStorePassword={TRUST_STORE_PASSWORD}",
    )
    return [f'"{each}"' if re.search(r"\s", each) else each for each in options]


def system_authorities() -> str:
    """PEM of what OpenSSL trusts here: the file of SSL_CERT_FILE or the system's, and nothing if there is none."""
    file = ssl.get_default_verify_paths().cafile
    if file:
        return Path(file).read_text("utf-8", "replace").rstrip("\n") + "\n"
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
