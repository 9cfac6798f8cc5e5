"""What interception rests on, read and checked before anything listens: the local authority, and whom it covers."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path as FilePath
from typing import Final

from proxy.authority import ROOT, Authority, utc_now
from proxy.errors import Finding
from proxy.files import Files
from proxy.keyring import Keyring
from proxy.references import FileReference
from proxy.routes import Route
from proxy.settings import CaForm, Settings
from proxy.source import Path

SOON: Final = timedelta(days=30)


class AuthorityReader:
    """Reads `ca` and looks at every route that intercepts; what is wrong is in `findings`."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        folder: FilePath,
        now: datetime | None = None,
        *,
        files: Files | None = None,
    ) -> None:
        self.findings: list[Finding] = []
        self._settings = settings
        self._environ, self._folder = environ, folder
        self._now = now or utc_now()
        self._files = files
        self._making = f"`paraf ca init -c {settings.source.file}` makes one"

    def read(self, routes: Iterable[Route]) -> Authority | None:
        intercepting = [route for route in routes if route.intercept]
        for route in intercepting:
            if not route.hosts:
                self._find_at(route, "the route has no host to intercept: write `hosts`")
            if self._settings.ca is None:
                self._find_at(route, f"needs a local authority: {self._making}, and `ca` names it")
        if (form := self._settings.ca) is None:
            return None
        authority = self._authority(form)
        if authority:
            self._look_at(authority, intercepting)
        return authority

    def _authority(self, form: CaForm) -> Authority | None:
        """The key is never readable by others, whatever `strict_permissions` says of the rest."""
        place = {"environ": self._environ, "base": self._folder}
        strict = Keyring(strict_permissions=True, files=self._files)
        at = "cert"
        try:
            chain = strict.authorities(form.cert, **place)  # type: ignore[arg-type]
            at = "key"
            return Authority.read(chain, strict.read(form.key, **place), self._root(form))  # type: ignore[arg-type]
        except ValueError as error:
            hint = f": {self._making}" if "does not exist" in str(error) else ""
            self._find(("ca", at), f"{error}{hint}")
        return None

    def _root(self, form: CaForm) -> str:
        return str((self._folder / form.cert.path).parent / ROOT) if isinstance(form.cert, FileReference) else ""

    def _look_at(self, authority: Authority, intercepting: Iterable[Route]) -> None:
        renew = f"`paraf ca init --force -c {self._settings.source.file}` makes a new one, whose root is to be trusted"
        if authority.ends <= self._now:
            self._find(("ca", "cert"), f"ended on {authority.ends:%Y-%m-%d}: {renew}")
        elif authority.ends - self._now < SOON:
            self._warn(("ca", "cert"), f"ends on {authority.ends:%Y-%m-%d}: {renew}")
        if not authority.is_constrained:
            self._warn(("ca", "cert"), f"may sign for every name, not only for the routes' hosts: {renew}")
        for route in intercepting:
            for host in sorted(host for host in route.hosts if not authority.covers(host)):
                self._find_at(route, f"the certificate of `ca` may not sign for {host}: {renew}")

    def _find_at(self, route: Route, message: str) -> None:
        self._find(("routes", route.name, "intercept"), message)

    def _find(self, path: Path, message: str) -> None:
        self.findings.append(self._settings.source.finding(path, message))

    def _warn(self, path: Path, message: str) -> None:
        self.findings.append(self._settings.source.finding(path, message, "warning"))
