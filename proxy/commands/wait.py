"""`paraf wait`: block until a Paraf is ready. For health checks, so it loads little."""

import socket
import time
from pathlib import Path
from typing import Final

import click

from proxy.addresses import Listen, TcpListen, UnixListen, parse_listen
from proxy.commands import EXIT_FAILURE
from proxy.errors import ConfigError, Finding, StartError
from proxy.quantities import duration
from proxy.source import Mapping, Report, Scalar, parse

LOOK: Final = 0.1
"""Seconds between two looks."""
PATIENCE: Final = 2.0
"""Seconds for one look."""
DEFAULT: Final = "127.0.0.1:9464"
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- whoever listens there is asked here


@click.command("wait")
@click.option(
    "-c", "--config", "file", envvar="PARAF_CONFIG", metavar="FILE", help="Configuration whose `admin` is asked."
)
@click.option("--admin", metavar="ADDRESS", help=f"Ask here instead: HOST:PORT or unix:/PATH. Default: {DEFAULT}.")
@click.option("--timeout", default="60s", metavar="TIME", help="How long to wait at most; 0s looks once.")
def wait(file: str | None, admin: str | None, timeout: str) -> int:
    """Block until a Paraf is ready: /readyz of its admin listener. Exit 0 ready, 1 not in time."""
    address, seconds = _address(file, admin), _seconds(timeout)
    until, told = time.monotonic() + seconds, _told(address)
    while told != "ready" and time.monotonic() < until:
        time.sleep(LOOK)
        told = _told(address)
    if told == "ready":
        return 0
    click.echo(f"paraf: {address} is not ready after {timeout}: {told}", err=True)
    return EXIT_FAILURE


def _seconds(text: str) -> float:
    report = Report("--timeout")
    seconds = duration(0).read(Scalar(text), (), report)
    if report.findings:
        raise click.BadParameter(report.findings[0].message, param_hint="--timeout")
    return float(seconds)


def _address(file: str | None, admin: str | None) -> Listen:
    """Of what the file says, only `admin` is looked at: whether the rest is right is the other's business."""
    text = admin or (_admin_of(file) if file else DEFAULT)
    if text == "off":
        raise StartError("`admin` is off, so nobody tells whether Paraf is ready")
    try:
        listen = parse_listen(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--admin") from None
    if isinstance(listen, TcpListen) and listen.port == 0:
        raise StartError("`admin` has port 0: name the real address with --admin")
    return listen


def _admin_of(file: str) -> str:
    try:
        root = parse(Path(file).read_text(encoding="utf-8"), file).root
    except (OSError, UnicodeDecodeError):
        raise ConfigError([Finding(file, 1, 1, "(file)", "cannot be read")]) from None
    node = root.get("admin") if isinstance(root, Mapping) else None
    return node.text if isinstance(node, Scalar) else DEFAULT


def _told(address: Listen) -> str:
    """`ready`, or why not."""
    try:
        with _connected(address) as sock:
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
    except OSError as error:
        return error.strerror or "no answer"
    status, _, body = answer.partition(b"\r\n\r\n")
    if status.startswith(b"HTTP/1.1 200 "):
        return "ready"
    return "it is " + body.decode("ascii", "replace").strip() if b" 503 " in status[:13] else "this is no Paraf"


def _connected(address: Listen) -> socket.socket:
    if isinstance(address, UnixListen):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(address.path)
        return sock
    return socket.create_connection((_ANYWHERE.get(address.host, address.host), address.port), PATIENCE)
