"""A virtual account made with doku-python-library, which fetches a token and signs, with keys worth nothing."""

import sys
from pathlib import Path

from doku_python_library.src.model.va.additional_info import AdditionalInfo
from doku_python_library.src.model.va.create_va_request import CreateVARequest
from doku_python_library.src.model.va.total_amount import TotalAmount
from doku_python_library.src.model.va.virtual_account_config import VirtualAccountConfig
from doku_python_library.src.snap import DokuSNAP

key = Path(sys.argv[1]).read_text("utf-8")
snap = DokuSNAP(
    private_key=key,
    client_id="DUMMY",
    is_production=False,
    public_key="",
    issuer="",
    secret_key="dummy",
    merchant_public_key="",
)
request = CreateVARequest(
    partner_service_id="  888994",
    virtual_acc_name="Budi",
    trx_id="INV-1",
    virtual_acc_trx_type="C",
    total_amount=TotalAmount(value="10000.00", currency="IDR"),
    customer_no="1",
    virtual_account_no="  8889941",
    additional_info=AdditionalInfo("VIRTUAL_ACCOUNT_BANK_CIMB", VirtualAccountConfig(reusable_status=False)),
    expired_date="2030-01-01T10:00:00+07:00",
)
print(snap.create_va(request))
