// One POST with Node's own https and the agent that most programs use to lead it through a proxy.
const https = require("node:https");
const { HttpsProxyAgent } = require("https-proxy-agent");

const options = {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  agent: new HttpsProxyAgent(process.env.https_proxy),
};
const request = https.request(process.argv[2], options, (answer) => {
  let body = "";
  answer.on("data", (chunk) => (body += chunk));
  answer.on("end", () => console.log(answer.statusCode, body));
});
request.end(JSON.stringify({ trxId: "https" }));
