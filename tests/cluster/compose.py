"""The compose file as it is, by podman-compose. By hand: python tests/cluster/compose.py

Needs root, podman, runc, podman-compose (pip) on the PATH, and the image (tests/cluster/image.py builds it).
"""

from showing import IMAGE, ROOT, check, finish, run, until

COMPOSE = ("podman-compose", "-f", ROOT / "deploy" / "compose.yaml")


def main():
    try:
        with check("compose: the service asks Paraf over their loopback, the sandbox accepts"):
            run(*COMPOSE, "up", "-d", PARAF_IMAGE=IMAGE)
            shop = ("podman", "logs", "paraf_shop_1")
            until(lambda: "accepted 200" in run(*shop, check=False).stdout, 60, "an accepted request")
    finally:
        run(*COMPOSE, "down", "-v", PARAF_IMAGE=IMAGE, check=False)
    finish()


if __name__ == "__main__":
    main()
