"""From settings to lanes: bases, hosts, accounts and credentials, and every finding of every route at once."""

import base64
import ssl
from pathlib import Path

import pytest
import trustme
from own_profiles import BANK
from vectors_read import vector_file

from proxy.errors import ConfigError
from proxy.generation import Generation, build
from proxy.settings import read_settings

HERE = "§"
"""Stands in a text where a finding is wanted; it is no part of the file."""

SECRETS = {
    "ID": "hunter2-id",
    "SECRET": "hunter2-secret",
    "OTHER": "hunter2-other",
    "KEY": vector_file("snap")["keys"]["rsa-pkcs8"]["pem"],
    "OTHER_KEY": vector_file("snap")["keys"]["rsa-pkcs1"]["pem"],
}
TEXTS = "client_id: {env: ID}, client_secret: {env: SECRET}"
ALL = f"{{{TEXTS}, private_key: {{env: KEY}}}}"
DOKU = f"provider: doku, environment: sandbox, credentials: {ALL}"
NONSNAP = f"provider: doku-nonsnap, environment: sandbox, credentials: {{{TEXTS}}}"
PAYMENT = f"provider: ifortepay-payment, environment: stage, credentials: {ALL}"
NETZME = f"provider: netzme, environment: stage, credentials: {{{TEXTS}}}"
KLIKOO = f"provider: klikoo, environment: stage, credentials: {ALL}"


def written(head="", **routes):
    """A configuration of these routes, each the inside of a flow mapping."""
    lines = [f"  {name.replace('_', '-')}: {{{text}}}\n" for name, text in routes.items()]
    return f"version: 1\n{head}routes:\n{''.join(lines)}"


def generation(folder, text, **environ) -> Generation:
    settings, _ = read_settings(text, "paraf.yaml", environ={})
    return build(settings, environ=SECRETS | environ, folder=folder)


def found(folder, text, **environ):
    with pytest.raises(ConfigError) as caught:
        generation(folder, text, **environ)
    assert "hunter2" not in f"{caught.value} {caught.value.findings!r}"
    return caught.value.findings


def one(folder, text, **environ):
    """The only finding, which must stand at the mark."""
    before, mark, after = text.partition(HERE)
    assert mark
    findings = found(folder, before + after, **environ)
    place = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert [(each.file, each.line, each.column, each.severity) for each in findings] == [
        ("paraf.yaml", *place, "error")
    ], findings
    return findings[0]


def test_a_lane(tmp_path):
    made = generation(tmp_path, written(doku=DOKU + ', prefix: /d, allow: ["GET /x"], timeouts: {token: 3s}'))
    lane = made.lanes["doku"]
    assert (lane.route.name, lane.route.prefix, lane.route.base.text) == ("doku", "/d", "https://api-sandbox.doku.com")
    assert (
        lane.exchange.url == lane.account.token_url == "https://api-sandbox.doku.com/authorization/v1/access-token/b2b"
    )
    assert (lane.account.name, lane.account.provider, lane.account.environment) == ("doku", "doku", "sandbox")
    assert (lane.account.client_id, lane.account.exclusive, lane.account.min_gap, lane.account.patience) == (
        "hunter2-id",
        False,
        1.0,
        3.0,
    )
    assert set(lane.keys) == {"private_key"}
    assert made.table.by_prefix("/d/x") is lane.route
    assert made.accounts == (lane.account,)
    assert made.fetcher(lane.account) is lane
    assert made.findings == ()


def test_exclusive_accounts_leave_more_between_fetches(tmp_path):
    account = generation(tmp_path, written(netzme=NETZME)).lanes["netzme"].account
    assert (account.exclusive, account.min_gap) == (True, 5.0)


def test_secrets_are_not_shown(tmp_path):
    made = generation(tmp_path, written(doku=DOKU, netzme=NETZME, nonsnap=NONSNAP))
    shown = repr(made)
    assert "hunter2-secret" not in shown
    assert "PRIVATE" not in shown


