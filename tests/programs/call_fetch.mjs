// One POST with the fetch of Node itself, which knows no proxy: it is led by its URL.
const answer = await fetch(process.argv[2], {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ trxId: "fetch" }),
});
console.log(answer.status, await answer.text());
