"""What can be asked of the control listener: a table, and what each row does."""

import time
from operator import itemgetter
from typing import Any, Final, get_args

from proxy.errors import ConfigError
from proxy.inbound.control import Asked, Controlled, Endpoint, Reply, problem, shown
from proxy.inbound.page import HEADERS, HTML, page
from proxy.telemetry.labels import CircuitState

_NO_ONE: Final = "no process is ready to answer: try again in a moment"
_EXCLUSIVE: Final = (
    "the provider lets this account have one live token: a new one ends the one in use, and whoever else uses that is "
    "refused until it fetches too. Ask with ?take_token=true if that is what you want"
)


async def quit_(controlled: Controlled, _asked: Asked) -> Reply:
    controlled.quit()
    return shown({"stopping": True}, 202)


async def reload(controlled: Controlled, _asked: Asked) -> Reply:
    try:
        await controlled.reloading.reload("control")
    except ConfigError as error:
        words = "the configuration was not taken: what ran before runs on"
        return problem(422, words, findings=[finding.members for finding in error.findings])
    return shown({"generation": controlled.reloading.status.generation})


async def refusals(controlled: Controlled, _asked: Asked) -> Reply:
    """Of every process, the newest first."""
    return shown({"refusals": _newest_first(await controlled.ask("refusals"))})


async def status(controlled: Controlled, _asked: Asked) -> Reply:
    """A page for people: routes and refusals of every process, tokens of one, since all share the store."""
    routes, told = await controlled.ask("routes"), await controlled.ask("refusals")
    configuration = controlled.reloading.status
    state = {
        "now_ms": time.time_ns() // 1_000_000,
        "processes": len(routes),
        "configuration": {
            "generation": configuration.generation,
            "loaded_at_ms": configuration.loaded_at_ms,
            "refused_at_ms": configuration.refused_at_ms,
            "refused": [str(finding) for finding in configuration.refused],
        },
        "routes": merged(routes),
        "tokens": next(iter(await controlled.ask("tokens", one=True)), []),
        "refusals": _newest_first(told),
    }
    return Reply(200, page(state), HTML, HEADERS)


def _newest_first(told: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return sorted((row for rows in told for row in rows), key=lambda row: str(row["at"]), reverse=True)


def merged(told: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several processes as those of one: sums, the latest look at the clock, the worst circuit."""
    found: dict[str, dict[str, Any]] = {}
    for row in (row for rows in told for row in rows):
        before = found.setdefault(row["route"], row)
        if before is not row:
            found[row["route"]] = _with(before, row)
    return list(found.values())


def _with(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    requests = {name: one["requests"].get(name, 0) + count for name, count in other["requests"].items()}
    latest = max(one, other, key=itemgetter("skew_at"))
    return {
        **one,
        "circuit": max(one["circuit"], other["circuit"], key=_CIRCUITS.index),
        "skew_s": latest["skew_s"],
        "skew_at": latest["skew_at"],
        "in_flight": one["in_flight"] + other["in_flight"],
        "requests": {**one["requests"], **requests},
    }


async def tokens(controlled: Controlled, _asked: Asked) -> Reply:
    answers = await controlled.ask("tokens", one=True)
    return shown({"tokens": answers[0]}) if answers else problem(503, _NO_ONE)


async def refresh(controlled: Controlled, asked: Asked) -> Reply:
    take = asked.query.get("take_token") == "true"
    return await _changed(controlled, "refresh", {"account": asked.names["account"], "take_token": take})


async def purge(controlled: Controlled, asked: Asked) -> Reply:
    return await _changed(controlled, "purge", {"account": asked.names["account"]})


async def _changed(controlled: Controlled, word: str, value: dict[str, Any]) -> Reply:
    """One process does it, since all share the store; then the others look into the store again."""
    answers = await controlled.ask(word, value, one=True)
    if not answers:
        return problem(503, _NO_ONE)
    answer = answers[0]
    if fault := answer.pop("fault", None):
        return problem(_STATUS[fault], _WORDS.get(fault) or answer["words"])
    await controlled.ask("look again", {**value, "known": answer.get("fingerprint")})
    return shown(answer)


_CIRCUITS: Final = get_args(CircuitState)
_STATUS: Final = {"unknown": 404, "exclusive": 409, "failed": 502, "store": 503}
_WORDS: Final = {"unknown": "no account has this name: GET /tokens lists them", "exclusive": _EXCLUSIVE}

ENDPOINTS: Final = (
    Endpoint("GET", "/", status),
    Endpoint("GET", "/debug/refusals", refusals),
    Endpoint("POST", "/-/reload", reload),
    Endpoint("POST", "/-/quit", quit_),
    Endpoint("GET", "/tokens", tokens),
    Endpoint("POST", "/tokens/{account}/refresh", refresh),
    Endpoint("POST", "/tokens/{account}/purge", purge),
)
"""A process answers the words asked here in `proxy.answers`."""