# Providers, environments and bases.


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (f"provider: §dokku, environment: sandbox, credentials: {ALL}", "no such profile (did you mean doku?)"),
        (f"provider: §bank, environment: sandbox, credentials: {ALL}", "known: doku, doku-nonsnap"),
        (f"provider: doku, environment: §sandbx, credentials: {ALL}", "did you mean sandbox?"),
        (f"provider: doku, environment: §stage, credentials: {ALL}", "known: production, sandbox"),
        (f"provider: doku, environment: §Sandbox, credentials: {ALL}", "did you mean sandbox?"),
        (f"provider: netzme-main, environment: §production, credentials: {{{TEXTS}}}", "known: stage"),
        (
            f"provider: klikoo, environment: §production, credentials: {ALL}",
            "upstream: https://pvpapi.klikoo.id/klikoo-b2b",
        ),
        (f"provider: snap, environment: §sandbox, credentials: {ALL}", "no such environment"),
    ],
)
def test_what_a_route_cannot_name(tmp_path, route, words):
    assert words in one(tmp_path, written(bank=route)).message


KLIKOO_TOKEN = "/v1/open-api/access-token"
BASES = [
    # Route, base, token URL.
    (DOKU, "https://api-sandbox.doku.com", "https://api-sandbox.doku.com/authorization/v1/access-token/b2b"),
    (PAYMENT, "https://api-stage.ifortepay.id", "https://kronos-stage.ifortepay.id/auth/merchants/v1.0/access-token/b2b"),
    (f"{PAYMENT}, upstream: http://127.0.0.1:9/g", "http://127.0.0.1:9/g", "http://127.0.0.1:9/g/auth/merchants/v1.0/access-token/b2b"),
    (f"{PAYMENT}, token_upstream: https://t.example", "https://api-stage.ifortepay.id", "https://t.example/auth/merchants/v1.0/access-token/b2b"),
    (f"{PAYMENT}, upstream: https://u.example, token_upstream: https://t.example/x", "https://u.example", "https://t.example/x/auth/merchants/v1.0/access-token/b2b"),
    (f"provider: snap, upstream: https://u.example, credentials: {ALL}", "https://u.example", "https://u.example/v1.0/access-token/b2b"),
    (KLIKOO.replace("stage", "production") + ", upstream: https://k.example/b", "https://k.example/b", f"https://k.example/b{KLIKOO_TOKEN}"),
    (KLIKOO, "https://pvpapi.stage.pvg.im/klikoo-b2b", f"https://pvpapi.stage.pvg.im/klikoo-b2b{KLIKOO_TOKEN}"),
    (f"{DOKU}, signature: asymmetric", "https://api-sandbox.doku.com", None),
    (NONSNAP, "https://api-sandbox.doku.com", None),
]  # fmt: skip


@pytest.mark.parametrize(("route", "base", "token"), BASES)
def test_bases(tmp_path, route, base, token):
    lane = generation(tmp_path, written(r=route)).lanes["r"]
    assert lane.route.base.text == base
    assert (lane.exchange.url if lane.exchange else None) == token


@pytest.mark.parametrize(
    "route",
    [
        f"{DOKU}, upstream: §https://api.doku.com",
        f"{DOKU}, upstream: §https://API.doku.com:443/x",
        f"{DOKU}, token_upstream: §https://api.doku.com",
        f"{PAYMENT}, upstream: §https://kronos.ifortepay.id",
        f"{PAYMENT}, token_upstream: §https://api.ifortepay.id",
        f"provider: klikoo, environment: stage, credentials: {ALL}, upstream: §https://pvpapi.klikoo.id",
    ],
)
def test_the_host_of_another_environment(tmp_path, route):
    assert "is the host of production" in one(tmp_path, written(r=route)).message


