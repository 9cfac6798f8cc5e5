"""A Kubernetes of one node: etcd, API server, controllers, scheduler, containerd, kubelet. No proxy, no DNS.

Everything lies in one folder and ends with the block. Needs root and, in KUBE (default: `paraf-kube` in the user's
cache), kube-apiserver, kube-controller-manager, kube-scheduler and kubelet, built of the Go module k8s.io/kubernetes;
from Debian etcd-server, containerd, containernetworking-plugins, runc, catatonit, podman.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import yaml
from showing import IMAGE, run, said, until

KUBE = Path(os.environ.get("KUBE", Path.home() / ".cache" / "paraf-kube"))
NODE, BRIDGE, PODS = "10.91.0.1", "paraf-node", "10.92.0.0/16"
API, ETCD = 16443, 12379
TOKEN = "admin-of-a-cluster-of-one-check"
PAUSE = "localhost/paraf-pause:1"


class Cluster:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.kubeconfig = self.folder / "kubeconfig"
        self.socket = self.folder / "containerd.sock"

    def kubectl(self, *arguments, **more):
        return said("kubectl", "--kubeconfig", self.kubeconfig, *arguments, **more)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects, arguments=()):
        return self.kubectl("apply", *arguments, "-f", "-", stdin=yaml.safe_dump_all(objects))

    def helm(self, *arguments, **more):
        return said("helm4", "--kubeconfig", self.kubeconfig, *arguments, **more)

    def load(self, image):
        """From podman into containerd, under the name that it has there."""
        file = self.folder / "image.tar"
        file.unlink(missing_ok=True)
        run("podman", "save", "-q", "-o", file, image)
        run("ctr", "-a", self.socket, "-n", "k8s.io", "images", "import", file)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()[-3000:]


@contextmanager
def process(cluster, *command, **env) -> Iterator[subprocess.Popen]:
    name = Path(command[0]).name
    with (cluster.folder / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(
            [str(each) for each in command], stdout=log, stderr=log, env={**os.environ, **env}, start_new_session=True
        )
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def api_server(cluster):
    folder = cluster.folder
    (folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    run("openssl", "genrsa", "-out", folder / "accounts.key", "2048")
    cluster.kubeconfig.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [
            {"name": "c", "cluster": {"server": f"https://127.0.0.1:{API}", "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }))  # fmt: skip
    return (
        KUBE / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{ETCD}", f"--cert-dir={folder}/certs",
        f"--secure-port={API}", "--bind-address=127.0.0.1", f"--token-auth-file={folder}/tokens.csv",
        f"--service-account-key-file={folder}/accounts.key",
        f"--service-account-signing-key-file={folder}/accounts.key",
        "--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16", f"--advertise-address={NODE}",
        "--kubelet-preferred-address-types=InternalIP",
    )  # fmt: skip


def containerd(cluster):
    folder = cluster.folder
    (folder / "cni").mkdir()
    (folder / "cni" / "10-paraf.conflist").write_text(json.dumps({
        "cniVersion": "0.4.0", "name": "paraf", "plugins": [
            {"type": "bridge", "bridge": "paraf-pods", "isGateway": True, "ipMasq": False, "hairpinMode": True,
             "ipam": {"type": "host-local", "dataDir": f"{folder}/ipam", "ranges": [[{"subnet": PODS}]],
                      "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "loopback"},
        ]}))  # fmt: skip
    (folder / "containerd.toml").write_text(f"""
version = 2
root = "{folder}/containerd-root"
state = "{folder}/containerd-state"
[grpc]
  address = "{cluster.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
