"""The status page: what is known, as one document. Pure, and complete without scripts or anything from elsewhere.

Everything that is shown is escaped; what provider and caller sent is not shown at all.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

Row = Mapping[str, Any]

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d6dbe1;--page:#f6f7f9;--card:#fff;
--good:#116b2f;--fair:#8a5200;--bad:#b3261e;--goodbg:#dff3e4;--fairbg:#fbeccf;--badbg:#fbe0dd}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a4adb8;--line:#343b44;--page:#14171b;--card:#1d2127;
--good:#7fdc9a;--fair:#f2bf6b;--bad:#ff9b92;--goodbg:#17351f;--fairbg:#3a2c10;--badbg:#421b18}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:78rem;padding:1.5rem;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:.5rem 1rem}
h1{font-size:1.6rem;margin:0}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.25rem 0}
.soft{color:var(--soft)}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.6rem}
.scroll:focus-visible{outline:2px solid currentColor}
table{border-collapse:collapse;width:100%}
th,td{padding:.5rem .75rem;text-align:left;vertical-align:top;border-top:1px solid var(--line)}
thead th{border-top:0;font-size:.85rem;color:var(--soft);font-weight:600;white-space:nowrap}
tbody th{font-weight:600}
td small,th small{display:block;color:var(--soft);font-weight:400}
time{white-space:nowrap}
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
.mark{display:inline-block;padding:0 .5rem;border-radius:1rem;font-size:.85rem;font-weight:600;white-space:nowrap}
.good{color:var(--good);background:var(--goodbg)}
.fair{color:var(--fair);background:var(--fairbg)}
.bad{color:var(--bad);background:var(--badbg)}
.note{border:1px solid var(--line);border-left:.3rem solid var(--bad);background:var(--card);border-radius:.4rem;
padding:.5rem .75rem;margin:1rem 0}
ul{margin:.25rem 0;padding-left:1.2rem}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
HTML: Final = "text/html; charset=utf-8"
_CIRCUIT: Final = {"closed": "good", "half-open": "fair", "open": "bad"}


def page(state: Mapping[str, Any]) -> bytes:
    """`state`: see `operations.status`; moments in epoch milliseconds."""
    body = "".join((*_head(state), *_routes(state), *_accounts(state["tokens"]), *_refusals(state)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Paraf: status</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    ).encode()


def _head(state: Mapping[str, Any]) -> Iterator[str]:
    configuration = state["configuration"]
    yield f"<header><h1>Paraf</h1>{_mark('good' if state['processes'] else 'bad', _served(state['processes']))}"
    yield f'<p class="soft">{_moment(state["now_ms"])}</p></header><main>'
    since = _moment(configuration["loaded_at_ms"])
    yield f"<p>Configuration {configuration['generation']}, in service since {since}.</p>"
    if configuration["refused"]:
        when, findings = _moment(configuration["refused_at_ms"]), configuration["refused"]
        yield f'<section class="note"><strong>A newer one was refused</strong> at {when}'
        yield f"<ul>{''.join(f'<li><code>{escape(words)}</code></li>' for words in findings)}</ul></section>"


def _served(processes: int) -> str:
    return f"{processes} {'process' if processes == 1 else 'processes'} ready" if processes else "nobody is ready"


def _routes(state: Mapping[str, Any]) -> Iterator[str]:
    last: dict[str, Row] = {}
    for row in state["refusals"]:
        last.setdefault(row["route"], row)
    rows = [_route(row, last.get(row["route"])) for row in state["routes"]]
    yield from _table(
        "Routes", ("Route", "Provider", "Circuit", "Clock", "In flight", "Requests", "Last refusal"), rows
    )


def _route(row: Row, refused: Row | None) -> str:
    where = escape(" ".join(filter(None, (row["provider"], row["environment"]))))
    return _cells(
        f"{escape(row['route'])}<small>account {escape(row['account'])}</small>",
        f"{where}<small><code>{escape(row['upstream'])}</code></small>",
        _mark(_CIRCUIT.get(row["circuit"], "bad"), row["circuit"]),
        _skew(row["skew_s"], row["window_s"]),
        f"{row['in_flight']:.0f}",
        _requests(row["requests"]),
        _last(row, refused),
    )


def _skew(seconds: float, window: float) -> str:
    """The provider's clock against ours."""
    far = abs(seconds)
    kind = "good" if far <= window / 2 else "fair" if far <= window else "bad"
    way = "even" if far < 1 else f"{far:.0f} s {'behind' if seconds > 0 else 'ahead'}"
    return f"{_mark(kind, way)}<small>window {window:.0f} s</small>"


