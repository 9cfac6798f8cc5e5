"""What Paraf itself can refuse, and the one table that names it.

`inbound.problem` is the only place that makes an HTTP answer of these; commands print them.
Nothing that a caller or provider sent belongs into a `detail`: it is written by us and short.
"""

from dataclasses import dataclass
from typing import Final, Literal

Sent = Literal["no", "maybe"]
"""May bytes of the request have reached the provider? After `maybe` only the caller can decide to send again."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the error table: a stable code, its HTTP status and a title for people."""

    code: str
    status: int
    title: str


KINDS: Final = {
    kind.code: kind
    for kind in (
        Kind("bad_request", 400, "The request cannot be read"),
        Kind("caller_unauthorized", 401, "The caller is not known"),
        Kind("not_allowed", 403, "The route does not allow this"),
        Kind("no_route", 404, "No route for this request"),
        Kind("method_not_allowed", 405, "Method not allowed"),
        Kind("request_timeout", 408, "The request did not arrive in time"),
        Kind("body_too_large", 413, "The body is over the route's limit"),
        Kind("host_not_allowed", 421, "This Host is not served here"),
        Kind("headers_too_large", 431, "The head of the request is too large"),
        Kind("internal", 500, "A fault in Paraf"),
        Kind("upgrade_refused", 501, "Protocol upgrades are not supported"),
        Kind("token_unavailable", 502, "No access token could be had"),
        Kind("upstream_unreachable", 502, "The provider cannot be reached"),
        Kind("upstream_tls", 502, "The provider's TLS certificate or handshake was not accepted"),
        Kind("upstream_protocol", 502, "The provider did not answer in proper HTTP"),
        Kind("overloaded", 503, "The route is at its limit"),
        Kind("circuit_open", 503, "The provider keeps failing and is left alone for a moment"),
        Kind("store_unavailable", 503, "The store of tokens cannot be reached"),
        Kind("shutting_down", 503, "Paraf is shutting down"),
        Kind("upstream_timeout", 504, "The provider did not answer in time"),
        Kind("loop", 508, "The upstream leads back to Paraf"),
    )
}


class ProxyError(Exception):
    """A request that Paraf answers itself.

    `code` is a key of KINDS. `retry_after` in seconds. `provider_status` and `provider_code` (digits only)
    are given when a provider's answer led to it. `status` stands instead of the kind's own.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        sent: Sent = "no",
        retry_after: float | None = None,
        provider_status: int | None = None,
        provider_code: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = KINDS[code]
        self.status = status or self.kind.status
        self.detail = detail
        self.sent: Sent = sent
        self.retry_after = retry_after
        self.provider_status = provider_status
        self.provider_code = provider_code

    @property
    def code(self) -> str:
        return self.kind.code


FaultKind = Literal["rejected", "malformed", "token_expired_on_arrival", "upstream", "timeout"]


class TokenFault(Exception):
    """A token call that gave no token. Callers get `token_unavailable` of it; `retry_after` in seconds."""

    def __init__(
        self,
        kind: FaultKind,
        *,
        retry_after: float | None = None,
        provider_status: int | None = None,
        provider_code: str | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind: FaultKind = kind
        self.retry_after = retry_after
        self.provider_status = provider_status
        self.provider_code = provider_code

    @property
    def words(self) -> str:
        """The kind, with what the provider answered, if it did."""
        answered = f" (status {self.provider_status}, code {self.provider_code})" if self.provider_status else ""
        return f"{self.kind}{answered}"


class TokenSpared(Exception):
    """No token was asked for: the account is exclusive, and this process is not to end the live one."""


class StoreFault(Exception):
    """A store of tokens gave no answer. Callers who need a token get `store_unavailable` of it."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing wrong in a file: where it stands, where it belongs in the configuration, and what to do.

    `line` and `column` count from 1; `path` is dotted, as in `routes.doku.prefix`.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    severity: Literal["error", "warning"] = "error"

    @property
    def words(self) -> str:
        return f"warning: {self.message}" if self.severity == "warning" else self.message

    @property
    def members(self) -> dict[str, str | int]:
        """For machines: `check --format json` is a list of these."""
        return {"file": self.file, "line": self.line, "column": self.column, "path": self.path, "message": self.words}

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.path}: {self.words}"


class ConfigError(Exception):
    """Configuration that cannot be run: every finding at once. Exit code 78."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


class StartError(Exception):
    """The configuration is good and Paraf cannot run all the same: an address in use, a missing part. Exit code 1."""