@pytest.mark.parametrize(
    "route",
    [
        f"{DOKU}, upstream: https://api-sandbox.doku.com/x",
        f"{PAYMENT}, upstream: https://kronos-stage.ifortepay.id",
        f"{DOKU}, upstream: https://gateway.example",
        f"provider: doku, upstream: https://api.doku.com, credentials: {ALL}",
    ],
)
def test_hosts_of_its_own_or_of_nobody(tmp_path, route):
    assert generation(tmp_path, written(r=route)).lanes["r"]


# Hosts that select a route.


def hosts(folder, **routes):
    made = generation(folder, written(**routes))
    return {name: sorted(lane.route.hosts) for name, lane in made.lanes.items()}


def test_default_hosts_are_the_environments(tmp_path):
    assert hosts(tmp_path, d=DOKU, p=PAYMENT, n=NETZME) == {
        "d": ["api-sandbox.doku.com"],
        "p": ["api-stage.ifortepay.id", "kronos-stage.ifortepay.id"],
        "n": ["tokoapi-stg.netzme.com"],
    }


def test_no_default_for_a_host_that_two_would_get(tmp_path):
    assert hosts(tmp_path, a=DOKU, b=NONSNAP, n=NETZME) == {"a": [], "b": [], "n": ["tokoapi-stg.netzme.com"]}


def test_a_written_host_is_nobody_elses_default(tmp_path):
    assert hosts(tmp_path, a=DOKU, b=f"{NONSNAP}, hosts: [api-sandbox.doku.com]") == {
        "a": [],
        "b": ["api-sandbox.doku.com"],
    }
    assert hosts(tmp_path, a=DOKU, b=f"{NONSNAP}, hosts: []") == {"a": ["api-sandbox.doku.com"], "b": []}
    assert hosts(tmp_path, a=f"{DOKU}, hosts: [Mine.Example]", b=NONSNAP) == {
        "a": ["mine.example"],
        "b": ["api-sandbox.doku.com"],
    }


def test_a_route_without_environment_has_no_default_host(tmp_path):
    assert hosts(tmp_path, a=f"provider: doku, upstream: https://api.doku.com, credentials: {ALL}") == {"a": []}


# Accounts.


def accounts(folder, **routes):
    made = generation(folder, written(**routes))
    assert {account.name for account in made.accounts} == {
        lane.account.name for lane in made.lanes.values() if lane.exchange
    }
    return {name: lane.account.name for name, lane in made.lanes.items()}


def test_routes_that_agree_share_an_account(tmp_path):
    assert accounts(tmp_path, a=DOKU, b=DOKU, c=f"{DOKU}, allow: [GET /x]") == {"a": "a", "b": "a", "c": "a"}


@pytest.mark.parametrize(
    "other",
    [
        DOKU.replace("sandbox", "production"),
        DOKU.replace("{env: ID}", "{env: OTHER}"),
        f"{DOKU}, token_upstream: https://t.example",
        DOKU.replace("provider: doku", "provider: snap").replace(
            "environment: sandbox", "upstream: https://api-sandbox.doku.com"
        ),
    ],
)
def test_routes_that_differ_do_not(tmp_path, other):
    assert accounts(tmp_path, a=DOKU, b=other) == {"a": "a", "b": "b"}


def test_routes_without_token_have_none_to_share(tmp_path):
    made = generation(tmp_path, written(a=f"{DOKU}, signature: asymmetric", b=NONSNAP, c=DOKU))
    assert [account.name for account in made.accounts] == ["c"]
    assert made.fetcher(made.lanes["c"].account).route.name == "c"


@pytest.mark.parametrize(("was", "now"), [("{env: SECRET}", "{env: OTHER}"), ("{env: KEY}", "{env: OTHER_KEY}")])
def test_different_secrets_under_one_account(tmp_path, was, now):
    other = DOKU.replace(was, now).replace("credentials: {", f"credentials: {HERE}{{")
    assert "other secrets than in route a" in one(tmp_path, written(a=DOKU, b=other)).message


