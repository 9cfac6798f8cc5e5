"""`paraf inject` as its users run it: manifests on stdin, manifests on stdout."""

import copy
import subprocess
import sys

import pytest
import yaml

CONFIG = """\
version: 1
# ours
routes:
  doku:
    provider: doku
    environment: sandbox
    credentials:
      client_id: {env: DOKU_CLIENT_ID}
      client_secret: {file: /run/secrets/doku/client_secret}
      private_key: {file: /run/secrets/doku/private.pem, passphrase: {env: DOKU_PASS}}
  netzme:
    provider: netzme
    environment: stage
    credentials:
      client_id: toko-1
      client_secret: {file: /run/secrets/netzme/client_secret}
"""
POD = {"containers": [{"name": "shop", "image": "shop:1"}]}
PATHS = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}


def workload(kind, pod=None, **metadata):
    inner = copy.deepcopy({"metadata": {"labels": {"app": "shop"}}, "spec": pod or POD})
    for step in reversed(PATHS[kind]):
        inner = {step: inner}
    inner["metadata"] = {**inner.get("metadata", {}), "name": "shop", **metadata}
    return {"apiVersion": "v1", "kind": kind, **inner}


def pod_of(document):
    for step in PATHS[document["kind"]]:
        document = document[step]
    return document


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "paraf.yaml").write_text(CONFIG)
    return tmp_path


def run(folder, manifest, *arguments):
    text = manifest if isinstance(manifest, str) else yaml.safe_dump_all(manifest, sort_keys=False)
    command = (sys.executable, "-m", "proxy", "inject", "-c", str(folder / "paraf.yaml"), *arguments)
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


