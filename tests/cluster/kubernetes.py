"""Chart and injector on a real Kubernetes of one node. By hand: python tests/cluster/kubernetes.py

The image must be there (tests/cluster/image.py builds it). What is needed beside it: node.py.
"""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import yaml
from node import NODE, Cluster, cluster_of_one
from showing import IMAGE, ROOT, check, finish, run, said, until

sys.path.insert(0, str(ROOT / "tests" / "kube"))
from processes import ask, hung_up
from rendering import CHART, VALUES, rendered, shop

OURS = ("--set", f"image.repository={IMAGE.rpartition(':')[0]}")
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
SANDBOX = f"{NODE}:19080"
CALL = b'{"partnerServiceId": "  088899", "trxId": "INV-1"}'
TARGET = "/doku/virtual-accounts/bi-snap-va/v1.1/transfer-va/create-va"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
PATHS = {"Deployment": ("spec", "template"), "Job": ("spec", "template")}


def namespace(cluster, name, *, restricted=True):
    cluster.kubectl("create", "namespace", name)
    if restricted:
        cluster.kubectl("label", "namespace", name, RESTRICTED)
    until(lambda: run("kubectl", "--kubeconfig", cluster.kubeconfig, "-n", name, "get", "sa", "default",
                      check=False).stdout, what="the service account")  # fmt: skip


def pods(cluster, space, selector=""):
    found = cluster.get("pods", "-n", space, *(("-l", selector) if selector else ()))["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def is_ready(pod):
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and bool(pod["status"].get("podIP"))


def signed(address):
    """The status of a plain call through the gateway at this address."""
    told = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", f"http://{address}:8080{TARGET}", "-H",
               "Content-Type: application/json", "--data-binary", CALL.decode(), check=False)  # fmt: skip
    return int(told.stdout or 0)


# Admission


def dry_run(cluster, told):
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        sources = [rendered(file) for file in VALUES] + [rendered(chart=shop(Path(folder)))]
    namespace(cluster, "pay")
    for objects in sources:
        known = [each for (kind, _), each in objects.items() if kind not in CUSTOM]
        cluster.apply(*known, arguments=("-n", "pay", "--dry-run=server", "--validate=strict"))
        count += len(known)
        for (kind, _), each in objects.items():
            inner = each
            for step in PATHS.get(kind, ()):
                inner = inner[step]
            if kind in {*PATHS, "Pod"}:
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": inner["spec"]}
                pod["spec"].pop("serviceAccountName", None)
                pod["spec"].pop("priorityClassName", None)
                pod["spec"]["restartPolicy"] = pod["spec"].get("restartPolicy", "Always")
                cluster.apply(pod, arguments=("-n", "pay", "--dry-run=server", "--validate=strict"))
                count += 1
    told.append(f"{count} objects")


def admission_works(cluster, told):
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
            "spec": {"containers": [{"name": "x", "image": IMAGE}]}}  # fmt: skip
    done = run("kubectl", "--kubeconfig", cluster.kubeconfig, "apply", "-n", "pay", "--dry-run=server", "-f", "-",
               stdin=yaml.safe_dump(bare), check=False)  # fmt: skip
    assert "violates PodSecurity" in done.stderr, done.stderr
    told.append("a pod without our settings is refused")


# The gateway with the bundled sandbox