def test_one_secret_in_two_places_is_one(tmp_path):
    (tmp_path / "secret").write_text("hunter2-secret\n")
    (tmp_path / "key.pem").write_text(SECRETS["KEY"])
    for name in ("secret", "key.pem"):
        (tmp_path / name).chmod(0o600)
    other = DOKU.replace("{env: SECRET}", "{file: secret}").replace("{env: KEY}", "{file: key.pem}")
    assert accounts(tmp_path, a=DOKU, b=other) == {"a": "a", "b": "a"}


# Credentials.


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (f"§{{{TEXTS}}}", "private_key is missing"),
        ("§{client_id: {env: ID}, private_key: {env: KEY}}", "client_secret is missing"),
        (f"{{{TEXTS}, private_key: §{{env: NONE}}}}", "environment variable NONE is not set"),
        (f"{{{TEXTS}, private_key: §{{env: EMPTY}}}}", "environment variable EMPTY is empty"),
        (f"{{{TEXTS}, private_key: §{{env: SECRET}}}}", "no private key can be read"),
        (f"{{{TEXTS}, private_key: §{{file: none.pem}}}}", "none.pem does not exist"),
        (f"{{{TEXTS}, private_key: §{{file: cut.pem}}}}", "END line is missing"),
        (f"{{{TEXTS}, private_key: §{{file: folder}}}}", "is a folder"),
        (f"{{{TEXTS}, private_key: {{env: KEY}}, §private_kee: {{env: KEY}}}}", "did you mean private_key?"),
        ("{client_id: {env: ID}, client_secret: §{env: LINES}, private_key: {env: KEY}}", "a line break"),
        ("{client_id: §{env: BAD_ID}, client_secret: {env: SECRET}, private_key: {env: KEY}}", "printable ASCII"),
        ("{client_id: §{file: id}, client_secret: {env: SECRET}, private_key: {env: KEY}}", "printable ASCII"),
    ],
)
def test_credentials(tmp_path, credentials, words):
    (tmp_path / "cut.pem").write_text(SECRETS["KEY"][:400])
    (tmp_path / "id").write_text("hunter2\nhunter2\n")
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("cut.pem", "id"):
        (tmp_path / name).chmod(0o600)
    route = f"provider: doku, environment: sandbox, credentials: {credentials}"
    assert words in one(tmp_path, written(doku=route), EMPTY="", BAD_ID="hunter2 \n", LINES="hunter2\n").message


def test_what_is_not_needed_is_not_asked_for(tmp_path):
    key = "client_id: {env: ID}, private_key: {env: KEY}"
    assert generation(
        tmp_path, written(a=f"provider: doku, environment: sandbox, signature: asymmetric, credentials: {{{key}}}")
    )
    unread = f"{{{key}, client_secret: {{env: NONE}}}}"
    assert generation(
        tmp_path, written(a=f"provider: doku, environment: sandbox, signature: asymmetric, credentials: {unread}")
    )


@pytest.mark.parametrize(
    "switches",
    [
        'string: "{client_secret}"',
        'headers: {set: {X-Api-Key: "{client_secret}"}}',
        'headers: {default: {X-Api-Key: "{client_secret|hex}"}}',
    ],
)
def test_what_a_routes_own_templates_mention_is_needed(tmp_path, switches):
    route = f"provider: doku, environment: sandbox, signature: asymmetric, {switches}"
    missing = f"{route}, credentials: §{{client_id: {{env: ID}}, private_key: {{env: KEY}}}}"
    assert "client_secret is missing" in one(tmp_path, written(a=missing)).message
    made = generation(tmp_path, written(a=f"{route}, credentials: {ALL}")).lanes["a"]
    call = made.signer.admit("POST", "/x", (), (), b"")
    draft = made.signer.draft(call, None, 0, "7")
    assert (
        "hunter2-secret" in f"{draft.request.headers} {draft.demands[0].message}"
        or "68756e746572322d736563726574" in str(draft.request.headers)
    )


