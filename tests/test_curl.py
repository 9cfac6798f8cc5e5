"""Curl commands as people paste them."""

import pytest

from proxy.commands.curl import parse_curl

URL = "https://api.provider.example/v1/x?b=2&a=%2F"


def parsed(text):
    return parse_curl(text, {"body.json": b'{"a":\n1}', "raw": b"\x00\xff"}.__getitem__)


@pytest.mark.parametrize(
    ("text", "method", "headers", "body"),
    [
        (f"curl {URL!r}", "GET", {}, b""),
        (f"$ curl -s -X put '{URL}' -H 'A: b'", "PUT", {"A": "b"}, b""),
        (f"curl -XPOST -HA:b '{URL}' -d x=1", "POST", {"A": "b"}, b"x=1"),
        (f"curl --request=POST --url '{URL}' --header='A: b: c'", "POST", {"A": "b: c"}, b""),
        (f"curl '{URL}' -d a=1 -d b=2", "POST", {}, b"a=1&b=2"),
        (f"curl '{URL}' -d @body.json", "POST", {}, b'{"a":1}'),
        (f"curl '{URL}' --data-binary @body.json", "POST", {}, b'{"a":\n1}'),
        (f"curl '{URL}' --data-raw @body.json", "POST", {}, b"@body.json"),
        (f"curl '{URL}' --data-binary @raw", "POST", {}, b"\x00\xff"),
        (f"curl '{URL}' --json '{{\"a\": 1}}'", "POST", {"Content-Type": "application/json"}, b'{"a": 1}'),
        (f"curl '{URL}' -u me:pass", "GET", {"Authorization": "Basic bWU6cGFzcw=="}, b""),
        (f"curl --oauth2-bearer tok '{URL}'", "GET", {"Authorization": "Bearer tok"}, b""),
        (f"curl '{URL}' \\\n  -H 'A: b' \\\r\n  --compressed -d '{{\n \"x\": 1}}'", "POST", {"A": "b"}, b'{\n "x": 1}'),
        (f"curl '{URL}' -d $'it\\'s \\u00e9\\n\\x41\\101'", "POST", {}, "it's é\nAA".encode()),
        (f'curl \'{URL}\' -d "{{\\"a\\": \\"b\\"}}"', "POST", {}, b'{"a": "b"}'),
        (f"curl -sSLk --max-time 3 -o /dev/null -w '%{{http_code}}' '{URL}'", "GET", {}, b""),
        (f"curl -I '{URL}'", "HEAD", {}, b""),
        (f"/usr/bin/curl '{URL}' -H 'Accept:' -H 'X-Empty;'", "GET", {"X-Empty": ""}, b""),
        (f"curl '{URL}' --data-urlencode 'n=a b&c'", "POST", {}, b"n=a%20b%26c"),
    ],
)
def test_what_is_pasted_is_read(text, method, headers, body):
    found = parsed(text)
    told = dict(found.headers)
    assert (found.method, found.target, found.body) == (method, URL, body)
    assert headers.items() <= told.items()


def test_a_body_in_the_query():
    found = parsed(f"curl -sG '{URL}' -d c=3")
    assert (found.method, found.target, found.body) == ("GET", URL + "&c=3", b"")


def test_a_body_without_a_type_is_a_form_as_curl_says():
    assert dict(parsed(f"curl '{URL}' -d a=1").headers)["Content-Type"] == "application/x-www-form-urlencoded"
    assert dict(parsed(f"curl '{URL}' -d a=1 -H 'content-type: a/b'").headers) == {"content-type": "a/b"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wget https://x",
        "curl",
        "curl -H 'A: b'",
        f"curl '{URL}",
        f"curl '{URL}' -H",
        f"curl -F a=b '{URL}'",
        "curl --x y",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_and_not_repeated(text):
    with pytest.raises(ValueError, match="curl command") as caught:
        parsed(text)
    assert "provider.example" not in str(caught.value)
