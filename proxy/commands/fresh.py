"""Fresh accounts of the sandbox, written as a configuration that is ready to run against it."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml

from proxy.sandbox.accounts import FreshAccount

ENVIRONMENTS: Final = {"doku": "sandbox", "doku-nonsnap": "sandbox", "snap": None}
"""The environment that a route of a profile names; `stage` for all others."""


def configuration(accounts: Iterable[FreshAccount], sandbox: str, listen: str, admin: str) -> dict[str, Any]:
    return {"version": 1, "listen": listen, "admin": admin, **routes(accounts, sandbox)}


def routes(accounts: Iterable[FreshAccount], sandbox: str) -> dict[str, Any]:
    """`sandbox`: its URL. The sandbox stands behind a path for each account, which no provider signs."""
    return {"routes": {each.account.name: _route(each, sandbox) for each in accounts}}


def _route(fresh: FreshAccount, sandbox: str) -> dict[str, Any]:
    account = fresh.account
    environment = ENVIRONMENTS.get(account.profile, "stage")
    credentials = {"client_id": account.client_id, "client_secret": account.client_secret.reveal()}
    return {
        "provider": account.profile,
        **({"environment": environment} if environment else {}),
        "upstream": f"{sandbox}/{account.name}",
        "strip_base_path": True,
        "hosts": [],
        "credentials": credentials | ({"private_key": fresh.private_key_pem} if fresh.private_key_pem else {}),
    }


def text(configured: dict[str, Any]) -> str:
    return str(yaml.safe_dump(configured, sort_keys=False, allow_unicode=True, width=4096))


EXAMPLES: Final[dict[str, tuple[str, str, Sequence[tuple[str, str]]]]] = {
    # profile: target, body, headers of the caller
    "klikoo": ("/v1/open-api/account/inquiry", '{"bank_code": "000", "account_number": "1234567890"}', ()),
    "netzme": ("/api/aggregator/merchant/qr/create?channel=app", '{"merchant_id": "M-1", "amount": "10000.00"}', ()),
    "netzme-main": ("/payment/transfer", '{"receiver": "U-1", "amount": "10000.00"}', ()),
    "netzme-vsnap": ("/api/v1.0/transfer-va/create-va", '{"partnerReferenceNo": "R-1"}', ()),
    "ifortepay-payment": (
        "/v1.0/transfer-va/create-va",
        '{"partnerReferenceNo": "R-1", "totalAmount": {"value": "10000.00", "currency": "IDR"}}',
        (("CHANNEL-ID", "VA001"),),
    ),
    "ifortepay-disbursement": (
        "/api/v1.2/transfer-interbank",
        '{"partnerReferenceNo": "R-2", "amount": {"value": "10000.00", "currency": "IDR"}}',
        (),
    ),
    "doku": (
        "/virtual-accounts/bi-snap-va/v1.1/transfer-va/create-va",
        '{"partnerServiceId": "  088899", "trxId": "INV-1", "totalAmount": {"value": "10000.00", "currency": "IDR"}}',
        (),
    ),
    "doku-nonsnap": ("/checkout/v1/payment", '{"order": {"amount": 10000, "invoice_number": "INV-1"}}', ()),
    "snap": ("/v1.0/balance-inquiry", '{"partnerReferenceNo": "R-1"}', ()),
}
"""A plain request of each profile, as a merchant's service would send it."""