def gateway_installs(cluster, told):
    namespace(cluster, "empty")
    begun = time.monotonic()
    command = ["helm4", "--kubeconfig", cluster.kubeconfig, "install", "paraf", CHART, "-n", "empty", "-f",
               CHART / "ci" / "gateway-values.yaml", *OURS, "--wait", "--timeout", "120s"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as helm:
        until(lambda: any(signed(each["status"]["podIP"]) == 200 for each in pods(cluster, "empty")
                          if each["status"].get("podIP")), 120, "an accepted request")  # fmt: skip
        told.append(f"first accepted signed request {time.monotonic() - begun:.1f} s after helm install began")
        words, _ = helm.communicate(timeout=150)
        assert helm.returncode == 0, words
    told.append(f"installed after {time.monotonic() - begun:.1f} s")


def helm_test(cluster, told):
    address = pods(cluster, "empty")[0]["status"]["podIP"]
    cluster.helm("upgrade", "paraf", CHART, "-n", "empty", "--reuse-values", "--set",
                 f"test.url=http://{address}:8080", "--wait")  # fmt: skip
    words = cluster.helm("test", "paraf", "-n", "empty", "--logs", "--timeout", "90s")
    assert "Succeeded" in words
    assert "200" in words
    told.append("the sandbox accepted")


def gateway_upgrades(cluster, told):
    before = {each["metadata"]["name"] for each in pods(cluster, "empty", "app.kubernetes.io/name=paraf")}
    cluster.helm("upgrade", "paraf", CHART, "-n", "empty", "--reuse-values", "--set", "config.log.level=warning",
                 "--wait", "--timeout", "120s")  # fmt: skip
    after = {each["metadata"]["name"] for each in pods(cluster, "empty", "app.kubernetes.io/name=paraf")}
    assert not before & after
    told.append("a changed configuration rolled both pods")


def gateway_uninstalls(cluster, told):
    cluster.helm("uninstall", "paraf", "-n", "empty", "--wait", "--timeout", "120s")
    cluster.kubectl("delete", "pod", "paraf-test", "-n", "empty", "--ignore-not-found")
    until(lambda: not cluster.get("pods", "-n", "empty")["items"], 60, "the end of the pods")
    kinds = "deployments,services,configmaps,networkpolicies,poddisruptionbudgets,serviceaccounts,pods"
    left = {each["metadata"]["name"] for each in cluster.get(kinds, "-n", "empty")["items"]}
    assert left <= {"kube-root-ca.crt", "default"}, left
    told.append("nothing is left")


# A sandbox outside, and what it issued in Secrets


@contextmanager
def sandbox(folder):
    """On the node; its configuration with the secrets in files."""
    command = (sys.executable, "-m", "proxy", "sandbox", "--listen", SANDBOX, "--provider", "doku", "--provider",
               "doku-nonsnap", "--write", str(folder))  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as served:
        try:
            until((folder / "paraf.yaml").exists, what="the sandbox")
            yield yaml.safe_load((folder / "paraf.yaml").read_text())["routes"]
        finally:
            served.send_signal(signal.SIGTERM)


def secret(cluster, space, folder, routes):
    """The sandbox's secrets, and the client ids, as keys of one Secret."""
    values = {file.name: file.read_text() for file in folder.iterdir() if file.name != "paraf.yaml"}
    values |= {f"{name}.client_id": route["credentials"]["client_id"] for name, route in routes.items()}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sandbox", "namespace": space},
                   "stringData": values})  # fmt: skip


def configured(routes):
    for name, route in routes.items():
        names = {"client_id", *route["credentials"]}
        route["credentials"] = {key: {"file": f"/run/secrets/paraf/{name}.{key}"} for key in sorted(names)}
    return {"routes": routes, "log": {"format": "json"}}


def times(status, which):
    state = status["state"].get("terminated") or status["state"].get("running") or {}
    return state.get(which, "")


def statuses(pod):
    both = (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ()))
    return {each["name"]: each for each in both}


def sidecars(cluster, told, config):
    """The merchant's example chart with values for the sandbox: its Deployment, and its Job that ends."""
    of_paraf = {"image": {"repository": IMAGE.rpartition(":")[0]}, "config": config, "existingSecret": "sandbox"}
    values = {"image": IMAGE, "paraf": {"gateway": {"enabled": False}, **of_paraf}}
    with tempfile.TemporaryDirectory() as folder:
        chart = shop(Path(folder))
        (chart / "values.yaml").write_text(yaml.safe_dump(values))
        cluster.helm("install", "web", chart, "-n", "shop", "--wait", "--timeout", "120s")
    begun = time.monotonic()
    cluster.kubectl("wait", "-n", "shop", "--for=condition=complete", "job/web-settle", "--timeout=90s")
    (pod,) = pods(cluster, "shop", "batch.kubernetes.io/job-name=web-settle")
    found = statuses(pod)
    app, paraf = found["settle"], found["paraf"]
    assert "responseCode" in cluster.kubectl("logs", "-n", "shop", pod["metadata"]["name"], "-c", "settle")
    assert paraf["state"]["terminated"]["exitCode"] == 0
    assert times(paraf, "finishedAt") >= times(app, "finishedAt")
    assert times(app, "startedAt") >= times(paraf, "startedAt")
    told.append(
        f"Job complete {time.monotonic() - begun:.1f} s after the Deployment was ready; Paraf ended after the app"
    )


