"""Sendings as a transport leaves them behind."""

from proxy.errors import Sent
from proxy.model import Attempt


def attempt(sent: Sent) -> Attempt:
    made = Attempt()
    made.sent = sent
    return made
