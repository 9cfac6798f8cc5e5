"""The token call of an account: what is sent, and what is read from the answer."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode

from proxy.addresses import BaseUrl
from proxy.errors import TokenFault
from proxy.headers import date_ms, value_of
from proxy.model import Headers, Secret, SignedRequest, Token
from proxy.signing.binding import Binding, Lazy, Values, timestamp
from proxy.signing.draft import Draft, asked, demands, dues, json_body, making
from proxy.signing.profile import Glob, TokenAnswer, TokenCall
from proxy.signing.refusal import digits, field_of, parsed, text_of

MAX_ANSWER: Final = 65_536
"""Bytes of a token answer that are read; documented tokens end at 2,048 characters."""
TRUSTED_MS: Final = 60_000
"""Our clock may differ from the provider's by so much before its own counts: more than a slow call, less than harm."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}={0,4}")
"""RFC 6750 section 2.1, bounded: nothing else can stand in an Authorization header unchanged."""


class Exchange:
    """One account's token call, bound at load."""

    def __init__(self, binding: Binding, call: TokenCall, base: BaseUrl) -> None:
        self.url = base.text + call.endpoint.target
        self._call = call
        self._headers = making(binding.headers(call.headers))
        signatures = [binding.signature(each) for each in call.signatures]
        self._signatures, self._headers_due = asked(signatures), dues(signatures)
        time = timestamp(call.timestamp or binding.switches["timestamp"], binding.profile.zone)
        self._lazy: dict[str, Lazy] = {"timestamp": time, **binding.lazy}
        self._known = binding.known
        self._code_field = binding.profile.code_field

    def draft(self, now_ms: int) -> Draft:
        values = Values({**self._known, "now": b"%d" % now_ms}, self._lazy)
        request = SignedRequest(self._call.endpoint.method, self.url, self._headers(values), self._body(values))
        return Draft(request, demands(self._signatures, values), self._headers_due)

    def _body(self, values: Values) -> bytes:
        if self._call.json is not None:
            return json_body(self._call.json, values)
        if self._call.form is not None:
            return urlencode({name: each.render(values) for name, each in self._call.form.items()}).encode()
        return b""

    def read(self, status: int, headers: Headers, body: bytes, *, now_ms: int, started: float) -> Token:
        """The token of an answer. Raises TokenFault.

        `now_ms` and `started`: wall clock, and monotonic seconds, when the call was sent; a life is counted from there,
        so that it ends here no later than at the provider, however late the answer is read.
        """
        answer = parsed(body)
        self._require_success(status, answer, retry_after(headers, now_ms))
        told = self._call.answer
        value = field_of(answer, told.token)
        kind = field_of(answer, told.type) if told.type else None
        if not isinstance(value, str) or not _TOKEN.fullmatch(value) or not _is_bearer(kind):
            raise TokenFault("malformed", provider_status=status)
        there_ms = _now_there(headers, now_ms)
        life_ms = min(_life_ms(told, answer, there_ms), int(self._call.max_life * 1000))
        if life_ms <= 0:
            raise TokenFault("token_expired_on_arrival", provider_status=status)
        return Token(Secret(value), there_ms + life_ms, started + life_ms / 1000, fetched_at_ms=now_ms)

    def _require_success(self, status: int, answer: Any, pause: float | None) -> None:
        told = self._call.answer
        code = digits(field_of(answer, self._code_field)) if self._code_field else None
        if status >= 500 or status in (408, 429):
            raise TokenFault("upstream", provider_status=status, provider_code=code, retry_after=pause)
        says_no = any(_matches(answer, path, glob) for path, glob in told.refused.items())
        unlike = any(
            field_of(answer, path) is not None and not _matches(answer, path, glob)
            for path, glob in told.success.items()
        )
        if 400 <= status < 500 or says_no or unlike:
            raise TokenFault("rejected", provider_status=status, provider_code=code, retry_after=pause)
        if not 200 <= status < 300 or not isinstance(answer, dict):
            raise TokenFault("malformed", provider_status=status)


def _matches(answer: Any, path: str, glob: Glob) -> bool:
    found = text_of(field_of(answer, path))
    return found is not None and bool(glob.matches(found))


def _is_bearer(kind: Any) -> bool:
    """An answer without a type is one of Bearer tokens; a type that we do not know is not guessed at."""
    return kind is None or (isinstance(kind, str) and kind.lower() == "bearer")


def _now_there(headers: Headers, now_ms: int) -> int:
    """The provider's clock, if ours and its Date header are too far apart to go by ours.

    An absolute end read with a clock that is an hour wrong would be an hour early or late. Date has whole seconds:
    the next one is taken, so that a life comes out too short rather than too long.
    """
    there_ms = date_ms(headers)
    return now_ms if there_ms is None or abs(there_ms - now_ms) <= TRUSTED_MS else there_ms + 1000


def _life_ms(told: TokenAnswer, answer: Any, now_ms: int) -> int:
    end = _number(field_of(answer, told.expires_at_ms)) if told.expires_at_ms else None
    if end is not None:
        return int(end) - now_ms
    life = _number(field_of(answer, told.lifetime)) if told.lifetime else None
    return int(told.default_lifetime * 1000) if life is None else int(life) * 1000


def _number(value: Any) -> float | None:
    """A number, or one in quotes; anything else counts as absent."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,15}(\.\d{1,9})?\s*", value, re.ASCII):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return value
    return None


def retry_after(headers: Headers, now_ms: int) -> float | None:
    """Retry-After in seconds from now, given so or as a date (RFC 9110 section 10.2.3)."""
    value = (value_of(headers, "Retry-After") or "").strip()
    if re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return float(value)
    try:
        end = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, end.replace(tzinfo=end.tzinfo or UTC).timestamp() - now_ms / 1000)
