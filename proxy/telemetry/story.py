"""What is to be told of one request: filled on its way, told once at its end."""

from dataclasses import dataclass, field
from typing import Literal

from proxy.errors import Sent
from proxy.model import Attempt
from proxy.telemetry.traceparent import Trace

Outcome = Literal["forwarded", "healed", "refused", "error", "abandoned"]
Phase = Literal["token", "sign", "upstream", "total"]
Stage = Literal["hold", "queue", "token", "sign", "upstream"]
PHASES: tuple[Phase, ...] = ("token", "sign", "upstream", "total")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is kept of a refused request where the route asks for it. `target` without its values."""

    target: str
    findings: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Story:
    """One request from its head to the last byte of its answer.

    `started` and the phases `token` to `total` in seconds of the monotonic clock; a phase of 0 did not come. `status`
    is the one the caller got, 0 when none. Slots, for what a class shadows is dear to read and to write (measured).
    """

    request_id: str
    method: str
    started: float
    generation: int = 1
    """Of the configuration that it was served by."""
    on_way: bool = False
    """It was handed to the configuration of its `generation`, which is in use until it ends."""
    route: str = "none"
    external_id: str | None = None
    """Set when Paraf made it: the caller is told."""
    stage: Stage = "hold"
    """What the request is waiting for."""
    token: float = 0.0
    sign: float = 0.0
    upstream: float = 0.0
    total: float = 0.0
    ended_ms: int = 0
    """When it ended: wall clock, epoch milliseconds."""
    trace: Trace | None = None
    """That of the caller, if it sent one; or with a span of ours."""
    caller: str | None = None
    """Who called, by the name in the configuration, where the route asks for a token."""
    status: int = 0
    outcome: Outcome = "error"
    error: str | None = None
    """Our own error code, when the answer was ours."""
    detail: str | None = None
    """Our own words to it."""
    provider_status: int | None = None
    provider_code: str | None = None
    code_class: str | None = None
    refusal: Refusal | None = None
    """Of the newest answer."""
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def phases(self) -> dict[Phase, float]:
        """Those that came."""
        return {phase: seconds for phase in PHASES if (seconds := getattr(self, phase))}

    @property
    def sendings(self) -> int:
        """Attempts of which a byte was written; a connect that failed is none."""
        return len([attempt for attempt in self.attempts if attempt.sent == "maybe"])

    @property
    def sent(self) -> Sent:
        return "maybe" if self.sendings else "no"

    def follow(self, trace: Trace | None) -> None:
        """The caller's."""
        self.trace = trace

    def understood(self, code: str | None, code_class: str) -> None:
        """What the provider's newest answer says."""
        self.provider_code, self.code_class = code, code_class
