"""`python -m proxy` is `paraf`."""

from proxy.commands import main

main()
