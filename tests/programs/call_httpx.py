"""One POST with httpx, as its documentation shows it. The variables of the environment lead it."""

import sys

import httpx

answer = httpx.post(sys.argv[1], json={"trxId": "httpx"}, timeout=20)
print(answer.status_code, answer.text)
