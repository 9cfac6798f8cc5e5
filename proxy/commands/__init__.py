"""The command line. Each command lies in its own module and is imported when it is called."""

import gc
import signal
import sys
from importlib import import_module
from typing import Any, Final

import click

from proxy.errors import ConfigError, StartError

EXIT_FAILURE: Final = 1
EXIT_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h."""
GC_THRESHOLD: Final = (10_000, 20, 50)
"""Hardly a circle is left behind by what is imported, or by a request. At CPython's own threshold the search for them
was a sixth of the time to load `serve`, and 5 % of a request (measured)."""

COMMANDS: Final = {
    "demo": "demo",
    "serve": "serve",
    "check": "check",
    "sign": "sign",
    "verify": "verify",
    "doctor": "doctor",
    "exec": "exec",
    "env": "exec",
    "ca": "ca",
    "token": "token",
    "wait": "wait",
    "sandbox": "sandbox",
    "inject": "inject",
    "providers": "show",
    "schema": "show",
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if cmd_name == "serve":  # what it imports takes a while, and a hangup that comes early must not end it
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return getattr(import_module(f"proxy.commands.{module}"), cmd_name) if module else None


def _print_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked:
        from cryptography.hazmat.backends.openssl import backend

        from proxy import __version__

        click.echo(f"paraf {__version__}, Python {sys.version.split()[0]}, {backend.openssl_version_text()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print versions."
)
def paraf() -> None:
    """Sign requests to payment providers: services send them plain, Paraf adds token and signature.

    Start with `paraf demo`.
    """


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Exit 0 good, 1 run-time failure, 2 usage, 78 bad configuration, 130 Ctrl-C."""
    gc.set_threshold(*GC_THRESHOLD)
    try:
        result: Any = paraf.main(arguments, prog_name="paraf", standalone_mode=False)
    except ConfigError as error:
        for finding in error.findings:
            click.echo(str(finding), err=True)
        sys.exit(EXIT_CONFIG)
    except StartError as error:
        click.echo(f"paraf: {error}", err=True)
        sys.exit(EXIT_FAILURE)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(EXIT_FAILURE)
    sys.exit(result if isinstance(result, int) else 0)
