"""A request to the control listener of a Paraf that runs, as commands make it."""

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.addresses import Listen, UnixListen
from proxy.errors import ConfigError, StartError
from proxy.keyring import Keyring
from proxy.model import Secret
from proxy.settings import Settings
from proxy.storekeys import AccessReader
from proxy.variables import VARIABLES

PATIENCE: Final = 90.0
"""Seconds for one answer: a token call may take `timeouts.token`."""

_NO_CONTROL: Final = (
    "no `control` in the configuration: set it (control: unix:/run/paraf/control.sock) and restart Paraf"
)


class Nobody(StartError):
    """No Paraf answers at the control address."""


def operator_of(settings: Settings) -> "Operator":
    """Of the Paraf that runs with these settings; of its secrets only `control_token` is read.

    Raises Nobody where no `control` is set, ConfigError.
    """
    if settings.control is None:
        raise Nobody(_NO_CONTROL)
    folder = Path(settings.source.file).resolve().parent
    reader = AccessReader(settings, Keyring(), VARIABLES, folder)
    token = reader.control_token()
    if errors := [finding for finding in reader.findings if finding.severity == "error"]:
        raise ConfigError(errors)
    return Operator(settings.control, token)


@dataclass(frozen=True, slots=True)
class Operator:
    """Asks at `address`, showing `token`."""

    address: Listen
    token: Secret | None = None

    def ask(self, method: str, target: str) -> tuple[int, Any]:
        """Status, and what the JSON of the answer says. Raises StartError."""
        connection = _Unix(self.address.path) if isinstance(self.address, UnixListen) else self._tcp()
        try:
            shown = {"Authorization": f"Bearer {self.token.reveal()}"} if self.token else {}
            connection.request(method, target, headers={"Host": "localhost", **shown})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (ConnectionRefusedError, FileNotFoundError):
            raise Nobody(f"no Paraf answers at {self.address}") from None
        except OSError as error:
            raise StartError(f"{self.address}: {error.strerror or 'no answer in time'}") from None
        except (http.client.HTTPException, ValueError):
            raise StartError(f"{self.address}: this is no control listener of Paraf") from None
        finally:
            connection.close()

    def _tcp(self) -> http.client.HTTPConnection:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address.host, self.address.host)  # type: ignore[union-attr] # noqa: S104
        return http.client.HTTPConnection(host, self.address.port, timeout=PATIENCE)  # type: ignore[union-attr]


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)
