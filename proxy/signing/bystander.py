"""Routes in shadow mode: the caller's own signature goes through untouched, and what was sent is read back."""

from typing import Final

from proxy.addresses import BaseUrl
from proxy.headers import as_sent
from proxy.model import Headers, SignedRequest, Token
from proxy.remembered import Remembered
from proxy.routes import below_base
from proxy.signing.binding import Binding, Read
from proxy.signing.draft import Draft, making
from proxy.signing.reading import Presented
from proxy.signing.signer import Aim, BoundScheme, Call, Head, Signer

_NOTHING: Final = BoundScheme(
    token=False,
    quick=None,  # its draft is what leaves
    heads=Remembered(lambda names: Head(names, lambda headers, _: headers, (), making(()), None)),
    signatures=(),
    headers_due=(),
    read=Read(frozenset(), (), {}),
    header_names=(),
)


class Bystander(Signer):
    """Stands where the Signer would: it strips what belongs to the connection, signs nothing and adds nothing."""

    def __init__(self, binding: Binding, base: BaseUrl, token_base: BaseUrl) -> None:
        super().__init__(binding, base)
        self._api, self._token_base = base, token_base
        self._token_call = binding.profile.token.endpoint if binding.profile.token else None

    def admit(self, method: str, target: str, names: tuple[str, ...], headers: Headers, body: bytes) -> Call:
        del names
        return Call(self._aims[method, target], as_sent(headers), body, body, body, making(()), None)

    def draft(self, call: Call, token: Token | None, now_ms: int, external_id: str | None) -> Draft:
        del token, now_ms, external_id
        return Draft(SignedRequest(call.aim.method, call.aim.url, call.headers, call.body), (), ())

    def _aim(self, place: tuple[str, str]) -> Aim:
        """The caller's own token call goes to the token base, which may be another host."""
        method, target = place
        below = below_base(target, self._api)
        path = below.partition("?")[0]
        fetches = self._token_call is not None and (method, path) == (
            self._token_call.method,
            self._token_call.target.partition("?")[0],
        )
        url = self._token_base.text + below if fetches else self._api.origin + target
        return Aim(method, target, url, _NOTHING, {})

    def presented(self, request: SignedRequest, sent_ms: int) -> Presented:
        """What was sent, as one who verifies it reads it: every target below the API's base."""
        target = request.url.removeprefix(self._api.origin)
        if target == request.url:
            target = self._api.path + request.url.removeprefix(self._token_base.text)
        return Presented(request.method, target, request.headers, request.body, sent_ms=sent_ms)