def _requests(outcomes: Mapping[str, float]) -> str:
    told = [f"{name} {count:.0f}" for name, count in outcomes.items() if count]
    return "<br>".join(map(escape, told)) or '<span class="soft">none yet</span>'


def _last(row: Row, refused: Row | None) -> str:
    if refused:
        return f"{escape(_code(refused))}<small>{_at(refused)}</small>"
    words = "none kept" if row["remembers"] else "not kept: <code>refusals</code> is 0"
    return f'<span class="soft">{words}</span>'


def _at(row: Row) -> str:
    return f'<time datetime="{escape(row["at"])}">{escape(row["at"][:19].replace("T", " "))} UTC</time>'


def _code(row: Row) -> str:
    parts = (row["status"], row["provider_code"], row["code_class"])
    return " ".join(str(part) for part in parts if part)


def _accounts(tokens: Iterable[Row]) -> Iterator[str]:
    columns = ("Account", "Token", "Age", "Ends in", "Fingerprint", "Fetched by")
    yield from _table("Tokens", columns, [_account(row) for row in tokens])


def _account(row: Row) -> str:
    live = row["state"] == "live"
    alone = "<small>one live token at the provider</small>" if row["exclusive"] else ""
    return _cells(
        f"{escape(row['account'])}{alone}",
        _mark("good" if live else "bad" if "store" in row["state"] else "fair", row["state"]),
        _life(row.get("age_s")),
        _life(row.get("expires_in_s")),
        f"<code>{escape(row.get('fingerprint') or '')}</code>",
        f"<code>{escape(row.get('holder') or '')}</code>",
    )


def _life(seconds: float | None) -> str:
    if seconds is None:
        return '<span class="soft">unknown</span>'
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _refusals(state: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        _cells(
            f"{_at(row)}<small>{escape(row['route'])}</small>",
            f"<code>{escape(row['method'])} {escape(row['target'])}</code>",
            escape(_code(row)),
            f"<code>{escape(row['request_id'])}</code>",
            f"<ul>{''.join(f'<li>{escape(words)}</li>' for words in row['findings'])}</ul>",
        )
        for row in state["refusals"][:50]
    ]
    if rows or any(row["remembers"] for row in state["routes"]):
        yield from _table("Refused by a provider", ("When", "Request", "Answer", "Request id", "What is known"), rows)
    yield "</main>"


def _table(title: str, columns: Sequence[str], rows: Sequence[str]) -> Iterator[str]:
    name = title.lower().replace(" ", "-")
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    empty = f'<tr><td colspan="{len(columns)}" class="soft">none</td></tr>'
    yield f'<h2 id="{name}">{title}</h2><div class="scroll" role="region" aria-labelledby="{name}" tabindex="0">'
    yield f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows) or empty}</tbody></table></div>"


def _cells(first: str, *others: str) -> str:
    """Their content is HTML already."""
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{other}</td>" for other in others)}</tr>'


def _mark(kind: str, words: str) -> str:
    return f'<span class="mark {kind}">{escape(words)}</span>'


def _moment(ms: int) -> str:
    text = datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f'<time datetime="{text.replace(" ", "T")}Z">{text} UTC</time>'
