"""The Helm chart, by what it renders; by Helm 3 and Helm 4."""

import json
import re
import subprocess
from functools import reduce
from operator import getitem
from pathlib import Path

import chart_schema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions
from packaging.version import Version
from rendering import CHART, HELMS, ROOT, VALUES, one, refused, rendered, run, shop, template

import proxy
from proxy.kube.sidecar import sidecar
from proxy.settings import read_settings

pytestmark = pytest.mark.slow

NAMES = [file.name.removesuffix("-values.yaml") for file in VALUES]
PODS = {"Deployment": ("spec", "template"), "Job": ("spec", "template"), "Pod": ()}
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
SINCE = Version("1.29")
"""The oldest Kubernetes that has native sidecars without being asked."""
VERSIONS = sorted({each.rpartition(".")[0] for each in all_versions() if Version(each) >= SINCE}, key=Version)


def values_file(name):
    return CHART / "ci" / f"{name}-values.yaml"


def pods(objects):
    for (kind, _), each in objects.items():
        if kind in PODS:
            yield reduce(getitem, PODS[kind], each)["spec"]


def paraf_of(spec):
    (found,) = [each for each in (*spec.get("initContainers", ()), *spec["containers"]) if each["name"] == "paraf"]
    return found


def settings_of(objects):
    return next(each["data"]["paraf.yaml"] for (kind, _), each in objects.items() if kind == "ConfigMap")


# What Helm says


def test_there_are_values_enough():
    assert len(VALUES) >= 8


@pytest.mark.parametrize("helm", HELMS)
def test_both_helms_are_those_that_they_are_named(helm):
    assert run(helm, "version", "--short").stdout.startswith(f"v{helm[-1]}.")


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("name", NAMES)
def test_lint(helm, name):
    done = run(helm, "lint", "--strict", CHART, "-f", values_file(name))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_both_render_the_same_bytes_each_time(name):
    assert len({template(helm, CHART, "-f", values_file(name)) for helm in (*HELMS, *HELMS)}) == 1


def test_packages_hold_what_is_needed(tmp_path):
    for helm in HELMS:
        folder = tmp_path / helm
        done = run(helm, "package", CHART, "-d", folder)
        assert done.returncode == 0, done.stderr
        (archive,) = folder.iterdir()
        names = subprocess.run(["tar", "tzf", archive], capture_output=True, text=True, check=True).stdout.split()
        inside = {str(file.relative_to(CHART)) for file in CHART.rglob("*") if file.is_file()}
        left_out = {file for file in inside if file.startswith("ci/")}
        assert {name.removeprefix("paraf/") for name in names} == inside - left_out
        assert template(helm, archive, "-f", values_file("gateway")) == template(
            helm, CHART, "-f", values_file("gateway")
        )