def test_warnings_do_not_stop(tmp_path):
    (tmp_path / "secret").write_text("hunter2-secret\n")
    (tmp_path / "secret").chmod(0o644)
    text = written(doku=DOKU.replace("{env: SECRET}", "{file: secret}"))
    (warning,) = generation(tmp_path, text).findings
    assert (warning.severity, warning.path, warning.line) == ("warning", "routes.doku.credentials.client_secret", 3)
    assert "can be read by others" in warning.message
    with pytest.raises(ConfigError):
        generation(tmp_path, "strict_permissions: true\n" + text)


@pytest.mark.parametrize(("room", "fits"), [("2MiB", True), ("1MiB", False)])
def test_a_body_of_the_largest_size_must_have_room(tmp_path, room, fits):
    text = written(f"bodies: {room}\n", doku=f"{DOKU}, limits: {{body: 2MiB}}")
    if fits:
        assert generation(tmp_path, text).findings == ()
    else:
        (finding,) = found(tmp_path, text)
        assert finding.path == "routes.doku.limits.body"
        assert "`bodies`" in finding.message


# Kinds of credentials, in profiles of the operator's own.

BINARY = BANK.replace("client_secret: text", "client_secret: {kind}").replace("private_key: pem", "more: text")


def own(folder: Path, text, name="bank"):
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / f"{name}.yaml").write_text(text)
    return "profiles: [profiles]\n"


BANK_ROUTE = f"provider: bank, environment: sandbox, credentials: {{{TEXTS}}}"


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("text", "aGk="),
        ("base64", base64.b64encode(b"\x00\xffkey").decode()),
        ("base64", " AP9r\nZXk= \n"),
        ("hex", "00FF6b6579"),
        ("hex", "00 ff 6b 65 79\n"),
    ],
)
def test_kinds(tmp_path, kind, secret):
    made = generation(
        tmp_path,
        written(own(tmp_path, BINARY.replace("{kind}", kind)), a=BANK_ROUTE),
        SECRET=secret,
    )
    signer = made.lanes["a"].signer
    draft = signer.draft(signer.admit("POST", "/x", (), (), b""), None, 0, None)
    assert draft.demands[0].key == (secret.encode() if kind == "text" else b"\x00\xffkey")


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("base64", "hunter2!"),
        ("base64", "hunter2"),
        ("base64", "aGk"),
        ("base64", "é"),
        ("hex", "hunter2"),
        ("hex", "abc"),
        ("hex", "\uff10\uff11"),
    ],
)
def test_a_secret_that_is_not_of_its_kind(tmp_path, kind, secret):
    head = own(tmp_path, BINARY.replace("{kind}", kind))
    text = written(head, a=BANK_ROUTE.replace("client_secret: {", "client_secret: §{"))
    assert f"is not {kind}" in one(tmp_path, text, SECRET=secret).message


def test_a_provider_without_client_id(tmp_path):
    text = BANK.replace("client_id: text", "va: text")
    made = generation(
        tmp_path,
        written(
            own(tmp_path, text), a="provider: bank, environment: sandbox, credentials: {client_secret: {env: SECRET}}"
        ),
    )
    assert made.lanes["a"].account.client_id == ""
    assert made.accounts == ()


def test_constants_of_credentials_that_are_not_needed(tmp_path):
    text = (
        BANK.replace("client_secret: text", "client_secret: text, third: text")
        + 'constants: {pair: "{client_id}:{third}"}\n'
    )
    assert generation(tmp_path, written(own(tmp_path, text), a=BANK_ROUTE))
    used = text.replace('"{method}:', '"{both}{method}:') + 'let: {both: "{pair|b64}"}\n'
    missing = written(own(tmp_path, used), a=BANK_ROUTE.replace("credentials: ", "credentials: §"))
    assert "third is missing" in one(tmp_path, missing).message


