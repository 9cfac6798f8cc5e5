"""`python tests/drill_reload.py [SECONDS]`: a reload every 100 ms under load, with one worker and with two.

The secret changes with each, and a mark that says with which one a request must be signed. Counted at the callers and
at the sandbox, which verifies every signature by code of its own. tests/test_reload.py runs the short form.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from rotating import reloaded_under_load


async def main(seconds: float) -> int:
    """How many of the two did not hold."""
    broken = 0
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            counted = await reloaded_under_load(Path(folder), workers=workers, seconds=seconds)
        holds = set(counted["answers"]) == {"200"} and counted["refused by the sandbox"] == counted["stale"] == 0
        broken += not holds
        said = "; ".join(f"{name} {count}" for name, count in counted.items())
        sys.stdout.write(f"| {workers} worker(s), {seconds:g} s | {'' if holds else 'DOES NOT HOLD: '}{said} |\n")
    return broken


if __name__ == "__main__":
    sys.exit(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)))
