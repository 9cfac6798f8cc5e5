import pytest

from proxy.errors import ProxyError
from proxy.model import SignedRequest
from proxy.outbound.message import written


def signed(method="GET", url="https://api.example/x", headers=(), body=b""):
    return SignedRequest(method, url, tuple(headers), body)


def test_the_message_is_the_signed_request_with_host_and_length():
    origin, head = written(
        signed("POST", "https://api.example/v1//a%2fb;c?q=%7E+x&empty=", [("X-One", "1"), ("x-one", "2")], b"{}")
    )
    assert origin == "https://api.example"
    assert head == (
        b"POST /v1//a%2fb;c?q=%7E+x&empty= HTTP/1.1\r\n"
        b"Host: api.example\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 2\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("url", "origin", "host"),
    [
        ("http://h/", "http://h", b"Host: h\r\n"),
        ("http://h:80/", "http://h", b"Host: h\r\n"),
        ("https://h:443/", "https://h", b"Host: h\r\n"),
        ("https://h:80/", "https://h:80", b"Host: h:80\r\n"),
        ("http://[::1]:8/", "http://[::1]:8", b"Host: [::1]:8\r\n"),
    ],
)
def test_origin_and_host_leave_out_the_default_port(url, origin, host):
    there, head = written(signed(url=url))
    assert there == origin
    assert host in head


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("POST", b"", b"Content-Length: 0"),
        ("PUT", b"", b"Content-Length: 0"),
        ("PATCH", b"", b"Content-Length: 0"),
        ("GET", b"", None),
        ("HEAD", b"", None),
        ("DELETE", b"", None),
        ("OPTIONS", b"", None),
        ("DELETE", b"abc", b"Content-Length: 3"),
        ("GET", b"abc", b"Content-Length: 3"),
    ],
)
def test_length_is_announced_where_a_body_is_or_is_expected(method, body, length):
    lines = written(signed(method, body=body))[1].split(b"\r\n")
    assert [line for line in lines if line.startswith(b"Content-Length")] == ([length] if length else [])


@pytest.mark.parametrize(
    "target", ["/", "/?", "/a?", "/a??b", "//a//", "/%2e%2E/%zz", "/a;b=c+d?e=%2F", "/~*!$&'(),@:[]{}|\\^`\"<>"]
)
def test_every_target_is_written_as_it_stands(target):
    _, head = written(signed(url=f"https://h{target}"))
    assert head.startswith(b"GET %b HTTP/1.1\r\n" % target.encode())


def test_values_are_utf8():
    assert "X-Name: Bücher 💶\r\n".encode() in written(signed(headers=[("X-Name", "Bücher 💶")]))[1]


def test_every_name_and_value_that_can_be_sent_arrives_as_it_stands():
    _, head = written(signed(headers=[("X-%s", "100 %s\t%%"), ("a%%", "\xa0\x85")]))
    assert head.endswith("\r\nX-%s: 100 %s\t%%\r\na%%: \xa0\x85\r\n\r\n".encode())


@pytest.mark.parametrize(
    "request_",
    [
        signed(url="https://h"),
        signed(url="https://h?x"),
        signed(url="https://user@h/"),
        signed(url="https://h/#fragment"),
        signed(url="https://h/a b"),
        signed(url="https://h/ä"),
        signed(url="https://h/\r\nX: y"),
        signed(url="https://h\\@evil/"),
        signed(url="ftp://h/"),
        signed(url="/path"),
        signed("GET /x HTTP/1.1\r\nX: y\r\n\r\nGET"),
        signed("ge t"),
        signed(""),
        signed(headers=[("X", "a\r\nY: b")]),
        signed(headers=[("X", "a\x00")]),
        signed(headers=[("X", "a\x1f")]),
        signed(headers=[("X", "a\x7f")]),
        signed(headers=[("X", "a\n")]),
        signed(headers=[("X", "\ud800")]),
        signed(headers=[("X Y", "a")]),
        signed(headers=[("X:", "a")]),
        signed(headers=[("", "a")]),
        signed(headers=[("host", "evil")]),
        signed(headers=[("Content-Length", "5")]),
        signed(headers=[("transfer-Encoding", "chunked")]),
        signed(headers=[("Connection", "close")]),
    ],
)
def test_what_cannot_arrive_as_it_was_signed_is_refused(request_):
    with pytest.raises(ProxyError) as raised:
        written(request_)
    assert (raised.value.code, raised.value.sent) == ("internal", "no")