""")
    return ("containerd", "-c", folder / "containerd.toml")


def kubelet(cluster):
    folder = cluster.folder
    (folder / "kubelet.yaml").write_text(yaml.safe_dump({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"}, "cgroupDriver": "cgroupfs", "failSwapOn": False,
        "failCgroupV1": False, "oomScoreAdj": 0, "featureGates": {"KubeletInUserNamespace": True},
        "address": NODE, "port": 11250, "healthzPort": 0, "syncFrequency": "5s", "fileCheckFrequency": "5s",
        "containerRuntimeEndpoint": f"unix://{cluster.socket}", "resolvConf": "", "clusterDNS": [],
        "enforceNodeAllocatable": [], "cgroupsPerQOS": True, "localStorageCapacityIsolation": False,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99, "makeIPTablesUtilChains": False,
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    }))  # fmt: skip
    return (
        KUBE / "kubelet", f"--config={folder}/kubelet.yaml", f"--kubeconfig={cluster.kubeconfig}",
        f"--node-ip={NODE}", "--hostname-override=paraf-node", f"--root-dir={folder}/kubelet",
        f"--cert-dir={folder}/kubelet-certs",
    )  # fmt: skip


@contextmanager
def bridge():
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        run("ip", "addr", "add", f"{NODE}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        yield
    finally:
        run("ip", "link", "del", BRIDGE, check=False)
        run("ip", "link", "del", "paraf-pods", check=False)


def pause():
    """catatonit is linked statically and can stand for the pause program."""
    dockerfile = 'FROM scratch\nCOPY catatonit /catatonit\nENTRYPOINT ["/catatonit", "-P"]\n'
    run("buildah", "bud", "--format", "docker", "-t", PAUSE, "-f", "-", "/usr/bin", stdin=dockerfile)


def ready(cluster):
    with suppress(AssertionError, ValueError, IndexError):
        conditions = cluster.get("nodes")["items"][0]["status"]["conditions"]
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return False


@contextmanager
def cluster_of_one(folder, *, node=True):
    """Only the API server and its controllers, or a node too."""
    cluster = Cluster(folder)
    with ExitStack() as stack:
        stack.callback(unmounted, cluster.folder)
        stack.enter_context(bridge())
        listen = f"http://127.0.0.1:{ETCD}"
        stack.enter_context(process(
            cluster, "etcd", "--data-dir", cluster.folder / "etcd", "--listen-client-urls", listen,
            "--advertise-client-urls", listen, "--listen-peer-urls", f"http://127.0.0.1:{ETCD + 1}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{ETCD + 1}",
            "--initial-cluster", f"default=http://127.0.0.1:{ETCD + 1}", "--unsafe-no-fsync",
        ))  # fmt: skip
        stack.enter_context(process(cluster, *api_server(cluster)))
        healthy = ("kubectl", "--kubeconfig", cluster.kubeconfig, "get", "--raw", "/readyz")
        until(lambda: run(*healthy, check=False).stdout == "ok", 120, "the API server")
        common = (f"--kubeconfig={cluster.kubeconfig}", "--leader-elect=false")
        stack.enter_context(process(
            cluster, KUBE / "kube-controller-manager", *common,
            f"--service-account-private-key-file={cluster.folder}/accounts.key",
        ))  # fmt: skip
        stack.enter_context(process(cluster, KUBE / "kube-scheduler", *common))
        if node:
            pause()
            stack.enter_context(process(cluster, *containerd(cluster)))
            until(cluster.socket.exists, what="containerd")
            for image in (PAUSE, IMAGE):
                cluster.load(image)
            stack.enter_context(process(cluster, *kubelet(cluster)))
            stack.callback(swept, cluster)
            until(lambda: ready(cluster), 60, "the node")
        until(lambda: run("kubectl", "--kubeconfig", cluster.kubeconfig, "get", "sa", "default", check=False).stdout,
              60, "service accounts")  # fmt: skip
        yield cluster


def swept(cluster):
    """No pod outlives its cluster."""
    kubectl = ("kubectl", "--kubeconfig", cluster.kubeconfig)
    run(*kubectl, "delete", "deployments,jobs,pods", "--all", "-A", "--grace-period=1", "--force", check=False)
    listing = ("ctr", "-a", cluster.socket, "-n", "k8s.io", "tasks")
    for name in run(*listing, "ls", "-q", check=False).stdout.split():
        run(*listing, "kill", "-s", "KILL", name, check=False)
        run(*listing, "rm", "-f", name, check=False)


def unmounted(folder):
    """What kubelet and containerd mounted below the folder and left there."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
        run("umount", "-l", place, check=False)
