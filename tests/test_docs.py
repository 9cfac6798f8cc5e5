"""Documentation against the code, in both directions: each name is documented, and no document knows another."""

import io
import json
import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.catalogue import Catalogue
from proxy.clock import SystemClock
from proxy.commands import COMMANDS, EXIT_CONFIG, EXIT_FAILURE, main, paraf
from proxy.errors import KINDS, ProxyError
from proxy.generation import build
from proxy.inbound.admin import _PROBES
from proxy.inbound.operations import ENDPOINTS
from proxy.inbound.problem import problem
from proxy.model import Attempt
from proxy.settings import json_schema, read_settings, setting_paths
from proxy.shape import Choice, Record
from proxy.signing import vocabulary
from proxy.signing.algorithms import ALGORITHMS, ENCODINGS
from proxy.signing.names import ALWAYS, CALL
from proxy.signing.profile import CODE_CLASSES as PROFILE_CLASSES
from proxy.signing.template import FILTERS
from proxy.switches import SWITCHES, TIME_FORMATS
from proxy.telemetry import labels
from proxy.telemetry.ended import Ended
from proxy.telemetry.families import FAMILIES
from proxy.telemetry.logs import RequestLog, configure
from proxy.telemetry.story import PHASES, Outcome, Story
from proxy.telemetry.traceparent import Trace

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
LANGUAGE = ROOT / "config" / "README.md"
OPERATION = ROOT / "config" / "operation.md"
WATCHING = ROOT / "config" / "watching.md"
RULES = ROOT / "deploy" / "prometheus" / "paraf.rules.yaml"
PROFILES = Catalogue().names

Row = dict[str, str]


