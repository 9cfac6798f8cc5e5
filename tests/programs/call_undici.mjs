// One POST with undici, the library behind Node's fetch, and its agent for the variables of the environment.
import { createRequire } from "node:module";
const { EnvHttpProxyAgent, fetch } = createRequire(`${process.env.NODE_PATH}/`)("undici");

const answer = await fetch(process.argv[2], {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ trxId: "undici" }),
  dispatcher: new EnvHttpProxyAgent(),
});
console.log(answer.status, await answer.text());
