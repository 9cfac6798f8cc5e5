"""Limits over several workers: what each may take so that together they keep what is written, and what cannot be so.

No worker asks another before it lets a request in: that would cost every request, and be one more thing to fail.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from proxy.bounds import Limits
from proxy.errors import Finding
from proxy.quantities import size_text
from proxy.settings import Settings


def share(whole: int, number: int, workers: int) -> int:
    """Of worker `number`, from 0. The shares sum to the whole: the first workers have what is left over."""
    each, over = divmod(whole, workers)
    return each + (number < over)


def limits_of(limits: Limits, number: int, workers: int) -> Limits:
    """Of worker `number`. `body` is of each request, and stays."""
    most = limits.concurrency
    part = most if math.isinf(most) else share(int(most), number, workers)
    return replace(limits, concurrency=part, queue=share(limits.queue, number, workers))


def unshared(settings: Settings) -> Iterator[Finding]:
    """Limits of which a worker would have no part: it would have to break them, or to serve nobody."""
    workers, room, find = settings.workers, settings.room, settings.source.finding
    for route in settings.routes:
        path = ("routes", route.name, "limits")
        if route.limits.body > room:
            yield find((*path, "body"), "is more than `bodies`, which all requests may hold together")
        if route.limits.concurrency < workers:
            words = f"is less than one for each of {workers} workers: write {workers} or more, or have fewer workers"
            yield find((*path, "concurrency"), words)
    largest = max((route.limits.body for route in settings.routes), default=0)
    if largest <= room < workers * largest:
        least = size_text(workers * largest)
        words = f"has no room for the largest `limits.body` in each of {workers} workers: write {least} or more"
        yield find(("bodies",), f"{words}, or have fewer workers")
