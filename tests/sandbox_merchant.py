"""A merchant written by hand against the providers' pages: strings, HMAC and RSA, and one HTTP/1.1 exchange.

What goes into a string can be overridden piece by piece (`over`), which is how merchants get it wrong.
"""

import asyncio
import functools
import hashlib
import hmac
import json
import uuid
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.sandbox.accounts import FreshAccount

NOW_MS = 1_768_447_845_000
PRETTY = b'{\n  "b": "x  y", "a": 1.10\n}'
COMPACT = b'{"b":"x  y","a":1.10}'
SORTED = b'{"a":1.10,"b":"x  y"}'


@dataclass
class HandClock:
    """A clock that stands still until it is moved."""

    at_ms: int = NOW_MS

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic(self) -> float:
        return self.at_ms / 1000


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    content: Any

    @property
    def part(self) -> str:
        return self.headers.get("x-sandbox-explains", "").partition(":")[0]


@dataclass(frozen=True)
class Ways:
    """How one profile signs: the token call, the call, and its readings of path, body and time."""

    token_path: str | None
    asks: str
    signs: str
    path: str
    canonical: bytes
    time: str


WAYS = {
    "snap": Ways("/v1.0/access-token/b2b", "snap", "symmetric", "path_and_query", COMPACT, "jakarta"),
    "doku": Ways("/authorization/v1/access-token/b2b", "snap", "symmetric", "path", COMPACT, "utc"),
    "doku-nonsnap": Ways(None, "", "doku_lines", "path", PRETTY, "utc"),
    "ifortepay-payment": Ways(
        "/auth/merchants/v1.0/access-token/b2b", "snap", "symmetric", "path_and_query", COMPACT, "jakarta"
    ),
    "ifortepay-disbursement": Ways(
        "/api/v1.0/access-token/b2b", "snap", "symmetric", "path_and_query", COMPACT, "jakarta"
    ),
    "klikoo": Ways("/v1/open-api/access-token", "klikoo", "klikoo", "path", SORTED, "jakarta_ms"),
    "netzme": Ways("/oauth/merchant/accesstoken", "basic", "netzme", "path_and_query", COMPACT, "epoch_ms"),
    "netzme-main": Ways("/oauth/token/accesstoken", "basic", "netzme", "path_and_query", COMPACT, "epoch_ms"),
    "netzme-vsnap": Ways("/api/v1/access-token/b2b", "snap", "symmetric", "path", COMPACT, "jakarta"),
}


def written(at_ms: int, form: str) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    jakarta = moment.astimezone(timezone(timedelta(hours=7)))
    return {
        "jakarta": jakarta.isoformat(timespec="seconds"),
        "jakarta_ms": jakarta.isoformat(timespec="milliseconds"),
        "utc": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "epoch_ms": str(at_ms),
    }[form]


@functools.cache
def loaded(pem: str) -> Any:
    return load_pem_private_key(pem.encode(), None)


