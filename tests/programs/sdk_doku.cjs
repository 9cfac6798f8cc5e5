// A virtual account made with doku-nodejs-library: it fetches a token and signs, both with keys that are worth nothing.
const { readFileSync } = require("node:fs");
const axios = require("axios");
const { Snap } = require("doku-nodejs-library");
const AdditionalInfo = require("doku-nodejs-library/_models/additionalInfo");
const CreateVaRequest = require("doku-nodejs-library/_models/createVaRequestDto");
const TotalAmount = require("doku-nodejs-library/_models/totalAmount");
const VirtualAccountConfig = require("doku-nodejs-library/_models/virtualAccountConfig");

async function main() {
  const privateKey = readFileSync(process.argv[2], "utf8");
  const snap = new Snap({ isProduction: false, privateKey, clientID: "DUMMY", issuer: "", secretKey: "dummy" });
  await snap.getTokenB2B();
  const request = new CreateVaRequest();
  Object.assign(request, {
    partnerServiceId: "  888994",
    customerNo: "1",
    virtualAccountNo: "  8889941",
    virtualAccountName: "Budi",
    virtualAccountEmail: "budi@example.com",
    virtualAccountPhone: "6281234567890",
    trxId: "INV-1",
    virtualAccountTrxType: "C",
    freeText: [],
    totalAmount: new TotalAmount("10000.00", "IDR"),
    additionalInfo: new AdditionalInfo("VIRTUAL_ACCOUNT_BANK_CIMB", new VirtualAccountConfig(false)),
    expiredDate: "2030-01-01T10:00:00+07:00",
  });
  await snap.createVa(request);
}

// The library's model of the answer wants members of a real account, which the sandbox does not have.
let status = 0;
axios.interceptors.response.use((answer) => {
  status = answer.status;
  console.log(answer.status, JSON.stringify(answer.data));
  return answer;
});
main().catch((fault) => {
  console.error(fault.message);
  process.exitCode = status === 200 && fault instanceof TypeError ? 0 : 1;
});
