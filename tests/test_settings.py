"""One file in, frozen settings out: defaults, every mistake at once with its place, the schema and the example."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ConfigError, Finding
from proxy.model import Secret
from proxy.outletforms import EgressForm, PoolForm, TlsForm
from proxy.settings import (
    AllowRule,
    BaseUrl,
    Circuit,
    Drain,
    EnvReference,
    FileReference,
    Inline,
    Limits,
    LogSettings,
    Settings,
    TcpListen,
    Timeouts,
    UnixListen,
    json_schema,
    read_settings,
    setting_paths,
)
from proxy.source import Mapping, Node, Scalar, Sequence, parse
from proxy.storeforms import MEMORY, FileForm, RedisForm
from proxy.switches import SWITCHES

EXAMPLE = (Path(__file__).parent.parent / "config" / "paraf.yaml").read_text()

MINIMAL = """\
version: 1
routes:
  doku:
    provider: doku
    environment: sandbox
    credentials: {client_id: BRN-1, client_secret: {env: S}}
"""


def read(text: str, **environ: str) -> Settings:
    settings, found = read_settings(text, "paraf.yaml", environ=environ)
    assert found == []
    return settings


def refused(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_settings(text, "paraf.yaml", environ=environ)
    return [str(finding) for finding in caught.value.findings]


def test_defaults() -> None:
    settings = read(MINIMAL)
    (route,) = settings.routes
    assert settings.listen == (TcpListen("127.0.0.1", 8080),)
    assert settings.admin == TcpListen("127.0.0.1", 9464)
    assert settings.log == LogSettings("info", "auto")
    assert settings.drain == Drain(0.0, 25.0)
    assert (settings.allowed_hosts, settings.profiles, settings.strict_permissions) == ((), (), False)
    assert (settings.version, settings.store, settings.workers) == (1, MEMORY, 1)
    assert settings.source.file == "paraf.yaml"
    assert (route.name, route.provider, route.environment, route.prefix) == ("doku", "doku", "sandbox", "/doku")
    assert (route.hosts, route.upstream, route.token_upstream, route.tls.ca) == (None, None, None, None)
    assert (route.allow, dict(route.switches), route.allow_small_keys) == ((), {}, False)
    assert route.limits == Limits(body=1_048_576, concurrency=256, queue=1024)
    assert route.timeouts == Timeouts(connect=3.0, first_byte=30.0, idle=30.0, total=60.0, token=10.0)
    assert route.circuit == Circuit(faults=10, probe=5.0)
    assert dict(route.credentials) == {"client_id": Inline(Secret("BRN-1")), "client_secret": EnvReference("S")}


def test_everything_written() -> None:
    settings = read("""\
version: 1
listen: [unix:/run/paraf.sock, "[::1]:8080"]
admin: off
store: memory
workers: 4
log: {level: debug, format: json}
allowed_hosts: [Paraf.Internal]
drain: {delay: 3s, timeout: 1m}
strict_permissions: true
profiles: [profiles, /etc/paraf]
routes:
  bank_2:
    provider: snap
    credentials:
      client_id: {file: id}
      private_key: {file: k.pem, passphrase: {env: P}}
    prefix: /bank/two
    hosts: [API.bank.example]
    upstream: https://API.bank.example:8443/base/
    token_upstream: https://token.bank.example
    allow: ["POST /orders/**", "* /status"]
    limits: {body: 2MiB, queue: 0}
    timeouts: {connect: 500ms, total: 1.5m}
    circuit: {faults: 3}
    allow_small_keys: true
    tls:
      ca: ca.pem
      client_cert: client.pem
      client_key: {file: client.key, passphrase: {env: P}}
      sni: API.bank.example
      min_version: 1.3
    egress_proxy: {url: "https://proxy.internal", username: paraf, password: {env: P}, ca: proxy.pem}
    pool: {size: 8, idle: 5s, age: 1m}
    allow_private: true
    canonical: sorted
    strip_base_path: true
    constants: {partner_id: 00012345, country: NO, cutoff: 12:30}
    external_id: {prefix: "77"}
