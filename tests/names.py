"""A resolver by hand, in place of the loop's own: names to addresses."""

import asyncio
import socket


class Names:
    """`Names(api_example=["127.0.0.1"])`; an exception is raised. Counts what was asked."""

    def __init__(self, **known):
        self.known = {name.replace("_", "."): found for name, found in known.items()}
        self.asked = []

    async def __call__(self, host, port, **_):
        if host not in self.known:  # an address: uvloop asks for those it connects to as well
            return [_info(host, port)]
        self.asked.append(host)
        await asyncio.sleep(0.01)
        found = self.known[host]
        if isinstance(found, Exception):
            raise found
        return [_info(address, port) for address in found]


def _info(address, port):
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)