def injected(folder, manifest, *arguments):
    done = run(folder, manifest, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(text):
    return [each for each in yaml.safe_load_all(text) if each]


@pytest.mark.parametrize("kind", PATHS)
def test_each_kind_gets_a_native_sidecar_in_front(folder, kind):
    pod = {"initContainers": [{"name": "first", "image": "x"}], **POD}
    found, config_map = documents(injected(folder, [workload(kind, pod)]))
    spec = pod_of(found)["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["paraf", "first"]
    assert spec["containers"] == POD["containers"]
    sidecar = spec["initContainers"][0]
    assert (sidecar["restartPolicy"], sidecar["startupProbe"]["httpGet"]["path"]) == ("Always", "/startupz")
    assert pod_of(found)["metadata"]["labels"] == {"app": "shop"}
    assert config_map["kind"] == "ConfigMap"


@pytest.mark.parametrize("kind", PATHS)
def test_the_classic_form_is_a_container(folder, kind):
    found, config_map = documents(injected(folder, [workload(kind)], "--classic"))
    spec = pod_of(found)["spec"]
    assert [each["name"] for each in spec["containers"]] == ["shop", "paraf"]
    assert "initContainers" not in spec
    assert "restartPolicy" not in spec["containers"][1]
    assert yaml.safe_load(config_map["data"]["paraf.yaml"])["drain"] == {"delay": "10s"}


@pytest.mark.parametrize("arguments", [(), ("--classic",)])
def test_a_second_run_changes_nothing(folder, arguments):
    once = injected(folder, [workload(kind) for kind in PATHS], *arguments)
    assert injected(folder, once, *arguments) == once


def test_from_one_form_to_the_other_and_back(folder):
    native = injected(folder, [workload("Job"), workload("Pod")])
    classic = injected(folder, native, "--classic")
    assert documents(classic) == documents(injected(folder, [workload("Job"), workload("Pod")], "--classic"))
    assert documents(injected(folder, classic)) == documents(native)


def test_a_changed_configuration_replaces_what_was_there(folder):
    once = injected(folder, [workload("Deployment")])
    (folder / "paraf.yaml").write_text(CONFIG.replace("/run/secrets/netzme", "/run/secrets/other"))
    again = injected(folder, once)
    fresh = injected(folder, [workload("Deployment")])
    assert documents(again) == documents(fresh)
    assert again.count("kind: ConfigMap") == 1
    marks = [pod_of(documents(each)[0])["metadata"]["annotations"]["paraf/config-checksum"] for each in (once, again)]
    assert marks[0] != marks[1]


def test_secrets_come_from_secrets_that_exist(folder):
    (found, _) = documents(injected(folder, [workload("Deployment")], "--secret", "/run/secrets/netzme=netzme-live"))
    spec = pod_of(found)["spec"]
    sidecar = spec["initContainers"][0]
    assert {each["name"]: each["valueFrom"]["secretKeyRef"] for each in sidecar["env"]} == {
        name: {"name": "paraf", "key": name} for name in ("DOKU_CLIENT_ID", "DOKU_PASS")
    }
    mounted = {each["mountPath"]: each["name"] for each in sidecar["volumeMounts"]}
    volumes = {each["name"]: each for each in spec["volumes"]}
    for path, secret in (("/run/secrets/doku", "doku"), ("/run/secrets/netzme", "netzme-live")):
        assert volumes[mounted[path]]["secret"]["secretName"] == secret


def test_no_secret_is_asked_for_here(folder):
    """The files of the configuration are the pod's; what is printed holds references alone."""
    assert "client_secret: {file: /run/secrets/doku/client_secret}" in injected(folder, [workload("Pod")])


def test_the_sidecar_passes_the_restricted_pod_security_standard(folder):
    sidecar = pod_of(documents(injected(folder, [workload("Deployment")]))[0])["spec"]["initContainers"][0]
    context = sidecar["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    ("written", "admin"),
    [("", "0.0.0.0:9464"), ("admin: 127.0.0.1:9999\n", "0.0.0.0:9999"), ("admin: 10.0.0.1:9998\n", "10.0.0.1:9998")],
)
def test_the_kubelet_reaches_the_probes(folder, written, admin):
    (folder / "paraf.yaml").write_text(CONFIG.replace("# ours\n", f"# ours\n{written}"))
    found, config_map = documents(injected(folder, [workload("Pod")]))
    text = config_map["data"]["paraf.yaml"]
    assert yaml.safe_load(text)["admin"] == admin
    assert yaml.safe_load(text)["control"] == "unix:/run/paraf/control.sock"
    assert "# ours\n" in text
    port = int(admin.rpartition(":")[2])
    sidecar = found["spec"]["initContainers"][0]
    assert {sidecar[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "readiness", "liveness")} == {port}


WRITTEN = """\
# a shop
apiVersion: v1
kind: Service
metadata: {name:   shop}
---
apiVersion: apps/v1
kind: Deployment   # the app
metadata:
  name: shop
spec:
  template:
    spec:
      containers:
        - name: shop
          image: "shop:1"   # pinned
          env:
            - {name: MODE, value: '0644'}
            # for debugging
            - name: ON
              value: "yes"
          args: [a, 'b', 012, 1e3]
---
# nothing here
---
kind: List
apiVersion: v1
items: [{kind: Secret,   apiVersion: v1}]
"""


def test_comments_order_and_quotes_stay(folder):
    """The written lines, in their order: nothing but ours is added."""
    lines = iter(injected(folder, WRITTEN).splitlines())
    assert [line for line in WRITTEN.splitlines() if line not in lines] == []


def test_documents_without_pods_stay_byte_for_byte(folder):
    text = injected(folder, WRITTEN)
    first, last = WRITTEN.partition("---\n")[0], WRITTEN[WRITTEN.index("---\n# nothing") :]
    assert text.startswith(first)
    assert last in text


def test_lists_and_namespaces(folder):
    items = [workload("Deployment", namespace="a"), workload("CronJob", namespace="b"), workload("Pod", namespace="a")]
    found, *config_maps = documents(injected(folder, [{"apiVersion": "v1", "kind": "List", "items": items}]))
    assert all(pod_of(each)["spec"]["initContainers"][0]["name"] == "paraf" for each in found["items"])
    assert [each["metadata"]["namespace"] for each in config_maps] == ["a", "b"]


def test_an_existing_config_map_is_named_and_not_printed(folder):
    (found,) = documents(injected(folder, [workload("Pod")], "--config-map", "ours", "--existing-config-map"))
    volumes = {each["name"]: each for each in found["spec"]["volumes"]}
    assert volumes["paraf-config"]["configMap"] == {"name": "ours"}


def test_a_pod_can_opt_out(folder):
    quiet = workload("Deployment")
    pod_of(quiet)["metadata"]["annotations"] = {"paraf/inject": "false"}
    left, _, _ = documents(injected(folder, [quiet, workload("Job")]))
    assert left == quiet


REFUSED = {
    "no pods": ([{"apiVersion": "v1", "kind": "Service"}], "no Deployment"),
    "host network": ([workload("Pod", {**POD, "hostNetwork": True})], "hostNetwork"),
    "a port of the app": (
        [workload("Pod", {"containers": [{"name": "shop", "ports": [{"containerPort": 8080}]}]})],
        "port 8080",
    ),
    "a container of that name": ([workload("Pod", {"containers": [{"name": "paraf"}]})], "container paraf"),
    "no spec": ([{"apiVersion": "v1", "kind": "Deployment"}], "no spec"),
    "a template": ("kind: Deployment\nmetadata: {{ name }}: x\n", "not valid YAML, in line 2"),
    "no text": ("kind: \x07\n", "not valid YAML"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused(folder, case):
    manifest, words = REFUSED[case]
    done = run(folder, manifest)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


CHANGED = {
    "reachable from outside": ("# ours", "listen: 0.0.0.0:8080", "only the pod itself"),
    "no admin": ("# ours", "admin: off", "probes"),
    "relative": ("/run/secrets/doku/private.pem", "private.pem", "full path"),
    "nested": ("/run/secrets/netzme/", "/run/secrets/doku/netzme/", "in each other"),
    "in our folder": ("/run/secrets/netzme/", "/etc/paraf/", "nor in /etc/paraf"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_configuration_that_no_pod_can_have_is_refused(folder, case):
    old, new, words = CHANGED[case]
    (folder / "paraf.yaml").write_text(CONFIG.replace(old, new))
    done = run(folder, [workload("Pod")])
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


def test_findings_of_the_configuration_are_told(folder):
    (folder / "paraf.yaml").write_text(CONFIG.replace("provider: doku", "providerr: doku"))
    done = run(folder, [workload("Pod")])
    assert (done.returncode, done.stdout) == (78, "")
    assert "did you mean provider?" in done.stderr


@pytest.mark.parametrize("given", ["doku", "run/secrets=doku", "/run/secrets=Doku!"])
def test_a_secret_is_named_by_folder_and_name(folder, given):
    assert run(folder, [workload("Pod")], "--secret", given).returncode == 2