def test_a_constant_that_the_route_writes_out_needs_no_credential(tmp_path):
    text = BANK.replace("client_secret: text", "client_secret: text, third: text") + 'constants: {shop: "{third}"}\n'
    head = own(tmp_path, text.replace('"{method}:', '"{shop}{method}:'))
    assert generation(tmp_path, written(head, a=f"{BANK_ROUTE}, constants: {{shop: mine}}"))
    assert "third is missing" in found(tmp_path, written(head, a=BANK_ROUTE))[0].message


# Profiles of the operator's own.


def test_a_profile_with_mistakes_is_told_once(tmp_path):
    head = own(tmp_path, BANK.replace("sign_path: path", "sign_path: pth").replace("canonical: minify", "canonical: x"))
    findings = found(tmp_path, written(head, a=BANK_ROUTE, b=BANK_ROUTE, c=DOKU.replace("sandbox", "sandbx")))
    bank = str(tmp_path / "profiles" / "bank.yaml")
    assert [(each.file, each.path) for each in findings] == [
        (bank, "canonical"),
        (bank, "sign_path"),
        ("paraf.yaml", "routes.c.environment"),
    ]


@pytest.mark.parametrize("folder", ["none", "file", "closed/none"])
def test_a_folder_of_profiles_that_is_none(tmp_path, folder):
    (tmp_path / "file").write_text("")
    text = f"version: 1\nprofiles:\n  - §{folder}\nroutes:\n  doku: {{{DOKU}}}\n"
    assert "no folder" in one(tmp_path, text).message


def test_profiles_are_found_beside_the_configuration(tmp_path):
    assert generation(tmp_path, written(own(tmp_path, BANK), a=BANK_ROUTE)).lanes["a"].profile.title == "Bank"


# A route's own switches.


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ("signature: §asymetric", "did you mean asymmetric?"),
        ('string: §"{methd}"', "did you mean method?"),
        ('string: §"{method"', "a lone {"),
        ('string: §"{method|sha265}"', "did you mean sha256?"),
        ('string: §"{private_key}"', "{private_key} is not known here"),
        ('signature: asymmetric, string: §"{token}"', "{token} is not known here"),
        ('signature: asymmetric, key: §"{client_secret}"', "private key: leave it out"),
        ('key: §"hunter2"', "the key itself stands in the file"),
        ('key: §"{hunter2}"', "a name that is not known here"),
        ('key: §"{hunter2 x}"', "a hole is written"),
        ('headers: {set: {X-A: §"{clientid}"}}', "did you mean client_id?"),
        ('headers: {set: {X-A: §"{header.X-B}"}}', "signature only"),
        ('headers: {default: {X-A: §"{body|sha256}"}}', "hex or b64"),
        ('headers: {default: {X-A: §"{body}"}}', "hex or b64"),
        ("headers: {set: {§X-SIGNATURE: a}}", "of a signature"),
        ("headers: {set: {§x_signature: a}}", "of a signature"),
        ("headers: {default: {§X-Timestamp: a}}", "X-TIMESTAMP"),
        ("headers: {set: {§X-EXTERNAL-ID: a}}", "of external_id"),
        ("headers: {set: {X-A: a, §x-a: b}}", "X-A"),
        ("headers: {set: {X-A: a}, default: {§X_A: b}}", "X-A"),
        ("headers: {set: {§Proxy-Connection: a}}", "HTTP's own"),
        ('headers: {default: {§Content_Length: "1"}}', "HTTP's own"),
        ("external_id: {header: §X-SIGNATURE}", "of a signature"),
        ("external_id: {header: §CHANNEL_ID}", "CHANNEL-ID"),
        ("external_id: {header: §Connection}", "HTTP's own"),
        ("constants: {§token: a}", "has a meaning already"),
        ("constants: {§client_secret: a}", "has a meaning already"),
        ("constants: {§digest: a}", "has a meaning already"),
    ],
)  # fmt: skip
def test_switches_that_do_not_fit(tmp_path, switches, words):
    assert words in one(tmp_path, written(doku=f"{DOKU}, {switches}")).message


