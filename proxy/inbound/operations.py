"""What can be asked of the control listener: a table, and what each row does."""

from typing import Any, Final

from proxy.errors import ConfigError
from proxy.inbound.control import Asked, Controlled, Endpoint, Reply, problem, shown

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


_STATUS: Final = {"unknown": 404, "exclusive": 409, "failed": 502, "store": 503}
_WORDS: Final = {"unknown": "no account has this name: GET /tokens lists them", "exclusive": _EXCLUSIVE}

ENDPOINTS: Final = (
    Endpoint("POST", "/-/reload", reload),
    Endpoint("POST", "/-/quit", quit_),
    Endpoint("GET", "/tokens", tokens),
    Endpoint("POST", "/tokens/{account}/refresh", refresh),
    Endpoint("POST", "/tokens/{account}/purge", purge),
)
"""A process answers the words asked here in `proxy.answers`."""
