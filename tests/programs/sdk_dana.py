"""The state of a payment, asked for with dana-python. It knows no variable: its configuration has to name the host."""

import os
import sys
from pathlib import Path

from dana.api_client import ApiClient
from dana.payment_gateway.v1 import PaymentGatewayApi
from dana.payment_gateway.v1.models.query_payment_request import QueryPaymentRequest
from dana.utils.snap_configuration import AuthSettings, Env, SnapConfiguration

configuration = SnapConfiguration(
    api_key=AuthSettings(
        PRIVATE_KEY=Path(sys.argv[1]).read_text("utf-8"),
        ORIGIN="https://merchant.example",
        X_PARTNER_ID="DUMMY",
        DANA_ENV=Env.SANDBOX,
        ENV=Env.SANDBOX,
    )
)
if "--prefix" in sys.argv:
    configuration.host = os.environ["PARAF_URL_PAY"]
with ApiClient(configuration) as client:
    request = QueryPaymentRequest(
        original_partner_reference_no="INV-1", service_code="00", merchant_id="216620000000000000000"
    )
    # Its model of the answer wants members of a real payment, which the sandbox does not have.
    answer = PaymentGatewayApi(client).query_payment_without_preload_content(request)
    print(answer.status, answer.data)
