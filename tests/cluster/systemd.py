"""The unit under a real systemd, in a container of its own. By hand: python tests/cluster/systemd.py

Needs root, podman, buildah, runc, mmdebstrap, and the image (tests/cluster/image.py builds it). LoadCredential= is left
out where the kernel's tmpfs has no ACLs: systemd's own copy cannot be read by a dynamic user then.
"""

import json
import re
import tempfile
from pathlib import Path

from image import BASE
from showing import IMAGE, ROOT, check, finish, run, said

MACHINE, UNIT = "localhost/paraf-systemd:1", ROOT / "deploy" / "systemd" / "paraf.service"
NAME = "paraf-systemd"
CALL = (
    "curl -s -X POST http://127.0.0.1:8080/doku/virtual-accounts/bi-snap-va/v1.1/transfer-va/create-va"
    " -H Content-Type:application/json -d {}"
).split()
PREPARE = """
set -eu
mkdir -p /etc/paraf/credentials; cd /etc/paraf
setsid /opt/paraf/bin/paraf sandbox --listen 127.0.0.1:9080 --provider doku --write /etc/paraf > /dev/null 2>&1 &
until [ -f paraf.yaml ]; do sleep 0.1; done
printf 'store: file:///var/lib/paraf/tokens\\ncontrol: unix:/run/paraf/control.sock\\n' >> paraf.yaml
printf 'log: {format: json}\\n' >> paraf.yaml
cp doku.client_secret credentials/doku-client-secret
cp doku.private_key credentials/doku-private-key
"""
BY_CREDENTIALS = """
sed -i 's#doku.client_secret#/run/credentials/paraf.service/doku-client-secret#' /etc/paraf/paraf.yaml
sed -i 's#doku.private_key#/run/credentials/paraf.service/doku-private-key#' /etc/paraf/paraf.yaml
"""
BY_FILES = "chmod a+r /etc/paraf/doku.*; sed -i /^LoadCredential/d /etc/systemd/system/paraf.service"


def machine():
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        packages = "systemd,dbus,procps,curl,ca-certificates"
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "bookworm", place / "root.tar")
        run("podman", "import", "-q", place / "root.tar", "localhost/paraf-systemd-root:1")
        (place / "Dockerfile").write_text(
            "FROM localhost/paraf-systemd-root:1\n"
            f"COPY --from={BASE} /usr/local /usr/local\nCOPY --from={IMAGE} /opt/paraf /opt/paraf\nRUN ldconfig\n"
        )
        run("buildah", "bud", "-q", "--pull-never", "--format", "docker", "-t", MACHINE, place)


def inside(*command, **more):
    return said("podman", "exec", NAME, *command, **more)


def prepared(told):
    """Does systemd hand out credentials here?"""
    inside("sh", "-c", PREPARE)
    probe = "systemd-run -q --pipe --wait -p DynamicUser=yes -p LoadCredential=x:/etc/hostname sh -c".split()
    handed = run("podman", "exec", NAME, *probe, "cat $CREDENTIALS_DIRECTORY/x", check=False).returncode == 0
    inside("sh", "-c", BY_CREDENTIALS if handed else BY_FILES)
    told.append("secrets by LoadCredential" if handed else "LoadCredential not run: no ACLs on tmpfs here")


def main():
    with check("a machine with systemd"):
        machine()
    try:
        run("podman", "run", "-d", "--name", NAME, "--privileged", "--systemd=always", MACHINE, "/lib/systemd/systemd")
        with check("systemd: the unit starts confined and says that it is ready (Type=notify)") as told:
            inside("sh", "-c", "until systemctl is-system-running --wait; do sleep 0.2; done", timeout=60)
            run("podman", "cp", UNIT, f"{NAME}:/etc/systemd/system/paraf.service")
            prepared(told)
            inside("systemctl", "daemon-reload")
            inside("systemctl", "start", "paraf")
            assert json.loads(inside(*CALL))["responseCode"].startswith("200")
            status = inside("sh", "-c", "cat /proc/$(systemctl show -P MainPID paraf)/status")
            assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
            assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
        with check("systemd: reload"):
            inside("sh", "-c", "sed -i 's/log: .*/log: {format: json, level: warning}/' /etc/paraf/paraf.yaml")
            inside("systemctl", "reload", "paraf")
            inside("sh", "-c", "until systemctl status paraf | grep -q 'generation 2'; do sleep 0.1; done", timeout=30)
        with check("systemd: stop, exit 0"):
            inside("systemctl", "stop", "paraf")
            assert inside("systemctl", "show", "-P", "ExecMainStatus", "paraf") == "0"
        with check("systemd: a bad configuration is not tried again"):
            inside("sh", "-c", "echo nonsense: 1 >> /etc/paraf/paraf.yaml; systemctl start paraf || true")
            assert inside("systemctl", "show", "-P", "ExecMainStatus", "paraf") == "78"
            assert inside("systemctl", "show", "-P", "NRestarts", "paraf") == "0"
    finally:
        run("podman", "rm", "-f", NAME, check=False)
    finish()


if __name__ == "__main__":
    main()