@dataclass
class Merchant:
    fresh: FreshAccount
    address: tuple[str, int]
    clock: HandClock
    token: str = field(default="no-token", repr=False)
    external: int = 100

    @property
    def ways(self) -> Ways:
        return WAYS[self.fresh.account.profile]

    @property
    def secret(self) -> str:
        return self.fresh.account.client_secret.reveal()

    @property
    def client_id(self) -> str:
        return self.fresh.account.client_id

    def rsa(self, text: str, pem: str | None = None) -> str:
        key = loaded(pem or self.fresh.private_key_pem)
        return b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()

    def token_request(self, **over: Any) -> tuple[dict[str, str], bytes]:
        return getattr(self, f"ask_{self.ways.asks}")(**over)

    def token_signature(self, over: dict[str, Any]) -> tuple[str, str]:
        """The header's time, and the signature."""
        sent = over.get("sent_time") or written(self.clock.at_ms, self.ways.time)
        text = f"{self.client_id}{over.get('separator', '|')}{over.get('time', sent)}"
        return sent, self.rsa(text, over.get("pem"))

    def ask_snap(self, **over: Any) -> tuple[dict[str, str], bytes]:
        time, signature = self.token_signature(over)
        headers = {"X-TIMESTAMP": time, "X-CLIENT-KEY": self.client_id, "X-SIGNATURE": signature}
        return headers, b'{"grantType": "client_credentials"}'

    def ask_klikoo(self, **over: Any) -> tuple[dict[str, str], bytes]:
        time, signature = self.token_signature(over)
        credentials = {"client_id": self.client_id, "client_secret": over.get("secret", self.secret)}
        body = {"grant_type": "client_credentials", "additional_info": credentials}
        return {"Open-Api-Timestamp": time, "Open-Api-Signature": signature}, json.dumps(body).encode()

    def ask_basic(self, **over: Any) -> tuple[dict[str, str], bytes]:
        pair = b64encode(f"{self.client_id}:{over.get('secret', self.secret)}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}, b'{"grant_type":"client_credentials"}'

    async def ask(self, **over: Any) -> Reply:
        headers, body = self.token_request(**over)
        headers["Content-Type"] = "application/json"
        return await self.exchange("POST", self.ways.token_path, headers, body)

    async def log_in(self) -> Reply:
        reply = await self.ask()
        content = reply.content.get("data", reply.content)
        self.token = content.get("accessToken") or content["access_token"]
        return reply

    def symmetric(self, over: dict[str, Any]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **self.snap_headers(over["time"], self.colons(over))}

    def asymmetric(self, over: dict[str, Any]) -> dict[str, str]:
        digest = hashlib.sha256(over["body"]).hexdigest()
        text = f"{over['method']}:{over['path']}:{digest}:{over['time']}"
        return self.snap_headers(over["time"], self.rsa(text, over.get("pem")))

    def colons(self, over: dict[str, Any]) -> str:
        digest = hashlib.sha256(over["body"]).hexdigest()
        text = f"{over['method']}:{over['path']}:{over['token']}:{digest}:{over['time']}"
        mac = hmac.digest(over["secret"].encode(), text.encode(), over.get("hash", "sha512"))
        return mac.hex() if over.get("hex") else b64encode(mac).decode()

    def snap_headers(self, time: str, signature: str) -> dict[str, str]:
        self.external += 1
        return {
            "X-TIMESTAMP": time,
            "X-SIGNATURE": signature,
            "X-PARTNER-ID": self.client_id,
            "X-EXTERNAL-ID": str(self.external),
            "CHANNEL-ID": "H2H",
        }

    def klikoo(self, over: dict[str, Any]) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token}",
            "Open-Api-Timestamp": over["time"],
            "Open-Api-Signature": self.colons(over),
        }

    def netzme(self, over: dict[str, Any]) -> dict[str, str]:
        head = (
            f"path={over['path']}&method={over['method']}&token=Bearer {over['token']}&timestamp={over['time']}&body="
        )
        key = over.get("key") or f"{over['secret']}-{over['time']}-Bearer {over['token']}"
        mac = hmac.digest(key.encode(), head.encode() + over["body"], over.get("hash", "sha256"))
        return {
            "Authorization": f"Bearer {self.token}",
            "Request-Time": over["time"],
            "Signature": b64encode(mac).decode() if over.get("hex") else mac.hex(),
            "Client-Id": self.client_id,
        }

    def doku_lines(self, over: dict[str, Any]) -> dict[str, str]:
        request_id = str(uuid.uuid4())
        digest = over.get("digest") or b64encode(hashlib.sha256(over["body"]).digest()).decode()
        lines = [f"Client-Id:{self.client_id}", f"Request-Id:{request_id}", f"Request-Timestamp:{over['time']}"]
        lines += [f"Request-Target:{over['path']}"] + ([f"Digest:{digest}"] if over["body"] else [])
        mac = hmac.digest(over["secret"].encode(), "\n".join(lines).encode(), over.get("hash", "sha256"))
        return {
            "Client-Id": self.client_id,
            "Request-Id": request_id,
            "Request-Timestamp": over["time"],
            "Signature": "HMACSHA256=" + (mac.hex() if over.get("hex") else b64encode(mac).decode()),
        }

    def headers(self, method: str, target: str, body: bytes, /, **over: Any) -> dict[str, str]:
        """A right signature, but for what `over` puts into its string; `sent_time` changes string and header."""
        ways = self.ways
        sent_time = over.pop("sent_time", written(self.clock.at_ms, ways.time))
        right = {
            "method": method,
            "path": target if ways.path == "path_and_query" else target.partition("?")[0],
            "body": ways.canonical if body == PRETTY else body,
            "time": sent_time,
            "token": self.token,
            "secret": self.secret,
        }
        headers = getattr(self, over.pop("kind", ways.signs))({**right, **over})
        return {name: sent_time if value == over.get("time") else value for name, value in headers.items()}

    async def call(
        self,
        target: str = "/v1.0/things?b=2&a=%2f",
        body: bytes = PRETTY,
        *,
        method: str = "POST",
        headers: dict[str, str | None] | None = None,
        over: dict[str, Any] | None = None,
    ) -> Reply:
        """`headers` replace the sent ones, None removes; `over`: see `headers()`."""
        sent = {**self.headers(method, target, body, **(over or {})), **(headers or {})}
        kept = {name: value for name, value in sent.items() if value is not None}
        return await self.exchange(method, target, kept, body)

    async def exchange(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        return await send(self.address, method, f"/{self.fresh.account.name}{target}", list(headers.items()), body)


async def send(address, method, target, headers, body=b"", *, tls=None) -> Reply:
    """One exchange on a connection of its own; the target goes out as it stands."""
    reader, writer = await asyncio.open_connection(*address, ssl=tls)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers] + [f"Content-Length: {len(body)}", "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return Reply(int(first.split()[1]), fields, json.loads(content))
