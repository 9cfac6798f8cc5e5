"""A virtual account made with python-nicepay, which fetches a token and signs, with keys worth nothing."""

import sys
from pathlib import Path

from python_nicepay.constants.constantsEndpoint import ConstantsEndpoints
from python_nicepay.constants.constantsGeneral import ConstantsGeneral
from python_nicepay.data.builder import builderEnvironment
from python_nicepay.data.builder.snap import builderAccessToken, builderVirtualAccount
from python_nicepay.service.snapService import SnapService

lines = Path(sys.argv[1]).read_text("utf-8").splitlines()
ConstantsGeneral.setSnapConfiguration("DUMMY", "dummy", "".join(lines[1:-1]))
login = builderAccessToken.BuildAccessToken().setGrantType("client_credentials").setAdditionalInfo("").build()
account = (
    builderVirtualAccount.BuildCreateVA()
    .setPartnerServiceId("")
    .setCustomerNo("")
    .setVirtualAccountNo("")
    .setVirtualAccountName("Budi")
    .setTrxId("INV-1")
    .setTotalAmount({"value": "10000.00", "currency": "IDR"})
    .setAdditionalInfo({"bankCd": "BMRI", "goodsNm": "Goods"})
    .build()
)
environment = builderEnvironment.BuildEnvironment().isCloud(False).isProduction(False).build()
body, endpoint = account.jsonVACreate(), ConstantsEndpoints.createVA()
SnapService.serviceTransaction(login.jsonAccessToken(), body, endpoint, environment)