""")
    (route,) = settings.routes
    assert settings.listen == (UnixListen("/run/paraf.sock"), TcpListen("::1", 8080))
    assert settings.admin is None
    assert settings.log == LogSettings("debug", "json")
    assert settings.drain == Drain(3.0, 60.0)
    assert (settings.allowed_hosts, settings.strict_permissions, settings.workers) == (("paraf.internal",), True, 4)
    assert settings.profiles == ("profiles", "/etc/paraf")
    assert (route.name, route.environment, route.prefix, route.hosts) == (
        "bank_2", None, "/bank/two", ("api.bank.example",),
    )  # fmt: skip
    assert route.credentials["private_key"] == FileReference("k.pem", EnvReference("P"))
    assert route.upstream == BaseUrl("https", "api.bank.example", 8443, "/base")
    assert route.token_upstream == BaseUrl("https", "token.bank.example")
    assert route.allow == (AllowRule("POST", "/orders/**"), AllowRule("*", "/status"))
    assert route.limits == Limits(body=2_097_152, concurrency=256, queue=0)
    assert isinstance(route.limits.body, int)
    assert route.timeouts == Timeouts(connect=0.5, total=90.0)
    assert route.circuit == Circuit(faults=3, probe=5.0)
    assert (route.allow_small_keys, route.allow_private) == (True, True)
    assert route.tls == TlsForm(
        ca=FileReference("ca.pem"),
        client_cert=FileReference("client.pem"),
        client_key=FileReference("client.key", EnvReference("P")),
        sni="api.bank.example",
        min_version="1.3",
    )
    assert route.egress_proxy == EgressForm(
        BaseUrl("https", "proxy.internal"), Inline(Secret("paraf")), EnvReference("P"), FileReference("proxy.pem")
    )
    assert route.pool == PoolForm(size=8, idle=5.0, age=60.0)
    assert set(route.switches) == {"canonical", "strip_base_path", "constants", "external_id"}
    assert route.switches["constants"] == {"partner_id": "00012345", "country": "NO", "cutoff": "12:30"}
    assert route.switches["external_id"]["prefix"] == "77"


def test_what_guards_a_provider_can_be_switched_off() -> None:
    (route,) = read(MINIMAL + "    limits: {concurrency: off, queue: off}\n    circuit: off\n").routes
    assert (route.limits, route.circuit) == (Limits(concurrency=math.inf, queue=0), Circuit(faults=math.inf))


@pytest.mark.parametrize(
    ("line", "store"),
    [
        ("store: memory", MEMORY),
        ("store: file:///var/lib/paraf/", FileForm("/var/lib/paraf")),
        ("store: redis://redis", RedisForm("redis")),
        ("store: rediss://[::1]:7000/3", RedisForm("::1", 7000, database=3, tls=True)),
        ("store: unix:///run/redis.sock", RedisForm(socket="/run/redis.sock")),
        ("store: {url: 'redis://h/1', password: {env: P}}", RedisForm("h", database=1, password=EnvReference("P"))),
        (
            "store: {url: 'rediss://h', username: paraf, password: {file: p}, ca: ca.pem}",
            RedisForm(
                "h",
                tls=True,
                username=Inline(Secret("paraf")),
                password=FileReference("p"),
                ca=FileReference("ca.pem"),
            ),
        ),
    ],
)
def test_stores(line: str, store: object) -> None:
    assert read(f"{line}\n{MINIMAL}").store == store


def test_the_key_of_the_store_is_one_or_several_the_newest_first() -> None:
    assert read(f"store_key: {{env: K}}\n{MINIMAL}").store_key == (EnvReference("K"),)
    several = read(f"store_key: [{{file: new}}, {{file: old}}]\n{MINIMAL}").store_key
    assert several == (FileReference("new"), FileReference("old"))


@pytest.mark.parametrize("text", ["00012345", "NO", "12:30", "1e5", "true", "0x10"])
def test_a_client_id_stays_what_was_written(text: str) -> None:
    (route,) = read(MINIMAL.replace("BRN-1", text)).routes
    assert route.credentials["client_id"] == Inline(Secret(text))


def test_a_lone_slash_is_the_prefix_of_everything() -> None:
    (route,) = read(MINIMAL + "    prefix: /\n").routes
    assert route.prefix == ""


FRAMING = (
    "must not name a header that frames the request (connection, content-length, expect, host, keep-alive, te, "
    "trailer, transfer-encoding, upgrade)"
)
FIVE_MISTAKES = """\
version: 1
listen: 8080
routes:
  doku:
    provider: doku
    enviroment: sandbox
    credentials:
      client_id: {env: ID}
      client_secret: hunter2
    limits: {body: 1MB}
    prefix: /pay
  klikoo:
    provider: klikoo
    environment: stage
    credentials: {client_id: {env: ID}, client_secret: {env: S}}
    prefix: /pay
