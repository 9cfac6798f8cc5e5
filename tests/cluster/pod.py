"""The classic sidecar of the chart's example, as a Pod of podman. By hand: python tests/cluster/pod.py

The app asks Paraf on the pod's loopback; Paraf signs for a sandbox in the same pod, which verifies. Needs root, podman,
runc, and the image (tests/cluster/image.py builds it).
"""

import json
import sys
import tempfile
from pathlib import Path

import yaml
from showing import IMAGE, ROOT, check, finish, run, said, until

sys.path.insert(0, str(ROOT / "tests" / "kube"))
from rendering import rendered, shop

APP = """\
import json, time, urllib.request
target = "http://127.0.0.1:8080/doku/virtual-accounts/bi-snap-va/v1.1/transfer-va/create-va"
body = b'{"partnerServiceId": "  088899", "trxId": "INV-1"}'
while True:
    try:
        request = urllib.request.Request(target, data=body, headers={"Content-Type": "application/json"})
        print(json.dumps([urllib.request.urlopen(request, timeout=10).status]), flush=True)
    except OSError as error:
        print(error, flush=True)
    time.sleep(0.5)
"""


def classic(folder):
    """The pod of the example's Deployment, with the sandbox that the chart brings, and an app that asks."""
    image = {"repository": IMAGE.rpartition(":")[0]}
    values = {"image": IMAGE, "paraf": {"image": image, "sandbox": {"enabled": True}, "sidecar": {"native": False}}}
    chart = shop(folder)
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    objects = rendered(chart=chart)
    template = objects["Deployment", "web"]["spec"]["template"]
    template["spec"]["containers"][0]["command"] = ["/opt/paraf/bin/python", "-c", APP]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}}}
    return [objects["ConfigMap", "web-paraf"], pod | {"spec": template["spec"]}]


def main():
    with tempfile.TemporaryDirectory() as folder:
        documents = classic(Path(folder))
        file = Path(folder) / "pod.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        try:
            with check("podman kube play: the chart's classic sidecar, app to Paraf over loopback, accepted") as told:
                run("podman", "kube", "play", file)
                logs = ("podman", "logs", "web-shop")
                until(lambda: "[200]" in run(*logs, check=False).stdout, 60, "an accepted request")
                ports = said("podman", "exec", "web-shop", "/opt/paraf/bin/python", "-c",
                             "print(open('/proc/net/tcp').read())")  # fmt: skip
                assert "0100007F:1F90" in ports
                told.append("signing listener on 127.0.0.1 alone")
                state = json.loads(said("podman", "inspect", "web-paraf"))[0]
                assert state["HostConfig"]["ReadonlyRootfs"] is True
        finally:
            run("podman", "kube", "down", file, check=False)
    finish()


if __name__ == "__main__":
    main()
