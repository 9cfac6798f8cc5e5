"""Profiles from files: the bundled ones, what a file comes to, and that every mistake in one is found in its place."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_profiles import BANK, NOW, catalogue, exchange, findings, profile, send, signer

from proxy.catalogue import Catalogue
from proxy.errors import ConfigError
from proxy.signing.profile import CODE_CLASSES

HERE = "§"
"""Stands in a text where a finding is wanted; it is no part of the file."""

FULL = (
    BANK
    + """\
let:
  digest: "{body|sha256|hex}"
  line:
    by_method: {POST: "{body|hex}", other: ""}
token:
  call: POST /token
  headers: {X-KEY: "{client_id}"}
  json: {grant: client_credentials, who: ["{client_id}"]}
  signatures:
    - {header: X-TOKEN-SIG, string: "{client_id}|{timestamp}", algorithm: rsa-sha256, key: private_key}
  answer:
    token: data.token
    lifetime: data.life
    default_lifetime: 900s
    success: {code: "200*"}
rules:
  - {call: "GET /v1/free/**", scheme: plain}
refused:
  - {status: 401, code: "401??01"}
codes:
  field: code
  classes: {token: ["401??01"]}
callbacks:
  told: {header: X-SIG, string: "{header.X-TIME}:{body}", algorithm: hmac-sha512, key: "{client_secret}"}
compare:
  call: POST /sign
  environments: [sandbox]
  json: {path: "{endpoint}"}
  answer: data.signature