@pytest.mark.parametrize(
    "switches",
    [
        "headers: {set: {CHANNEL-ID: POS, Content-Type: application/json, X-PARTNER-ID: p}}",
        "headers: {set: {channel_id: POS}, default: {X-DEVICE-ID: till}}",
        'constants: {partner_id: "007", s: "{s}"}, string: "{s}{partner_id}{header.X-TIMESTAMP}{client_id|hex}"',
        'key: "{client_secret}-{timestamp}"',
        "external_id: {prefix: '9'}",
        "external_id: {header: X-Trace}",
        "signature: asymmetric, string: '{method}'",
    ],
)
def test_switches_that_fit(tmp_path, switches):
    lane = generation(tmp_path, written(doku=f"{DOKU}, {switches}")).lanes["doku"]
    call = lane.signer.admit("POST", "/x", (), (), b"{}")
    assert lane.signer.draft(call, None, 0, "7")


def test_a_table_that_a_profile_has_not(tmp_path):
    text = BANK + "let: {d: {by_method: {other: x}}}\n"
    route = written(own(tmp_path, text), a=f"{BANK_ROUTE}, digest_for: §by_body")
    assert "no such table for d" in one(tmp_path, route).message


def test_a_scheme_that_signs_nothing_has_no_string(tmp_path):
    text = BANK.replace("signature: plain", "signature: bare") + "  bare: {token: false, unsigned: true}\n"
    route = "provider: bank, environment: sandbox, credentials: {client_id: {env: ID}}, string: §x"
    assert "no signature" in one(tmp_path, written(own(tmp_path, text), a=route)).message


# Certificates.


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        ("hunter2", "holds no PEM certificate"),
        (SECRETS["KEY"], "holds no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n", "holds no PEM certificate"),
    ],
)
def test_authorities_that_cannot_be_read(tmp_path, pem, words):
    if pem is not None:
        (tmp_path / "ca.pem").write_text(pem)
    assert words in one(tmp_path, written(doku=f"{DOKU}, tls: {{ca: §{{file: ca.pem}}}}")).message


def test_authorities(tmp_path):
    first, second = (trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.bytes().decode() for _ in range(2))
    (tmp_path / "ca.pem").write_text(f"# Autorité de test\n{first}\n{second}# end\n")
    kept = generation(tmp_path, written(doku=f"{DOKU}, tls: {{ca: {{file: ca.pem}}}}")).lanes["doku"].outlet.ca
    assert ssl.create_default_context(cadata=kept).cert_store_stats()["x509_ca"] == 2


def test_everything_is_found_at_once(tmp_path):
    text = written(
        "profiles: [none]\n",
        a="provider: dokku, environment: sandbox, credentials: {}",
        b=f"provider: doku, environment: stage, credentials: {{{TEXTS}, extra: {{env: X}}}}",
        c=f"{DOKU}, string: '{{methd}}', upstream: https://api.doku.com",
        d="provider: netzme, environment: stage, headers: {set: {Trailers: x}}, credentials: {client_id: {env: NONE}}",
        e="provider: klikoo, environment: production, signature: x, tls: {ca: {file: none}}, "
        f"credentials: {{{TEXTS}, private_key: {{file: none}}}}",
    )
    assert [each.path for each in found(tmp_path, text)] == [
        "profiles.0",
        "routes.a.provider",
        "routes.b.environment",
        "routes.b.credentials",
        "routes.b.credentials.extra",
        "routes.c.string",
        "routes.c.upstream",
        "routes.d.headers.set.Trailers",
        "routes.d.credentials",
        "routes.d.credentials.client_id",
        "routes.e.environment",
        "routes.e.signature",
        "routes.e.tls.ca",
        "routes.e.credentials.private_key",
    ]
