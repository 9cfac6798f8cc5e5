"""One POST with requests, as its documentation shows it. The variables of the environment lead it."""

import sys

import requests

answer = requests.post(sys.argv[1], json={"trxId": "requests"}, timeout=20)
print(answer.status_code, answer.text)
