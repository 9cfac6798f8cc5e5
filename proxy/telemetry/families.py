"""Every metric by its name: what kind it is, its labels, how those of several workers become one, and what it means."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

Labels = tuple[str, ...]
"""Label values, in the order of the metric's label names."""

Numbers = Mapping[str, Mapping[Labels, Sequence[float]]]
"""By metric, then by labels: the value, or of a histogram what fell into each bucket and, last, the sum.

Behind a value of which the latest counts stands its moment, on the monotonic clock that all processes share: the clock
of the day may be what is wrong.
"""

Merged = Literal["total", "present", "newest", "oldest", "worst", "latest", "same"]
"""How the numbers of several workers become one: see `merge.RULES`."""


class Family(NamedTuple):
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    merged: Merged
    meaning: str


FAMILIES: Final = {
    "paraf_requests_total": Family(
        "counter",
        ("route", "method", "status_class", "outcome"),
        "total",
        "Requests that came to their end. status_class is the caller's answer, none when there was none.",
    ),
    "paraf_request_duration_seconds": Family(
        "histogram",
        ("route", "phase"),
        "total",
        "Seconds of a request: waiting for a token, signing, waiting for the provider's answer, and in all.",
    ),
    "paraf_inflight_requests": Family("gauge", ("route",), "present", "Requests under way."),
    "paraf_attempts_total": Family(
        "counter",
        ("route", "reason"),
        "total",
        "Signed sendings to the provider: the first, one more after a refused token, or after a failed connect.",
    ),
    "paraf_provider_code_total": Family(
        "counter", ("route", "code_class"), "total", "Answers of the provider, by what the code in them means."
    ),
    "paraf_clock_skew_seconds": Family(
        "gauge",
        ("route",),
        "latest",
        "Seconds by which the provider's clock is ahead of this machine's, from the newest answer.",
    ),
    "paraf_circuit_state": Family(
        "gauge",
        ("route",),
        "worst",
        "Is the provider asked: 0 closed, as usual; 1 half-open, a probe is due or under way; 2 open, left alone.",
    ),
    "paraf_token_fetch_total": Family("counter", ("account", "result"), "total", "Token calls, by how they ended."),
    "paraf_token_expiry_timestamp_seconds": Family(
        "gauge", ("account",), "newest", "Unix time at which the token in use ends, as the provider said it."
    ),
    "paraf_token_last_success_timestamp_seconds": Family(
        "gauge", ("account",), "newest", "Unix time of the newest token call that gave a token."
    ),
    "paraf_token_conflicts_total": Family(
        "counter",
        ("account",),
        "total",
        "Tokens refused in the first half of their life right after another was: somebody else fetches too.",
    ),
    "paraf_store_errors_total": Family(
        "counter", ("store",), "total", "Times that the store of tokens gave no answer, or an error."
    ),
    "paraf_store_unreadable_total": Family(
        "counter",
        ("store",),
        "total",
        "Records of the store that were passed over: of another key or version, or damaged.",
    ),
    "paraf_shadow_total": Family(
        "counter",
        ("route", "result"),
        "total",
        "Requests of routes in shadow mode: whether the caller's own signature is the one that Paraf would send.",
    ),
    "paraf_config_last_reload_success_timestamp_seconds": Family(
        "gauge", (), "oldest", "Unix time at which the running configuration was loaded."
    ),
    "paraf_config_last_reload_failure_timestamp_seconds": Family(
        "gauge", (), "worst", "Unix time at which a reload was last refused; 0 for never."
    ),
    "paraf_build_info": Family("gauge", ("version", "python"), "same", "Versions of Paraf and Python; always 1."),
}
METRIC_NAMES: Final = tuple(FAMILIES)
