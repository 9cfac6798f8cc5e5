"""What one writes in an afternoon, of aiohttp's server and client: `naive_peer.py PORT UPSTREAM [CA]`."""

import base64
import hashlib
import hmac
import json
import ssl
import sys
from datetime import datetime, timedelta, timezone

from aiohttp import ClientSession, TCPConnector, web

TOKEN, SECRET = "bench-token", b"bench-secret"
WESTERN = timezone(timedelta(hours=7))


async def forward(request: web.Request) -> web.Response:
    body = await request.read()
    compact = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
    moment = datetime.now(WESTERN).isoformat(timespec="milliseconds")
    string = f"{request.method}:{request.path_qs}:{TOKEN}:{hashlib.sha256(compact).hexdigest()}:{moment}"
    seal = base64.b64encode(hmac.new(SECRET, string.encode(), hashlib.sha512).digest()).decode()
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {TOKEN}",
        "X-TIMESTAMP": moment,
        "X-PARTNER-ID": "bench",
        "X-SIGNATURE": seal,
    }
    session: ClientSession = request.app["session"]
    async with session.request(request.method, sys.argv[2] + request.path_qs, data=compact, headers=headers) as answer:
        return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)


async def made() -> web.Application:
    trust = ssl.create_default_context(cafile=sys.argv[3]) if len(sys.argv) > 3 else True
    app = web.Application()
    app["session"] = ClientSession(connector=TCPConnector(limit=0, ssl=trust))
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(made(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