@cache
def text(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def tables(path: Path) -> dict[str, list[Row]]:
    """Every table, by the text of its first heading cell and the heading above it: `Switches/Switch`."""
    found: dict[str, list[Row]] = {}
    heading, columns = "", []
    for line in text(path).splitlines():
        if title := re.fullmatch(r"#+ (.*)", line):
            heading = title[1]
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = cells(line)
            rows = found[f"{heading}/{columns[0]}"] = []
        elif set(line) - set("|-"):
            rows.append(dict(zip(columns, cells(line), strict=True)))
    return found


def cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def documented(path: Path, table: str) -> list[str]:
    """The names in the first column."""
    rows = tables(path)[table]
    return [name for row in rows for name in code(next(iter(row.values())))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text(README), re.MULTILINE | re.DOTALL)


def same(documented_names, known_names) -> None:
    """As sets, and no name twice."""
    listed = list(documented_names)
    assert sorted(listed) == sorted(set(known_names))


# Operation


def test_what_control_can_be_asked_is_documented():
    paths = {f"{each.method} {each.path.replace('{account}', 'ACCOUNT')}" for each in ENDPOINTS}
    same(documented(OPERATION, "Control/Request"), paths)


# Commands


def options(name: str) -> set[str]:
    command = paraf.get_command(click.Context(paraf), name)
    return {max(each.opts, key=len) for each in command.params if isinstance(each, click.Option)}


SHARED_OPTIONS = {"--config", "--allow-inline-secrets"}


def test_commands_are_documented():
    same(documented(README, "Commands/Command"), COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_documented(name):
    row = next(row for row in tables(README)["Commands/Command"] if row["Command"] == f"`{name}`")
    assert set(code(row["Options"])) == options(name) - SHARED_OPTIONS


def test_options_shared_by_commands_are_documented():
    sharing = {name for name in COMMANDS if options(name) >= SHARED_OPTIONS}
    line = next(line for line in text(README).splitlines() if "take `-c FILE`" in line)
    assert set(code(line)) >= SHARED_OPTIONS
    assert sharing == set(code(line.partition(" take ")[0]))


def command_lines():
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words and words[0].endswith("bin/paraf"):
                    yield words[1:]


def test_the_command_lines_shown_are_right():
    shown = list(command_lines())
    assert {words[0] for words in shown} >= {"demo", "check", "serve", "sandbox", "sign"}
    for name, *words in shown:
        given = {word for word in words if word.startswith("--")}
        assert given <= options(name), name
        assert name in COMMANDS


def test_the_two_commands_of_the_start_are_there():
    first, second = blocks("sh")[:2]
    assert first == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/paraf demo\n"
    assert second == "tests/run\n"
    assert (ROOT / "tests" / "run").stat().st_mode & 0o111


def test_exit_codes():
    said = {int(number) for number in re.findall(r"\b\d+\b", main.__doc__)}
    listed = {int(row["Exit code"]) for row in tables(README)["Commands/Exit code"]}
    assert listed == said == {0, EXIT_FAILURE, click.UsageError.exit_code, EXIT_CONFIG, 130}


# Settings and switches


def switch_paths() -> set[str]:
    return {
        path.removeprefix("routes.*.")
        for path in setting_paths()
        if path.split(".")[2:3] and path.split(".")[2] in SWITCHES
    }


def test_switches_are_documented():
    same(documented(README, "Switches/Switch"), switch_paths())


def test_settings_are_documented():
    same(documented(README, "Settings/Setting"), set(setting_paths()) - {f"routes.*.{name}" for name in switch_paths()})


@pytest.mark.parametrize("name", [name for name, key in SWITCHES.items() if isinstance(key.shape, Choice)])
def test_values_of_switches_are_documented(name):
    row = next(row for row in tables(README)["Switches/Switch"] if row["Switch"] == f"`{name}`")
    assert tuple(code(row["Values"])) == SWITCHES[name].shape.names


def test_time_formats_are_documented():
    row = next(row for row in tables(README)["Switches/Switch"] if row["Switch"] == "`timestamp`")
    assert tuple(code(row["Values"])) == (*TIME_FORMATS, "strftime:FORMAT")


PLAIN_SWITCHES = [name for name in SWITCHES if name not in ("string", "key", "constants", "headers", "external_id")]


def defaults(cell: str) -> dict[str, str]:
    """`a`: x, y; `b`: all others → the value of each profile."""
    found: dict[str, str] = {}
    for part in cell.split("; "):
        value, _, names = part.rpartition(": ")
        every = [name for name in PROFILES if name not in found] if names == "all others" else names.split(", ")
        found |= dict.fromkeys(every, value.strip("`"))
    return found


def spelled(value) -> str:
    return {None: "none", True: "true", False: "false"}.get(value, value)


@pytest.mark.parametrize("name", PLAIN_SWITCHES)
def test_defaults_of_profiles_are_documented(name):
    row = next(row for row in tables(README)["Switches/Switch"] if row["Switch"] == f"`{name}`")
    actual = {profile: spelled(Catalogue().profile(profile).switches[name]) for profile in PROFILES}
    assert defaults(row["Default by profile"]) == actual


SMALL = {
    "version": 1,
    "routes": {"r": {"provider": "doku", "environment": "sandbox", "credentials": {"client_id": "c"}}},
}


def settings_of(document) -> dict:
    settings, _ = read_settings(yaml.safe_dump(document), "paraf.yaml", environ={})
    return {name: getattr(settings, name) for name in settings.__slots__ if name != "source"}


def test_defaults_of_settings_are_documented():
    """A file that writes every documented default means the same as one that writes none."""
    rows = [row for row in tables(README)["Settings/Setting"] if re.fullmatch(r"`[^`/]+`|`[\d.:]+`", row["Default"])]
    assert len(rows) >= 15
    document = json.loads(json.dumps(SMALL))
    for row in rows:
        place = document
        *above, last = row["Setting"].strip("`").replace("*", "r").split(".")
        for step in above:
            place = place.setdefault(step, {})
        place[last] = yaml.safe_load(row["Default"].strip("`"))
    assert settings_of(document) == settings_of(SMALL)


def test_required_settings_are_documented():
    schema = json_schema()
    route = schema["properties"]["routes"]["additionalProperties"]
    rows = [row for row in tables(README)["Settings/Setting"] if row["Default"] == "required"]
    listed = {row["Setting"].strip("`") for row in rows} - {"routes.*.credentials.client_id"}  # the profile asks for it
    assert listed == {*schema["required"], *(f"routes.*.{name}" for name in route["required"])}


def test_the_complete_example_names_every_setting():
    """config/paraf.yaml: written out, or switched off with `#`."""
    complete = text(ROOT / "config" / "paraf.yaml")
    keys = {path.rpartition(".")[2] for path in setting_paths()} - {"credentials", "*"}
    assert {key for key in keys if not re.search(rf"(?:^|[ #{{]){key}:", complete, re.MULTILINE)} == set()


# Examples


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    key = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in (("doku-private.pem", key), ("doku-secret", b"secret")):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return tmp_path


def test_the_first_configuration_runs(secrets):
    example = next(block for block in blocks("yaml") if block.startswith("version:"))
    environ = {"DOKU_CLIENT_ID": "BRN-1"}
    settings, warnings = read_settings(example, "paraf.yaml", environ=environ)
    generation = build(settings, environ=environ, folder=secrets)
    assert (warnings, generation.findings) == ([], ())
    assert [lane.profile.name for lane in generation.lanes.values()] == ["doku"]
    called = re.search(r"curl http://127\.0\.0\.1:8080/doku(\S+)", text(README))[1]
    assert generation.lanes["doku"].route.allows("POST", called)


@pytest.mark.parametrize("name", ["check", "sign"])
def test_the_command_lines_shown_run(name, secrets, monkeypatch):
    (secrets / "paraf.yaml").write_text(next(block for block in blocks("yaml") if block.startswith("version:")))
    monkeypatch.chdir(secrets)
    words = next(words for words in command_lines() if words[0] == name)
    done = CliRunner(env={"DOKU_CLIENT_ID": "BRN-1"}).invoke(paraf, words)
    assert done.exception is None, done.output
    assert "doku" in done.output or "good" in done.output


def test_the_example_of_a_provider_is_a_profile(tmp_path):
    example = next(block for block in blocks("yaml") if "extends:" in block)
    (tmp_path / "example.yaml").write_text(re.sub("^   ", "", example, flags=re.MULTILINE))
    profile = Catalogue([tmp_path]).profile("example")
    assert profile.environments["sandbox"].api.host == "sandbox.example.com"
    assert profile.schemes["symmetric"].default.keys() == {"CHANNEL-ID"}


def test_links_lead_somewhere():
    for page in (README, LANGUAGE, WATCHING):
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text(page)):
            file = page.parent / target if target else page
            assert file.exists(), target
            if anchor:
                titles = re.findall(r"^#+ (.*)$", text(file), re.MULTILINE)
                assert anchor in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


# Providers


@pytest.mark.parametrize("name", PROFILES)
def test_rows_of_providers_agree_with_the_profile(name):
    profile = Catalogue().profile(name)
    row = next(row for row in tables(README)["Providers/Profile"] if row["Profile"] == f"`{name}`")
    words = code(row["Environments and hosts"])
    bases = [base for each in profile.environments.values() for base in (each.api, each.token)]
    assert {word for word in words if "." in word} == {base.host for base in bases}
    assert {word for word in words if "." not in word} - {"upstream"} == set(profile.environments)
    assert bool(profile.token) is (row["Token"] != "none")
    assert bool(profile.token and profile.token.exclusive) is ("**exclusive**" in row["Token"])
    assert row["Evidence"].split()[0].rstrip(".:,") in {"Strong", "Good", "Medium", "Weak"}


@pytest.mark.parametrize("name", [name for name in PROFILES if Catalogue().profile(name).token])
def test_lifetimes_of_tokens_are_documented(name):
    life = Catalogue().profile(name).token.answer.default_lifetime
    row = next(row for row in tables(README)["Providers/Profile"] if row["Profile"] == f"`{name}`")
    assert (f"{life:.0f} s" in row["Token"]) or (f"{life / 3600:.0f} h" in row["Token"])


def test_no_row_of_a_provider_without_a_profile():
    same(documented(README, "Providers/Profile"), PROFILES)


# Errors, metrics, logs, probes


def test_errors_are_documented():
    rows = tables(README)["Errors/Code"]
    assert {(code(row["Code"])[0], int(row["Status"])) for row in rows} == {
        (kind.code, kind.status) for kind in KINDS.values()
    }
    assert len(rows) == len(KINDS)
    assert all(row["What to do"] and re.match(r"no|maybe", row["`sent`"]) for row in rows)


def test_the_error_shown_is_as_it_is_made():
    shown = json.loads(blocks("json")[0])
    _, _, body = problem(ProxyError(shown["code"], shown["detail"], sent=shown["sent"]), shown["request_id"])
    assert json.loads(body) == shown


def test_metrics_are_documented():
    rows = tables(README)["Metrics/Metric"]
    told = {code(row["Metric"])[0]: (row["Type"], tuple(code(row["Labels"]))) for row in rows}
    assert told == {name: (family.kind, family.labels) for name, family in FAMILIES.items()}
    assert len(rows) == len(FAMILIES)


def test_values_of_labels_are_documented():
    told = {code(row["Label"])[0]: code(row["Values"]) for row in tables(README)["Metrics/Label"]}
    assert {name: set(values) for name, values in told.items()} == {
        "method": set(labels._METHODS) | {"other"},
        "status_class": set(labels._STATUS_CLASSES),
        "outcome": set(Outcome.__args__),
        "phase": set(PHASES),
        "reason": set(labels.ATTEMPT_REASONS),
        "code_class": set(labels.CODE_CLASSES),
        "result": {*labels.FETCH_RESULTS, *labels.SHADOW_RESULTS},
    }


def test_alerts_are_documented():
    rules = [rule for group in yaml.safe_load(text(RULES))["groups"] for rule in group["rules"]]
    rows = tables(WATCHING)["Alerts/Alert"]
    assert {code(row["Alert"])[0]: row["Severity"] for row in rows} == {
        rule["alert"]: rule["labels"]["severity"] for rule in rules
    }


def test_log_fields_are_documented():
    stream = io.StringIO()
    story = Story("id", "GET", 0.0, route="r", caller="c", external_id="1", **dict.fromkeys(PHASES, 0.1))
    story.attempts.append(Attempt("maybe"))
    story.status, story.error, story.detail = 502, "upstream_protocol", "words"
    story.provider_status, story.provider_code = 200, "1"
    story.trace = Trace("0" * 32, "0" * 16, sampled=True)
    RequestLog(configure("info", "json", stream, SystemClock()), Ended(SystemClock())).told([story])
    same(documented(README, "Log lines/Field"), json.loads(stream.getvalue()))


def test_admin_paths_are_documented():
    same(documented(README, "Probes and metrics/Path"), {*_PROBES, "/metrics"})


# The language of profiles


def item(record: Record, *names: str) -> Record:
    for name in names:
        shape = record.keys[name].shape
        while not isinstance(shape, Record):
            shape = shape.mapping if hasattr(shape, "mapping") else shape.item
        record = shape
    return record


PROFILE = vocabulary.PROFILE
RECORDS = {
    "Environments": item(PROFILE, "environments"),
    "Values by table": item(PROFILE, "let"),
    "Schemes": item(PROFILE, "schemes"),
    "Signatures": item(PROFILE, "schemes", "signatures"),
    "Token call": item(PROFILE, "token"),
    "Token answer": item(PROFILE, "token", "answer"),
    "Rules": item(PROFILE, "rules"),
    "Refused": item(PROFILE, "refused"),
    "Codes": item(PROFILE, "codes"),
    "Compare": item(PROFILE, "compare"),
}


def test_the_parts_of_a_code_row_are_documented():
    same(documented(LANGUAGE, "Codes/Part"), vocabulary.CODE_ROW.mapping.keys)


@pytest.mark.parametrize("heading", RECORDS)
def test_keys_of_a_profile_are_documented(heading):
    same(documented(LANGUAGE, f"{heading}/Key"), RECORDS[heading].keys)


def test_the_top_of_a_profile_is_documented():
    same(documented(LANGUAGE, "The file/Key"), PROFILE.keys.keys() - (SWITCHES.keys() - {"constants"}))
    line = next(line for line in text(LANGUAGE).splitlines() if line.startswith("A profile must say"))
    must, others = line.split(";")
    assert set(code(must)) == {name for name in SWITCHES if name in PROFILE.keys and PROFILE.keys[name].required}
    assert set(code(others)) == SWITCHES.keys() - PROFILE.keys


def test_templates_are_documented():
    same(documented(LANGUAGE, "Templates/Name"), CALL | ALWAYS)
    same(documented(LANGUAGE, "Templates/Filter"), FILTERS)


def test_closed_lists_of_the_language_are_documented():
    rows = {row["Key"]: row["Meaning"] for row in tables(LANGUAGE)["Signatures/Key"]}
    assert code(rows["`algorithm`"]) == list(ALGORITHMS)
    assert code(rows["`encoding`"]) == list(ENCODINGS)
    classes = next(row for row in tables(LANGUAGE)["Codes/Key"] if row["Key"] == "`classes`")
    assert set(code(classes["Meaning"])) - FAMILIES.keys() == set(PROFILE_CLASSES)