def gated(cluster, told):
    """A Paraf that is not ready keeps the app from starting: a Secret without what the configuration names."""
    manifest = cluster.get("deployment", "web", "-n", "shop")
    spec = manifest["spec"]["template"]["spec"]
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hollow", "namespace": "shop"},
                   "stringData": {"other": "text"}})  # fmt: skip
    for volume in spec["volumes"]:
        if "secret" in volume:
            volume["secret"]["secretName"] = "hollow"
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gated", "namespace": "shop"}, "spec": spec})
    tried = ("kubectl", "--kubeconfig", cluster.kubeconfig, "-n", "shop", "logs", "gated", "-c", "paraf")
    until(
        lambda: (
            "cannot be read" in run(*tried, check=False).stdout
            or "78" in json.dumps(cluster.get("pod", "gated", "-n", "shop")["status"].get("initContainerStatuses", ()))
        ),
        60,
        "Paraf's refusal",
    )
    time.sleep(3)
    status = statuses(cluster.get("pod", "gated", "-n", "shop"))["shop"]
    assert status["state"]["waiting"]["reason"] == "PodInitializing", status
    cluster.kubectl("delete", "pod", "gated", "-n", "shop", "--now")
    told.append("with a Secret that lacks the key Paraf exits 78, and the app does not start")


def injected_job(cluster, told, config):
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "injected", "namespace": "shop"},
           "spec": {"backoffLimit": 0, "template": {"spec": rendered_job_spec()}}}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "paraf.yaml"
        file.write_text(yaml.safe_dump({"version": 1, **config}))
        manifest = said(sys.executable, "-m", "proxy", "inject", "-c", file, "--image", IMAGE, "--secret",
                        "/run/secrets/paraf=sandbox", stdin=yaml.safe_dump(job))  # fmt: skip
    cluster.kubectl("apply", "-f", "-", stdin=manifest)
    begun = time.monotonic()
    cluster.kubectl("wait", "-n", "shop", "--for=condition=complete", "job/injected", "--timeout=90s")
    told.append(f"complete after {time.monotonic() - begun:.1f} s")


def rendered_job_spec():
    """The example's Job without the sidecar."""
    with tempfile.TemporaryDirectory() as folder:
        spec = rendered(chart=shop(Path(folder)), image=IMAGE)["Job", "web-settle"]["spec"]["template"]["spec"]
    return {key: value for key, value in spec.items() if key not in ("initContainers", "volumes")}


# A gateway with an account, under load


def gateway(cluster, config):
    config["routes"]["doku-nonsnap"]["prefix"] = "/pay"
    values = {"config": config, "existingSecret": "sandbox", "image": {"repository": IMAGE.rpartition(":")[0]}}
    cluster.helm("install", "paraf", CHART, "-n", "gate", "-f", "-", "--wait", "--timeout", "120s",
                 stdin=yaml.safe_dump(values))  # fmt: skip