external_id: {header: X-ID, format: digits}
constants: {partner_id: "{client_id}"}
"""
)


def marked(text):
    """The text without its mark, and where the mark stood."""
    before, mark, after = text.partition(HERE)
    assert mark
    assert HERE not in after
    return before + after, (before.count("\n") + 1, len(before) - before.rfind("\n"))


def changed(text, before, after):
    assert text.count(before) == 1, before
    return text.replace(before, after)


def test_the_full_profile_is_good(tmp_path):
    own = profile(tmp_path, FULL)
    assert own.name == "mine"
    assert own.environments["sandbox"].token == own.environments["sandbox"].api
    assert (own.token.endpoint.method, own.token.endpoint.target) == ("POST", "/token")
    assert own.zone == "+07:00"


@pytest.mark.parametrize("name", Catalogue().names)
def test_bundled_profiles(name):
    own = Catalogue().profile(name)
    assert own.name == name
    assert own.docs.startswith("https://")
    assert set(own.code_classes) <= set(CODE_CLASSES)
    assert own.switches["signature"] in own.schemes


def test_what_a_profile_need_not_say(tmp_path):
    own = profile(tmp_path, BANK)
    said = {name: own.switches[name] for name in ("forward", "invalid_json", "strip_base_path", "method_case")}
    assert said == {"forward": "canonical", "invalid_json": "raw", "strip_base_path": False, "method_case": "upper"}
    assert (own.switches["token_separator"], own.switches["digest_for"]) == ("|", "by_method")
    assert own.token is own.compare is own.switches["external_id"] is None


@pytest.mark.parametrize(
    "name", ["title", "docs", "credentials", "timestamp", "canonical", "sign_path", "signature", "schemes"]
)
def test_what_it_must_say(tmp_path, name):
    lines = BANK.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
    found = findings(tmp_path, "".join(lines[:start] + lines[end:]))
    assert [(each.line, each.column) for each in found] == [(1, 1)]
    assert found[0].message.startswith(f"{name} is missing")


# Places in FULL that are changed below.
API = '{api: "https://sandbox.bank.example"}'
ID = "external_id: {header: X-ID, format: digits}"
JSON = 'json: {grant: client_credentials, who: ["{client_id}"]}'
CALL = "call: POST /token"
HEADERS = 'headers: {X-KEY: "{client_id}"}'
RSA = "algorithm: rsa-sha256, key: private_key"
SET = '{X-TIME: "{timestamp}"}'
DIGEST = 'digest: "{body|sha256|hex}"'
BY_METHOD = 'by_method: {POST: "{body|hex}", other: ""}'
KEY = 'key: "{client_secret}"\nlet'
TIME = "timestamp: iso_offset_s"
STRING = 'string: "{client_id}|{timestamp}"'
CONSTANTS = 'constants: {partner_id: "{client_id}"}'
TOLD = 'string: "{header.X-TIME}:{body}"'

SIG = "schemes.plain.signatures.0"

# What stands in FULL, what an author writes instead, the path of the finding and words of its message.
MISTAKES = [
    # Words and shapes.
    ("title: Bank", "§titel: Bank", "titel", "did you mean title?"),
    ("title: Bank", "title: §[Bank]", "title", "some text"),
    (API, "{api: §sandbox.bank.example}", "environments.sandbox.api", "must be a URL"),
    (API, "§{token: https://t.bank.example}", "environments.sandbox", "api is missing"),
    (API, "{api: https://a.example, confirmed: §perhaps}", "environments.sandbox.confirmed", "true or false"),
    ("client_id: text", "client_id: §plain", "credentials.client_id", "known: base64, hex, pem, text"),
    ("client_id: text", "client_id: text, §Third-Secret: text", "credentials.Third-Secret", "the name must be"),
    (TIME, "timestamp: §iso_offset", "timestamp", "known: iso_offset_s"),
    (TIME, "timestamp: §strftime:%s", "timestamp", "%Y"),
    (TIME, "timestamp: iso_offset_s\nzone: §Asia/Jakarta", "zone", "+07:00"),
    (TIME, "timestamp: iso_offset_s\nstrip_prefix: §nicepay", "strip_prefix", "a path such as"),
    (TIME, "timestamp: iso_offset_s\nstrip_prefix: §/nicepay/", "strip_prefix", "a path such as"),
    (TIME, "timestamp: iso_offset_s\nforward: §orignal", "forward", "did you mean original?"),
    (TIME, "timestamp: iso_offset_s\n§string: x", "string", "unknown key"),
    (TIME, "timestamp: iso_offset_s\ntoken_separator: §'||'", "token_separator", "one character"),
    ("canonical: minify", "canonical: §minified", "canonical", "did you mean minify?"),
    ("sign_path: path", "sign_path: §query", "sign_path", "sorted_query"),
    ("signature: plain", "signature: §plane", "signature", "did you mean plain?"),
    ("token: false", "token: §no", "schemes.plain.token", "true or false"),
    ("algorithm: hmac-sha256\n", "algorithm: §hmac-sha265\n", f"{SIG}.algorithm", "did you mean hmac-sha256?"),
    ("header: X-SIG\n", "header: X-SIG\n        encoding: §base64\n", f"{SIG}.encoding", "did you mean b64?"),
    ("header: X-SIG\n", "header: §X SIG\n", f"{SIG}.header", "a header name"),
    ("- header: X-SIG\n        ", "- §", "schemes.plain.signatures.0", "header is missing"),
    (ID, "external_id: {header: X-ID, format: §digit}", "external_id.format", "did you mean digits?"),
    (ID, "external_id: {header: X-ID, length: §37}", "external_id.length", "8 to 36"),
    (ID, f"external_id: {{header: X-ID, prefix: §\"{'9' * 29}\"}}", "external_id.prefix", "at most 28"),
    # The token call.
    (CALL, "call: §POST token", "token.call", "as it is"),
    (CALL, "call: §FETCH /token", "token.call", "method"),
    (CALL, "call: §'* /token'", "token.call", "method"),
    (CALL, "call: §POST /token/{client_id}", "token.call", "as it is"),
    (CALL, "call: §POST /a/../token", "token.call", "segment"),
    (JSON, 'form: {grant: §"{client}"}', "token.form.grant", "did you mean client_id?"),
    ("token:\n  call", "token:\n  §form: {grant: x}\n  call", "token", "json or form, not both"),
    ("default_lifetime: 900s", "default_lifetime: §900", "token.answer.default_lifetime", "duration"),
    ("token: data.token", "token: §data..token", "token.answer.token", "dotted path"),
    ('success: {code: "200*"}', 'success: {§data.: "200*"}', "token.answer.success.data.", "dotted path"),
    (JSON, 'json: {who: [a, §"{client_id"]}', "token.json.who.1", "a lone {"),
    (JSON, 'json: {who: [a, {b: §"{client_id|b46}"}]}', "token.json.who.1.b", "did you mean b64?"),
    (JSON, 'json: {who: [a, §"{clientid}"]}', "token.json.who.1", "did you mean client_id?"),
    (JSON, 'json: {who: §"{client_id|sha256}"}', "token.json.who", "hex or b64"),
    (HEADERS, 'headers: {X-KEY: §"{endpoint}"}', "token.headers.X-KEY", "{endpoint}"),
    (HEADERS, 'headers: {X-KEY: §"{header.X-TIME}"}', "token.headers.X-KEY", "signature only"),
    (HEADERS, 'headers: {X-KEY: §"{digest}"}', "token.headers.X-KEY", "{digest}"),
    (HEADERS, 'headers: {X-KEY: §"{line}"}', "token.headers.X-KEY", "{line}"),
    (HEADERS, "headers: {X-KEY: a, §x_key: b}", "token.headers.x_key", "X-KEY"),
    (HEADERS, "headers: {§X-TOKEN-SIG: a}", "token.headers.X-TOKEN-SIG", "signature"),
    (HEADERS, "headers: {§Content-Length: 2}", "token.headers.Content-Length", "HTTP"),
    (STRING, 'string: §"{client_id}|{token}"', "token.signatures.0.string", "{token}"),
    (STRING, 'string: §"{header.X-KEY}"', "token.signatures.0.string", "signature only"),
    (RSA, "algorithm: rsa-sha256, key: §private", "token.signatures.0.key", "kind pem"),
    (RSA, "algorithm: rsa-sha256, key: §client_id", "token.signatures.0.key", "kind pem"),
    (RSA, 'algorithm: rsa-sha256, key: §"{private_key}"', "token.signatures.0.key", "without braces"),
    (RSA, 'algorithm: hmac-sha256, key: §"{private_key}"', "token.signatures.0.key", "{private_key}"),
    # Templates and names.
    (SET, '{X-TIME: §"{timestmp}"}', "schemes.plain.set.X-TIME", "did you mean timestamp?"),
    (SET, '{X-TIME: §"{timestamp|md5}"}', "schemes.plain.set.X-TIME", "unknown filter"),
    (SET, '{X-TIME: §"{header.Origin}"}', "schemes.plain.set.X-TIME", "signature only"),
    ('string: "{method}:{endpoint}', 'string: §"{header.Host}:', f"{SIG}.string", "HTTP's own"),
    (SET, '{X-TIME: §"{body|sha256}"}', "schemes.plain.set.X-TIME", "hex or b64"),
    (SET, '{X-TIME: §"{body}"}', "schemes.plain.set.X-TIME", "hex or b64"),
    (SET, '{X-TIME: §"{raw_body|upper}"}', "schemes.plain.set.X-TIME", "hex or b64"),
    (SET, '{X-TIME: §"a\\nb"}', "schemes.plain.set.X-TIME", "one line"),
    (SET, '{X-TIME: §"{token}"}', "schemes.plain.set.X-TIME", "{token}"),
    (SET, "{X-TIME: a, §x-time: b}", "schemes.plain.set.x-time", "X-TIME"),
    (SET, "{X-TIME: a, §X_TIME: b}", "schemes.plain.set.X_TIME", "X-TIME"),
    (SET, "{X-TIME: a}\n    default: {§X-Time: b}", "schemes.plain.default.X-Time", "X-TIME"),
    (SET, "{X-TIME: a}\n    default: {§X-Id: b}", "schemes.plain.default.X-Id", "external_id"),
    (SET, "{§X-SIG: a}", "schemes.plain.set.X-SIG", "signature"),
    (SET, "{§Host: a}", "schemes.plain.set.Host", "HTTP"),
    (SET, "{§Transfer-Encoding: chunked}", "schemes.plain.set.Transfer-Encoding", "HTTP"),
    (SET, '{X-TIME: a}\n    drop: [§"X Y"]', "schemes.plain.drop.0", "a header name"),
    (KEY, 'key: §"{client_secert}"\nlet', f"{SIG}.key", "did you mean client_secret?"),
    (KEY, 'key: §"{client_secret"\nlet', f"{SIG}.key", "a lone {"),
    ('string: "{method}:{endpoint}', 'string: §"{method}:{bdy}', f"{SIG}.string", "did you mean body?"),
    ('string: "{method}:{endpoint}', 'string: §"{authorization}:', f"{SIG}.string", "{authorization}"),
    (DIGEST, 'digest: §"{line|sha256|hex}"', "let.digest", "{line}"),
    (DIGEST, 'digest: §"{digest}"', "let.digest", "{digest}"),
    (DIGEST, 'digest: §"{header.X-TIME}"', "let.digest", "signature only"),
    (DIGEST, '§body: "{body|sha256|hex}"', "let.body", "a name that Paraf gives"),
    (DIGEST, '§client_id: "x"', "let.client_id", "credential"),
    (DIGEST, '§Digest: "x"', "let.Digest", "the name must be"),
    (CONSTANTS, 'constants: {partner_id: §"{timestamp}"}', "constants.partner_id", "{timestamp}"),
    (CONSTANTS, "constants: {§token: x}", "constants.token", "a name that Paraf gives"),
    (DIGEST, '§partner_id: "x"', "let.partner_id", "constants"),
    ("client_secret: text", "client_secret: text, §method: text", "credentials.method", "a name that Paraf gives"),
    (BY_METHOD, '§by_method: {POST: "{body|hex}"}', "let.line", "`other`"),
    (BY_METHOD, 'by_method: {§post: "{body|hex}", other: ""}', "let.line.by_method.post", "POST"),
    (BY_METHOD, "§by_body: {present: x}", "let.line", "present and empty"),
    (BY_METHOD, "§by_body: {present: x, empty: y}", "let.line", "by_method"),
    (f"line:\n    {BY_METHOD}", "line: §{}", "let.line", "by_method"),
    # Schemes, rules, refusals.
    ("token: false", "§token: false\n    unsigned: true", "schemes.plain", "unsigned"),
    ("scheme: plain}", "scheme: §plan}", "rules.0.scheme", "did you mean plain?"),
    ('call: "GET /v1/free/**"', 'call: §"get /v1/free"', "rules.0.call", "method"),
    ('call: "GET /v1/free/**"', 'call: §"GET /v1/free**"', "rules.0.call", "whole segments"),
    ('{status: 401, code: "401??01"}', '{status: §40, code: "401??01"}', "refused.0.status", "200 to 599"),
    ('{status: 401, code: "401??01"}', "§{status: 200, field: status}", "refused.0", "field and value"),
    ("classes: {token:", "classes: {§tokens:", "codes.classes.tokens", "one of token, signature"),
    ('{token: ["401??01"]}', "{token: [§{value: x}]}", "codes.classes.token.0", "field and value"),
    ('{token: ["401??01"]}', "{token: [§{}]}", "codes.classes.token.0", "says of no answer"),
    ('{token: ["401??01"]}', "{token: [{status: §40}]}", "codes.classes.token.0.status", "200 to 599"),
    ("environments: [sandbox]", "environments: [§sandbx]", "compare.environments.0", "did you mean sandbox?"),
    ('json: {path: "{endpoint}"}', 'json: {path: §"{external_id}"}', "compare.json.path", "{external_id}"),
    ("call: POST /sign", 'call: §"* /sign"', "compare.call", "method"),
    (TOLD, 'string: §"{timestamp}"', "callbacks.told.string", "{timestamp}"),
    (TOLD, 'string: §"{external_id}"', "callbacks.told.string", "{external_id}"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "path", "words"), MISTAKES)
def test_a_mistake_is_found_in_its_place(tmp_path, before, after, path, words):
    text, place = marked(changed(FULL, before, after))
    found = findings(tmp_path, text)
    assert [(each.path, each.line, each.column) for each in found] == [(path, *place)], found
    assert words in found[0].message
    assert found[0].file.endswith("mine.yaml")


def test_everything_is_found_at_once(tmp_path):
    text = changed(
        changed(changed(FULL, '{timestamp}"}\n    sig', '{stamp}"}\n    sig'), "scheme: plain}", "scheme: plan}"),
        "key: private_key}",
        "key: private}",
    )
    assert [each.path for each in findings(tmp_path, text)] == [
        "schemes.plain.set.X-TIME",
        "token.signatures.0.key",
        "rules.0.scheme",
    ]


@pytest.mark.parametrize(
    ("before", "after", "path", "words"),
    [
        ("    token: false\n", "    token: true\n", "schemes.plain.token", "no section token"),
        (
            "sign_path: path\n",
            "sign_path: path\nrefused: [{status: 401, code: x}]\n",
            "refused.0.code",
            "no codes.field",
        ),
        (
            "sign_path: path\n",
            'sign_path: path\ncodes: {classes: {token: ["401"]}}\n',
            "codes.classes.token.0",
            "no codes.field",
        ),
        (
            "sign_path: path\n",
            "sign_path: path\ndigest_for: by_body\nlet: {d: {by_method: {other: x}}}\n",
            "let.d",
            "by_body",
        ),
    ],
)
def test_what_another_section_must_say(tmp_path, before, after, path, words):
    found = findings(tmp_path, changed(BANK, before, after))
    assert [each.path for each in found] == [path]
    assert words in found[0].message


def test_a_table_by_body(tmp_path):
    text = BANK + "digest_for: by_body\nlet: {d: {by_body: {present: x, empty: y}}}\n"
    assert profile(tmp_path, text).switches["digest_for"] == "by_body"


# Profiles that extend another.

CHILD = "extends: parent\ntitle: Child\ndocs: https://child.example\n"


def test_a_child_is_its_parent_but_for_what_it_says(tmp_path):
    text = CHILD + "schemes:\n  plain: {set: {X-MORE: a}}\nexternal_id: ~\nrefused: []\n"
    parent, own = (catalogue(tmp_path, parent=FULL, mine=text).profile(name) for name in ("parent", "mine"))
    assert (own.title, own.docs, own.zone) == ("Child", "https://child.example", "+07:00")
    assert list(own.schemes["plain"].set) == ["X-TIME", "X-MORE"]
    assert [each.header for each in own.schemes["plain"].signatures] == ["X-SIG"]
    assert (own.switches["external_id"], own.refused) == (None, ())
    assert parent.switches["external_id"]
    assert parent.refused


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ('schemes: {plain: {set: {X-MORE: §"{stamp}"}}}', "schemes.plain.set.X-MORE", "did you mean timestamp?"),
        ("schemes: {plain: {set: {§x-time: a}}}", "schemes.plain.set.x-time", "X-TIME"),
        ("schemes: {plain: {§tokn: true}}", "schemes.plain.tokn", "did you mean token?"),
        ("signature: §plan", "signature", "did you mean plain?"),
        ("schemes: {other: §{token: false}}", "schemes.other", "signatures"),
        ("let: {§target: x}", "let.target", "a name that Paraf gives a meaning itself"),
        ('let: {digest: §"{line}"}', "let.digest", "{line}"),
        ("token: {answer: {default_lifetime: §900}}", "token.answer.default_lifetime", "duration"),
        ("rules: [{call: GET /x, scheme: §plan}]", "rules.0.scheme", "did you mean plain?"),
        ("environments: {sandbox: {api: §ftp://x}}", "environments.sandbox.api", "must be a URL"),
    ],
)
def test_a_childs_mistake_is_in_the_childs_file(tmp_path, text, path, words):
    text, place = marked(CHILD + text)
    found = findings(tmp_path, text, parent=FULL)
    assert [(each.path, each.line, each.column) for each in found] == [(path, *place)], found
    assert found[0].file == str(tmp_path / "mine.yaml")
    assert words in found[0].message


def test_a_parents_mistake_is_in_the_parents_file(tmp_path):
    text, place = marked(changed(FULL, '{X-TIME: "{timestamp}"}', '{X-TIME: §"{stamp}"}'))
    found = findings(tmp_path, CHILD, parent=text)
    assert [(each.file, each.line, each.column) for each in found] == [(str(tmp_path / "parent.yaml"), *place)]


def test_what_a_child_takes_away_is_missed_where_it_is_used(tmp_path):
    text = CHILD + "credentials: {client_secret: ~}\n"
    found = findings(tmp_path, text, parent=FULL)
    assert {(each.file, each.path) for each in found} == {
        (str(tmp_path / "parent.yaml"), "schemes.plain.signatures.0.key"),
        (str(tmp_path / "parent.yaml"), "callbacks.told.key"),
    }


@pytest.mark.parametrize("line", [number for number, _ in enumerate(FULL.splitlines())])
def test_a_file_with_a_line_less_is_a_profile_or_has_findings(tmp_path, line):
    lines = FULL.splitlines(keepends=True)
    usable_or_found(tmp_path, "".join(lines[:line] + lines[line + 1 :]))


PIECES = st.sampled_from(
    """{ } {{ [ ] : ~ | , - "" null true 7 -1 {token} {header.X-TIME} {body|sha256} {now|epoch_s} {digest} {client_id}
    X-TIME X-SIG Host plain other private_key client_id client_secret hmac-sha256 rsa-sha256 by_body unsigned""".split()
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 200), PIECES), min_size=1, max_size=3))
def test_a_changed_file_is_a_profile_or_has_findings(tmp_path, changes):
    words = re.split(r"([ \n{}\[\],\"]+)", FULL)
    for at, piece in changes:
        words[at % len(words) // 2 * 2] = piece
    usable_or_found(tmp_path, "".join(words))


def usable_or_found(folder, text):
    """What is taken for a profile can sign, whatever it says."""
    try:
        own = profile(folder, text)
    except ConfigError:
        return
    texts = {name: "s3cret" for name, kind in own.credentials.items() if kind != "pem"}
    keys = {name: PRETENDED for name, kind in own.credentials.items() if kind == "pem"}
    by = signer(own, "https://bank.example/base", texts)
    for method, body in (("POST", b'{"a": 1}'), ("GET", b"")):
        made = send(by, method, "/base/v1/free/x?y", body=body, external_id="7", keys=keys)
        assert sorted(set(made.header_names)) == sorted(made.header_names)
    if own.token:
        draft = exchange(own, "https://bank.example", texts).draft(NOW)
        draft.seal([demand.answer(keys) for demand in draft.demands])


class Pretended:
    """An RSA key that costs nothing."""

    def sign(self, data, padding, algorithm):
        return data[:1] * 8


PRETENDED = Pretended()