def test_every_object_is_one_of_kubernetes(tmp_path):
    everything = [rendered(file) for file in VALUES] + [rendered(chart=shop(tmp_path))]
    checked = [each for objects in everything for (kind, _), each in objects.items() if kind not in CUSTOM]
    assert (len(checked) > 40, VERSIONS[0], len(VERSIONS) > 5) == (True, "1.29", True)
    for version in VERSIONS:
        for each in checked:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_wrong_object_would_be_seen():
    wrong = one(rendered(values_file("gateway")), "Deployment") | {"speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


# Values and their schema


def leaves(schema, path=()):
    """Paths of the values of a closed schema: a part that is open, or a list, is one value."""
    below = schema.get("properties")
    if not below or "additionalProperties" not in schema:
        yield ".".join(path)
        return
    for name, each in below.items():
        yield from leaves(each, (*path, name))


def written(values, path=()):
    for name, each in values.items():
        here = (*path, name)
        if isinstance(each, dict) and each and ".".join(here) in PARENTS:
            yield from written(each, here)
        else:
            yield ".".join(here)


SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
LEAVES = set(leaves(SCHEMA)) - {"global"}
PARENTS = {leaf.rsplit(".", depth)[0] for leaf in LEAVES for depth in range(1, leaf.count(".") + 1)}


def test_schema_and_values_name_the_same():
    assert set(written(DEFAULTS)) | {"resources.claims"} == LEAVES


def test_the_readme_tells_of_every_value():
    text = (CHART / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*?) \| .+ \|$", text, re.MULTILINE))
    assert set(rows) == set(written(DEFAULTS))
    for path, shown in rows.items():
        value = DEFAULTS
        for step in path.split("."):
            value = value[step]
        if shown.startswith("`"):
            assert yaml.safe_load(shown.strip("`")) == value, path
        else:
            assert isinstance(value, list | dict), path


def objects_of(schema):
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for each in schema.values():
            yield from objects_of(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects_of(each)


def test_the_schema_is_closed():
    open_ones = [each for each in objects_of(SCHEMA) if each.get("additionalProperties", True) is True]
    assert open_ones == []


def test_the_schema_knows_the_configuration_of_this_version():
    """If this fails: python tests/kube/chart_schema.py"""
    assert chart_schema.text(chart_schema.renewed(SCHEMA)) == chart_schema.text(SCHEMA)


MISTYPED = {
    "a value": {"imag": {}},
    "below": {"gateway": {"replica": 2}},
    "a setting": {"config": {"rotes": {}}},
    "what the chart sets": {"config": {"listen": "0.0.0.0:1"}},
    "a switch": {"config": {"routes": {"doku": {"provider": "doku", "credentials": {}, "canonikal": "raw"}}}},
    "a secret": {"config": {"routes": {"doku": {"provider": "doku", "credentials": {"client_secret": "SK-1"}}}}},
    "a number for a text": {"config": {"routes": {"doku": {"provider": "doku", "credentials": {"client_id": 1234}}}}},
    "a kubernetes name": {"existingSecrets": {"kubernetes.io": "x"}},
}


@pytest.mark.parametrize("case", MISTYPED)
def test_what_is_mistyped_is_refused(case):
    said = refused(values_file("gateway"), **MISTYPED[case])
    assert said.count("values don't meet the specifications") == 2


@pytest.mark.parametrize("profile", chart_schema.exclusive())
@pytest.mark.parametrize("store", [None, "memory", "file:///var/lib/paraf"])
def test_an_exclusive_account_without_a_shared_store_is_alone(profile, store):
    routes = {"doku": {"provider": "doku", "credentials": {}}, "x": {"provider": profile, "credentials": {}}}
    config = {"routes": routes, **({"store": store} if store else {})}
    assert "replicas" in refused(config=config)
    assert "autoscaling" in refused(config=config, gateway={"replicas": 1, "autoscaling": {"enabled": True}})
    assert "strategy" in refused(config=config, gateway={"replicas": 1, "strategy": "RollingUpdate"})
    deployment = one(rendered(config=config, gateway={"replicas": 1}), "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("store", ["redis://r:6379/0", "rediss://r:6379/0", {"url": "rediss://r:6379/0"}])
def test_with_redis_it_may_have_company(store):
    config = {"routes": {"x": {"provider": "netzme", "credentials": {}}}, "store": store}
    policy = {"redis": [{"to": {"podSelector": {}}, "port": 6379}]}
    deployment = one(rendered(config=config, gateway={"replicas": 3, "networkPolicy": policy}), "Deployment")
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


UNSAID = {
    "nothing to serve": ({}, "set one of config.routes"),
    "two of them": ({"sandbox": {"enabled": True}, "existingConfigMap": "x"}, "set one of config.routes"),
    "redis behind the policy": (
        {"config": {"store": "redis://r", "routes": {"d": {"provider": "doku", "credentials": {}}}}},
        "gateway.networkPolicy.redis",
    ),
    "prometheus behind the policy": (
        {"sandbox": {"enabled": True}, "monitoring": {"podMonitor": {"enabled": True}}},
        "gateway.networkPolicy.monitoring",
    ),
}


@pytest.mark.parametrize("case", UNSAID)
def test_what_cannot_work_is_said_in_words(case):
    values, words = UNSAID[case]
    assert refused(**(values or {"fullnameOverride": "x"})).count(words) == 2


# What is rendered


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_passes_the_restricted_standard(name, tmp_path):
    objects = rendered(values_file(name)) | rendered(chart=shop(tmp_path))
    for spec in pods(objects):
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
        for each in (*spec.get("initContainers", ()), *spec["containers"]):
            restricted(spec.get("securityContext", {}) | each["securityContext"], of_paraf=each["name"] == "paraf")


def restricted(context, *, of_paraf):
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context.get("readOnlyRootFilesystem", False) is of_paraf or not of_paraf


@pytest.mark.parametrize("name", [name for name in NAMES if name != "existing"])
def test_paraf_understands_its_configuration(name):
    """As `paraf check` reads it, but for secrets."""
    text = settings_of(rendered(values_file(name)))
    if "routes:" not in text:
        text += "\nroutes: {d: {provider: doku, environment: sandbox, credentials: {client_id: x}}}"
    settings, _ = read_settings(text, "paraf.yaml", environ={})
    gateway = name != "sidecar"
    assert [str(each) for each in settings.listen] == ["0.0.0.0:8080" if gateway else "127.0.0.1:8080"]
    assert (str(settings.admin), str(settings.control)) == ("0.0.0.0:9464", "unix:/run/paraf/control.sock")


def test_texts_stay_texts_through_helm():
    settings, _ = read_settings(settings_of(rendered(values_file("secrets"))), "paraf.yaml", environ={})
    routes = {route.name: route for route in settings.routes}
    assert routes["klikoo"].credentials["client_id"].value.reveal() == "00012345"
    assert (routes["doku"].limits.queue, routes["doku"].limits.body) == (0, 64 << 10)


def test_a_changed_configuration_rolls_the_pods():
    marks = set()
    for level in ("info", "debug", "info"):
        deployment = one(rendered(values_file("secrets"), config={"log": {"level": level}}), "Deployment")
        marks.add(deployment["spec"]["template"]["metadata"]["annotations"]["paraf/config-checksum"])
    assert len(marks) == 2


def test_time_to_end_is_more_than_the_drain():
    deployment = one(rendered(values_file("autoscaling")), "Deployment")
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 15 + 40 + 5
    assert "replicas" not in deployment["spec"]


def test_secrets_are_mounted_where_the_configuration_looks():
    for name in ("secret", "secrets", "csi", "redis"):
        objects = rendered(values_file(name))
        spec = one(objects, "Deployment")["spec"]["template"]["spec"]
        mounts = {each["mountPath"]: each["name"] for each in paraf_of(spec)["volumeMounts"]}
        files = re.findall(r"file: (/\S+)", settings_of(objects))
        assert files
        assert {str(Path(file).parent) for file in files} <= mounts.keys()
        assert {each["name"] for each in spec["volumes"]} == set(mounts.values())


def test_only_named_pods_come_in_and_only_providers_are_reached():
    policy = one(rendered(values_file("redis")), "NetworkPolicy")["spec"]
    (callers,) = policy["ingress"]
    assert callers["from"] == [{"podSelector": {"matchLabels": {"paraf/caller": "true"}}}]
    assert callers["ports"] == [{"port": 8080, "protocol": "TCP"}]
    ports = [sorted({each["port"] for each in rule["ports"]}) for rule in policy["egress"]]
    assert ports == [[53], [443], [6379]]
    everywhere = policy["egress"][1]["to"][0]["ipBlock"]
    assert "10.0.0.0/8" in everywhere["except"]


def test_a_policy_with_nobody_lets_nobody_in():
    policy = {"callers": [], "dns": [], "upstreams": []}
    rules = one(rendered(values_file("gateway"), gateway={"networkPolicy": policy}), "NetworkPolicy")["spec"]
    assert (rules["ingress"], rules["egress"]) == ([], [])


def test_monitoring():
    objects = rendered(values_file("monitoring"))
    rule, dashboard = one(objects, "PrometheusRule"), objects["ConfigMap", "web-paraf-dashboard"]
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "paraf.rules.yaml").read_text("utf-8"))
    shown = json.loads((ROOT / "deploy" / "grafana" / "paraf.json").read_text("utf-8"))
    assert json.loads(dashboard["data"]["paraf.json"]) == shown
    service = objects["Service", "web-paraf"]
    monitor = one(objects, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {each["name"] for each in service["spec"]["ports"]}
    pod = one(objects, "Deployment")["spec"]["template"]
    watched = one(objects, "PodMonitor")["spec"]
    assert watched["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert watched["podMetricsEndpoints"][0]["port"] in {each["name"] for each in paraf_of(pod["spec"])["ports"]}


@pytest.mark.parametrize(("folder", "name"), [("prometheus", "paraf.rules.yaml"), ("grafana", "paraf.json")])
def test_the_chart_has_the_same_files(folder, name):
    """A chart cannot reach beyond itself. If this fails: copy the file."""
    assert (CHART / "files" / name).read_bytes() == (ROOT / "deploy" / folder / name).read_bytes()


def test_the_test_pod_never_pays():
    asked = rendered(values_file("secret"))["Pod", "web-paraf-test"]["spec"]["containers"][0]["args"][0]
    assert "TRACE" in asked
    assert "create-va" not in asked
    pod = rendered(values_file("gateway"))["Pod", "web-paraf-test"]
    assert "create-va" in pod["spec"]["containers"][0]["args"][0]
    assert pod["metadata"]["labels"]["paraf/caller"] == "true"
    elsewhere = rendered(values_file("gateway"), test={"url": "http://10.1.2.3:8080"})["Pod", "web-paraf-test"]
    assert elsewhere["spec"]["containers"][0]["args"][1] == "http://10.1.2.3:8080"


def test_one_version_everywhere():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == chart["version"] == proxy.__version__
    assert f'"paraf.version" -}}}}{proxy.__version__}{{{{' in (CHART / "templates" / "_names.tpl").read_text("utf-8")
    assert f"ARG VERSION={proxy.__version__}\n" in (ROOT / "Dockerfile").read_text("utf-8")


# As a part of a merchant's chart


def test_in_another_chart_there_is_no_gateway_unless_asked(tmp_path):
    place = shop(tmp_path)
    (place / "values.yaml").write_text(
        place.joinpath("values.yaml").read_text().replace("  gateway:\n    enabled: false\n", "")
    )
    objects = rendered(chart=place)
    assert set(objects) == {("ConfigMap", "web-paraf"), ("Deployment", "web"), ("Job", "web-settle")}
    assert ("Service", "web-paraf") in rendered(chart=place, paraf={"gateway": {"enabled": True}})


@pytest.mark.parametrize("helm", HELMS)
def test_the_example_of_a_merchant_lints(helm, tmp_path):
    done = run(helm, "lint", "--strict", shop(tmp_path))
    assert done.returncode == 0, done.stdout


def test_the_sidecar_listens_on_loopback_and_names_its_config_map(tmp_path):
    objects = rendered(chart=shop(tmp_path))
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes["paraf-config"]["configMap"]["name"] == "web-paraf"
    assert "listen: 127.0.0.1:8080" in settings_of(objects)
    assert spec["initContainers"][0]["restartPolicy"] == "Always"


def test_the_classic_form_for_old_clusters(tmp_path):
    objects = rendered(chart=shop(tmp_path), paraf={"sidecar": {"native": False}})
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["containers"]] == ["shop", "paraf"]
    assert "restartPolicy" not in spec["containers"][1]
    assert "delay: 10s" in settings_of(objects)


@pytest.mark.parametrize("helm", HELMS)
def test_an_old_cluster_is_told_apart(helm, tmp_path):
    """There an init container that never ends would keep the app from starting for ever."""
    old = run(helm, "template", "web", shop(tmp_path), "--kube-version", "1.28.9")
    assert "no native sidecars" in old.stderr
    classic = {"paraf": {"sidecar": {"native": False}}}
    assert template(helm, tmp_path / "shop", "--kube-version", "1.28.9", values=classic)
    assert template(helm, tmp_path / "shop", "--kube-version", "1.29.0")


def test_under_an_alias(tmp_path):
    place = shop(tmp_path)
    for file in (place / "Chart.yaml", place / "values.yaml", *(place / "templates").iterdir()):
        text = file.read_text()
        text = re.sub(r'(include "paraf[.]\w+") [.]', r'\1 (dict "root" $ "values" .Values.pay)', text)
        text = text.replace(".Values.paraf.", ".Values.pay.").replace("\nparaf:", "\npay:")
        file.write_text(text.replace("    version: 0.1.0\n", "    version: 0.1.0\n    alias: pay\n"))
    assert rendered(chart=place) == rendered(chart=shop(tmp_path / "other"))


@pytest.mark.parametrize("native", [True, False])
def test_chart_and_injector_make_the_same_sidecar(tmp_path, native):
    objects = rendered(chart=shop(tmp_path), paraf={"sidecar": {"native": native}})
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]
    settings, _ = read_settings(settings_of(objects), "paraf.yaml", environ={})
    made = sidecar(
        settings,
        image=f"paraf:{proxy.__version__}",
        config_map="web-paraf",
        env_secret="doku-credentials",
        secrets={"/run/secrets/paraf": "doku-credentials"},
        native=native,
    )
    theirs, ours = paraf_of(spec), made.container()
    for each in (theirs, ours):
        each.pop("imagePullPolicy", None)
        each.pop("env")
        each["volumeMounts"][2].pop("name")
    assert theirs == ours
