"""Variables for programs: what they are led to, and what is left as it was."""

from pathlib import Path

import pytest

from proxy.surroundings import Trust, environment

TRUST = Trust.within(Path("/x"))


def around(hosts=("api.provider.example",), trust=TRUST, **environ):
    return environment("127.0.0.1:8080", {"pay": "/pay", "a-b.c": "", "1": "/o/n"}, hosts, trust, environ)


def test_routes_have_urls():
    made = around()
    assert (made["PARAF_URL_PAY"], made["PARAF_URL_A_B_C"], made["PARAF_URL_1"]) == (
        "http://127.0.0.1:8080/pay",
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8080/o/n",
    )


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("", ""),
        ("*", ""),
        ("intern.example, 10.0.0.0/8", ",intern.example,10.0.0.0/8"),
        ("localhost,intern.example", ",intern.example"),
        ("api.provider.example", ""),
        (".provider.example", ""),
        ("*.provider.example:443", ""),
        ("PROVIDER.example", ""),
        ("xprovider.example", ",xprovider.example"),
        ("deep.api.provider.example", ",deep.api.provider.example"),
    ],
)
def test_nothing_leads_around(before, kept):
    made = around(no_proxy=before)
    assert made["no_proxy"] == made["NO_PROXY"] == f"localhost,127.0.0.1,::1{kept}"


def test_java_is_told_in_its_own_way():
    assert around(JAVA_TOOL_OPTIONS="-Xmx1g")["JAVA_TOOL_OPTIONS"].split() == [
        "-Xmx1g",
        "-Dhttp.proxyHost=127.0.0.1",
        "-Dhttp.proxyPort=8080",
        "-Dhttp.nonProxyHosts=localhost|127.*|[::1]",
        "-Dhttps.proxyHost=127.0.0.1",
        "-Dhttps.proxyPort=8080",
        "-Djavax.net.ssl.trustStore=/x/trust.p12",
        "-Djavax.net.ssl.trustStoreType=PKCS12",
        "-Djavax.net.ssl.trustStorePassword=changeit",
    ]
    assert (
        '"-Djavax.net.ssl.trustStore=/a b/trust.p12"' in around(trust=Trust.within(Path("/a b")))["JAVA_TOOL_OPTIONS"]
    )


def test_without_trust_https_goes_where_it_went():
    made = around(trust=None)
    assert not any("https" in name.lower() or "CERT" in name or "CA_" in name for name in made)
    assert "https" not in made["JAVA_TOOL_OPTIONS"]