class Crowd:
    """Callers that go where a Service would send them: to the addresses that are ready now."""

    def __init__(self, cluster):
        self.cluster, self.ready, self.over = cluster, [], asyncio.Event()
        self.count, self.turn = Counter(), itertools.count()

    async def follow(self):
        while not self.over.is_set():
            found = await asyncio.to_thread(pods, self.cluster, "gate", "app.kubernetes.io/name=paraf")
            self.ready = [each["status"]["podIP"] for each in found if is_ready(each)]
            await asyncio.sleep(0.3)

    async def call(self, *, kept):
        while not self.over.is_set():
            if not self.ready:
                await asyncio.sleep(0.05)
                continue
            address = self.ready[next(self.turn) % len(self.ready)]
            try:
                reader, writer = await asyncio.open_connection(address, 8080)
            except OSError:
                self.count["not connected"] += 1
                continue
            again = True
            while again and not self.over.is_set():
                try:
                    status, stays, _ = await ask(reader, writer, keep=kept)
                except (ConnectionError, asyncio.IncompleteReadError):
                    self.count["lost"] += 1
                    break
                self.count[str(status)] += 1
                again = kept and stays
                await asyncio.sleep(0.01)
            await hung_up(writer)

    async def during(self, deed):
        tasks = [asyncio.create_task(self.follow())]
        tasks += [asyncio.create_task(self.call(kept=kept)) for kept in (True, True, True, True, False, False)]
        await asyncio.sleep(3)
        await asyncio.to_thread(deed)
        await asyncio.sleep(1)
        self.over.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)


def rolls_under_load(cluster, told):
    def roll():
        cluster.kubectl("rollout", "restart", "deployment/paraf", "-n", "gate")
        cluster.kubectl("rollout", "status", "deployment/paraf", "-n", "gate", "--timeout=180s")
        until(lambda: len(cluster.get("pods", "-n", "gate")["items"]) == 2, 60, "the end of the old pods")

    crowd = Crowd(cluster)
    asyncio.run(crowd.during(roll))
    told.append(str(dict(crowd.count)))
    assert set(crowd.count) == {"200"}
    assert crowd.count["200"] > 500


def rotates(cluster, told):
    """The sandbox has new accounts, so that what the pods hold is refused; then the Secret has the new ones too."""
    found = pods(cluster, "gate", "app.kubernetes.io/name=paraf")
    addresses = [each["status"]["podIP"] for each in found]
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder)) as routes:
        before = [signed(each) for each in addresses]
        assert not {200} & set(before), before
        begun = time.monotonic()
        secret(cluster, "gate", Path(folder), routes)
        until(lambda: {signed(each) for each in addresses} == {200}, 120, "the new secrets at work")
        told.append(f"{before} before, 200 in both pods {time.monotonic() - begun:.0f} s after the Secret changed")
    after = pods(cluster, "gate", "app.kubernetes.io/name=paraf")
    assert [each["metadata"]["name"] for each in after] == [each["metadata"]["name"] for each in found]
    assert all(each["status"]["containerStatuses"][0]["restartCount"] == 0 for each in after)


def main():
    with tempfile.TemporaryDirectory() as folder, cluster_of_one(folder) as cluster:
        everything(cluster)
    finish()


def everything(cluster: Cluster):
    for name, deed in (
        ("API server: strict server-side dry run of every values file, restricted namespace", dry_run),
        ("API server: restricted admission is on", admission_works),
        ("helm install --wait into an empty restricted namespace, bundled sandbox", gateway_installs),
        ("helm test", helm_test),
        ("helm upgrade", gateway_upgrades),
        ("helm uninstall", gateway_uninstalls),
    ):
        with check(name) as told:
            deed(cluster, told)
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder)) as routes:
        for space in ("shop", "gate"):
            namespace(cluster, space)
            secret(cluster, space, Path(folder), routes)
        config = configured(routes)
        with check("kubelet: native sidecar, Deployment and Job of examples/shop") as told:
            sidecars(cluster, told, config)
        with check("kubelet: the startup probe gates the app") as told:
            gated(cluster, told)
        with check("kubelet: a Job by paraf inject completes") as told:
            injected_job(cluster, told, config)
        with check("kubelet: rollout of the gateway under load loses nothing") as told:
            gateway(cluster, config)
            rolls_under_load(cluster, told)
    with check("kubelet: a changed Secret reaches the signer, no pod restarts (kubelet looks every 5 s here)") as told:
        rotates(cluster, told)


if __name__ == "__main__":
    main()