"""


def test_five_mistakes_are_five_findings_each_at_its_place() -> None:
    assert refused(FIVE_MISTAKES) == [
        (
            "paraf.yaml:2:9: listen: must be HOST:PORT, such as 127.0.0.1:8080 (0.0.0.0:8080 for all addresses), "
            "or unix:/PATH"
        ),
        "paraf.yaml:6:5: routes.doku.enviroment: unknown key (did you mean environment?)",
        (
            "paraf.yaml:9:22: routes.doku.credentials.client_secret: a secret stands in the file: "
            "use {env: NAME} or {file: PATH}, or start with --allow-inline-secrets"
        ),
        "paraf.yaml:10:20: routes.doku.limits.body: must be a size such as 64KiB or 1MiB",
        "paraf.yaml:16:13: routes.klikoo.prefix: is the prefix of the route in line 4 already: choose another",
    ]


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("version: 2", "1:10: version: unknown value; known: 1"),
        ("lisen: 127.0.0.1:1", "1:1: lisen: unknown key (did you mean listen?)"),
        ("store: disk",
         ("1:8: store: must be memory, file:///DIRECTORY, redis://HOST:6379/0, rediss://HOST:6379/0 "
          "or unix:///PATH")),
        ("store: file://tokens",
         "1:8: store: must be the full path of a directory after file://, as in file:///var/lib/paraf"),
        ("store: redis://u:hunter2@h",
         "1:8: store: must not hold a user or password: write store: {url: ..., password: {env: NAME}}"),
        ("store: {password: {env: P}}", "1:8: store: url is missing: where Redis is"),
        ("store: {url: memory}",
         "1:14: store.url: must be redis://HOST:6379/0, rediss://HOST:6379/0 or unix:///PATH, with no more in it"),
        ("store: {url: 'redis://h', password: hunter2}",
         ("1:37: store.password: a secret stands in the file: use {env: NAME} or {file: PATH}, "
          "or start with --allow-inline-secrets")),
        ("store: {url: 'redis://h', username: paraf}",
         "1:8: store: username stands without password: Redis wants both"),
        ("store: {url: 'redis://h', ca: ca.pem}",
         "1:8: store: ca is for rediss:// alone: nothing else checks a certificate"),
        ("store: {url: 'redis://h', pasword: {env: P}}",
         "1:27: store.pasword: unknown key (did you mean password?)"),
        ("store_key: hunter2",
         ("1:12: store_key: a secret stands in the file: use {env: NAME} or {file: PATH}, "
          "or start with --allow-inline-secrets")),
        ("store_key: []", "1:12: store_key: is empty: needs at least one entry"),
        ("workers: 65", "1:10: workers: must be a whole number from 1 to 64"),
        ("workers: 0", "1:10: workers: must be a whole number from 1 to 64"),
        ("workers: auto", "1:10: workers: must be a whole number from 1 to 64"),
        ("log: {level: INFO}", "1:14: log.level: unknown value (did you mean info?)"),
        ("log: info", "1:6: log: must be a mapping (known: format, level)"),
        ("drain: {delay: 5}", "1:16: drain.delay: must be a duration such as 500ms, 3s or 1m"),
        ("strict_permissions: yes", "1:21: strict_permissions: must be true or false"),
        ("listen: []", "1:9: listen: is empty: needs at least one entry"),
        ("listen: [127.0.0.1:1, 127.0.0.1:9464]",
         "1:23: listen.1: 127.0.0.1:9464 is taken: every listen, admin and control needs an address of its own"),
        ("allowed_hosts: ['https://x']",
         "1:17: allowed_hosts.0: must be a host name alone, such as api.example.com: no scheme, port, path or *"),
    ],
)  # fmt: skip
def test_mistakes_at_the_top(line: str, finding: str) -> None:
    rest = MINIMAL if not line.startswith("version") else MINIMAL.replace("version: 1\n", "")
    assert refused(f"{line}\n{rest}") == [f"paraf.yaml:{finding}"]


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("timeout: {total: 1s}", "7:5: routes.doku.timeout: unknown key (did you mean timeouts?)"),
        ("tls: {sni: 'x:1'}", ("7:16: routes.doku.tls.sni: must be a host name alone, such as api.example.com: "
                              "no scheme, port, path or *")),
        ("tls: {min_version: 1.1}", "7:24: routes.doku.tls.min_version: unknown value (did you mean 1.3?)"),
        ("tls: {client_cert: c.pem}", "7:10: routes.doku.tls: client_cert and client_key go together"),
        ("tls: {client_key: {env: K}}", "7:10: routes.doku.tls: client_cert and client_key go together"),
        ("tls: {cert: c.pem}", ("7:11: routes.doku.tls.cert: unknown key (known: ca, client_cert, client_key, "
                               "min_version, sni)")),
        ("egress_proxy: proxy:3128", "7:19: routes.doku.egress_proxy: must be a URL such as https://api.example.com"),
        ("egress_proxy: http://me:secret@proxy:3128", ("7:19: routes.doku.egress_proxy: must not hold a user or "
                                                       "password: credentials have their own place")),
        ("egress_proxy: http://proxy:3128/x", ("7:19: routes.doku.egress_proxy: must be http://HOST:PORT or "
                                               "https://HOST:PORT, without a path")),
        ("egress_proxy: {url: 'http://p:1', password: {env: P}}",
         "7:19: routes.doku.egress_proxy: username and password go together"),
        ("egress_proxy: {url: 'http://p:1', ca: c.pem}",
         "7:19: routes.doku.egress_proxy: ca is for https:// alone: nothing else checks a certificate"),
        ("egress_proxy: {username: x}", "7:19: routes.doku.egress_proxy: url is missing: where it is"),
        ("pool: {size: -1}", "7:18: routes.doku.pool.size: must be a whole number from 0 to 100000"),
        ("pool: 5", "7:11: routes.doku.pool: must be a mapping (known: age, idle, size)"),
        ("allow_private: 'true'", "7:20: routes.doku.allow_private: must be true or false, without quotes"),
        ("canonical: minfy", "7:16: routes.doku.canonical: unknown value (did you mean minify?)"),
        ("prefix: /doku/", ("7:13: routes.doku.prefix: must be a path such as /doku: letters, digits and - . _ ~, "
                           "no slash at its end")),
        ("upstream: api.doku.com", "7:15: routes.doku.upstream: must be a URL such as https://api.example.com"),
        ("allow: []", "7:12: routes.doku.allow: is empty: needs at least one entry"),
        ("allow: [GET]", ("7:13: routes.doku.allow.0: needs a path that begins with / after the method, as in: "
                         "POST /orders/**")),
        ("limits: {queue: -1}", "7:21: routes.doku.limits.queue: must be a whole number from 0 to 1000000, or off"),
        ("limits: {concurrency: 0}", ("7:27: routes.doku.limits.concurrency: must be a whole number from 1 to 100000, "
                                     "or off")),
        ("circuit: on", "7:14: routes.doku.circuit: must be a mapping (known: faults, probe), or off"),
        ("circuit: {faults: 0}", "7:23: routes.doku.circuit.faults: must be a whole number from 1 to 10000"),
        ("circuit: {probes: 5s}", "7:15: routes.doku.circuit.probes: unknown key (did you mean probe?)"),
        ("timeouts: {total: 0s}", "7:23: routes.doku.timeouts.total: must be from 1ms to 24h"),
        ("headers: {sets: {A: b}}", "7:15: routes.doku.headers.sets: unknown key (did you mean set?)"),
        ("headers: {set: {A: é}}", "7:24: routes.doku.headers.set.A: must be printable ASCII text"),
        ("headers: {default: {content-LENGTH: '5'}}", f"7:14: routes.doku.headers: {FRAMING}"),
        ("external_id: {length: 4}", "7:27: routes.doku.external_id.length: must be a whole number from 8 to 36"),
        ("provider: doku", "7:5: routes.doku.provider: stands twice; the first is in line 4"),
    ],
)  # fmt: skip
def test_mistakes_in_a_route(line: str, finding: str) -> None:
    assert refused(f"{MINIMAL}    {line}\n") == [f"paraf.yaml:{finding}"]


def test_what_is_missing_is_named_where_it_belongs() -> None:
    assert refused("version: 1\n") == ["paraf.yaml:1:1: (file): routes is missing: what callers can address, by name"]
    assert refused("version: 1\nroutes: {}\n") == ["paraf.yaml:2:9: routes: is empty: needs at least one entry"]
    assert refused("version: 1\nroutes: {a: {environment: e}}\n") == [
        "paraf.yaml:2:13: routes.a: credentials is missing: references to what the profile asks for",
        "paraf.yaml:2:13: routes.a: provider is missing: the profile: `paraf providers` lists them",
    ]
    assert refused(MINIMAL.replace("    environment: sandbox\n", "")) == [
        (
            "paraf.yaml:4:5: routes.doku: environment is missing: name one of the provider's "
            "(`paraf providers` lists them), or upstream"
        )
    ]


def test_a_host_in_two_routes() -> None:
    second = "  b: {provider: p, environment: e, credentials: {client_id: x}, hosts: [API.doku.com]}\n"
    found = refused(f"{MINIMAL}    hosts: [api.doku.com]\n{second}")
    assert found == ["paraf.yaml:8:73: routes.b.hosts.0: stands in line 7 already: a host selects one route"]


def test_plain_http_is_a_warning_that_does_not_stop() -> None:
    _, found = read_settings(MINIMAL + "    upstream: http://10.1.2.3\n", "paraf.yaml", environ={})
    assert [(finding.line, finding.column, finding.severity) for finding in found] == [(7, 15, "warning")]


def test_the_log_level_of_the_environment_wins() -> None:
    text = "log: {level: error, format: json}\n" + MINIMAL
    assert read(text, PARAF_LOG_LEVEL="debug").log == LogSettings("debug", "json")
    assert read(text, PARAF_LOG_LEVEL="").log == LogSettings("error", "json")
    assert refused(text + "x: 1\n", PARAF_LOG_LEVEL="hunter2")[0] == (
        "PARAF_LOG_LEVEL:1:1: log.level: unknown value (known: debug, error, info, warning)"
    )


def test_inline_secrets_need_to_be_asked_for() -> None:
    text = MINIMAL.replace("{env: S}", "hunter2")
    assert "--allow-inline-secrets" in refused(text)[0]
    settings, _ = read_settings(text, "paraf.yaml", environ={}, allow_inline_secrets=True)
    assert settings.routes[0].credentials["client_secret"] == Inline(Secret("hunter2"))
    assert "hunter2" not in repr(settings)


def scalars(node: Node) -> Iterator[Scalar]:
    """Every value below a node, keys not."""
    if isinstance(node, Scalar):
        yield node
    for below in node.items if isinstance(node, Sequence) else ():
        yield from scalars(below)
    for _, below in node.members if isinstance(node, Mapping) else ():
        yield from scalars(below)


def switched_on(text: str) -> str:
    """The example with every `#name: value` line in force."""
    return re.sub(r"(?m)^( *)#(?=[a-z])", r"\1", text)


def findings_of(text: str) -> list[Finding]:
    try:
        return read_settings(text, "paraf.yaml", environ={})[1]
    except ConfigError as error:
        return error.findings


PLANTED = ("hunter2", "hunter2 -----BEGIN", "{hunter2: 1}", "[hunter2]", "*hunter2", "!hunter2 x", "hunter2: x")


@pytest.mark.parametrize("planted", PLANTED)
def test_no_finding_holds_a_value_wherever_a_secret_was_put(planted: str) -> None:
    lines = switched_on(EXAMPLE).splitlines()
    places = [scalar for scalar in scalars(parse("\n".join(lines), "x").root) if scalar.text]
    found: list[Finding] = []
    for scalar in places:
        line, column = lines[scalar.line - 1], scalar.column - 1
        changed = line[:column] + line[column:].replace(scalar.text, planted, 1)
        found += findings_of("\n".join([*lines[: scalar.line - 1], changed, *lines[scalar.line :]]))
    assert len(found) > len(places) / 3
    assert not [str(finding) for finding in found if "hunter2" in str(finding)]


def test_the_example_parses_and_shows_the_defaults() -> None:
    settings, minimal = read(EXAMPLE), read(MINIMAL)
    assert [route.provider for route in settings.routes] == [
        "doku", "doku-nonsnap", "ifortepay-payment", "ifortepay-disbursement", "netzme", "klikoo",
    ]  # fmt: skip
    for name in ("listen", "admin", "log", "allowed_hosts", "drain", "strict_permissions", "profiles"):
        assert getattr(settings, name) == getattr(minimal, name), name
    for name in ("prefix", "hosts", "allow", "limits", "timeouts", "circuit", "switches", "allow_small_keys", "tls",
                 "egress_proxy", "pool", "allow_private", "token_standin",
                 "refusals"):  # fmt: skip
        assert getattr(settings.routes[0], name) == getattr(minimal.routes[0], name), name


def written_paths(node: Node, above: str = "") -> Iterator[str]:
    for key, below in node.members if isinstance(node, Mapping) else ():
        path = f"{above}.{key.text}".lstrip(".")
        yield path
        yield from written_paths(below, path)


def test_the_example_names_every_setting_and_all_of_them_together_parse() -> None:
    text = switched_on(EXAMPLE)
    (route, *_) = read(text).routes
    assert set(route.switches) == set(SWITCHES)
    written = {path.replace("routes.doku", "routes.*") for path in written_paths(parse(text, "x").root)}
    assert set(setting_paths()) - written == set()


def test_every_line_of_the_example_that_sets_something_says_what_it_is() -> None:
    references = re.compile(r"credentials:|client_id:|client_secret:|private_key:|provider:|environment:")
    bare = [
        line
        for line in EXAMPLE[: EXAMPLE.index("  doku-nonsnap:")].splitlines()
        if re.match(r" *#?[a-z_]+: +\S", line) and not re.search(r"\s# \S", line) and not references.search(line)
    ]
    assert bare == []


def closed(schema: Any) -> Iterator[bool]:
    """For every object schema: is it closed to keys that are not described?"""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield "additionalProperties" in schema and schema["additionalProperties"] is not True
        for below in schema.values():
            yield from closed(below)
    for below in schema if isinstance(schema, list) else ():
        yield from closed(below)


def test_the_schema_is_json_and_closed_everywhere() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "Configuration of Paraf"
    assert schema["required"] == ["version", "routes"]
    objects = list(closed(schema))
    assert len(objects) > 10
    assert all(objects)
    references = set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema)))
    assert references == set(schema["$defs"])


def test_setting_paths_are_dotted() -> None:
    paths = setting_paths()
    assert {"store", "store.url", "store.password", "store_key"} <= set(paths)
    assert {"version", "drain.timeout", "routes.*.limits.body", "routes.*.tls.ca", "routes.*.circuit.faults"} <= set(
        paths
    )
    assert len(paths) == len(set(paths))
