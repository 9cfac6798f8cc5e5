"""What is wrong only beside something else, found though other values near it are wrong too."""

from proxy.crosschecks import cross_check
from proxy.source import Report, parse


def found(text: str) -> list[str]:
    report = Report("x.yaml")
    cross_check(parse(text, "x.yaml").root, report)
    return [f"{finding.line}:{finding.column} {finding.path}: {finding.message}" for finding in sorted(report.findings)]


def routes(text: str) -> list[str]:
    return found(f"routes:\n{text}")


def test_two_routes_with_one_prefix() -> None:
    assert routes(
        "  a: {environment: e, prefix: /b}\n"
        "  b: {environment: e}\n"
        "  c: {environment: e, prefix: /x, provider: []}\n"
        "  d: {environment: e, prefix: /x}\n"
    ) == [
        "3:3 routes.b.prefix: is the prefix of the route in line 2 already: choose another",
        "5:31 routes.d.prefix: is the prefix of the route in line 4 already: choose another",
    ]


def test_a_host_in_two_routes_whatever_its_case() -> None:
    assert routes(
        "  a: {environment: e, hosts: [x.y, API.doku.com]}\n  b: {environment: e, hosts: [api.DOKU.com]}\n"
    ) == ["3:31 routes.b.hosts.0: stands in line 2 already: a host selects one route"]


def test_a_route_needs_to_know_where_to_go() -> None:
    words = "environment is missing: name one of the provider's (`paraf providers` lists them), or upstream"
    assert routes("  a: {token_upstream: 'https://h'}\n") == [f"2:6 routes.a: {words}"]
    assert routes("  a: {upstream: 'https://h'}\n  b: {environment: e}\n") == []
    assert routes("  a: {enviroment: e}\n") == []


def test_plain_http_to_another_machine_is_a_warning() -> None:
    report = Report("x.yaml")
    text = "routes:\n  a: {upstream: 'http://10.0.0.1', token_upstream: 'http://localhost:1'}\n"
    cross_check(parse(text, "x.yaml").root, report)
    (finding,) = report.findings
    assert (finding.line, finding.column, finding.path) == (2, 17, "routes.a.upstream")
    assert finding.severity == "warning"
    assert not report.failed()


def test_every_listener_needs_an_address_of_its_own() -> None:
    words = "is taken: every listen, admin and control needs an address of its own"
    assert found("listen: 127.0.0.1:80\nadmin: 0.0.0.0:80\n") == [f"2:8 admin: 127.0.0.1:80 {words}"]
    assert found("listen: 127.0.0.1:9464\n") == [f"1:9 listen: 127.0.0.1:9464 {words}"]
    assert found("admin: localhost:8080\n") == [f"1:8 admin: 127.0.0.1:8080 {words}"]
    assert found("listen: [unix:/a, '[::1]:1', unix:/a]\n") == [f"1:30 listen.2: unix:/a {words}"]
    assert found("control: 127.0.0.1:9464\n") == [f"1:10 control: 127.0.0.1:9464 {words}"]
    assert found("listen: 127.0.0.1:9464\nadmin: off\n") == []


def test_control_for_other_machines_needs_a_token() -> None:
    words = "other machines can reach this: set control_token, or use unix:/PATH or a loopback address"
    for address in ("0.0.0.0:1", "'[::]:1'", "10.0.0.1:1", "paraf.test:1"):
        assert found(f"version: 1\ncontrol: {address}\n") == [f"2:10 control: {words}"]
        assert found(f"control: {address}\ncontrol_token: {{env: X}}\n") == []
    for address in ("127.0.0.1:1", "'[::1]:1'", "localhost:1", "unix:/run/c"):
        assert found(f"control: {address}\n") == []


def test_what_cannot_be_read_is_passed_over() -> None:
    assert found("- 1\n") == []
    assert found("listen: {a: b}\nadmin: [x]\nroutes: [1]\n") == []
    assert routes("  a: 1\n  b: {environment: e, prefix: [], hosts: x, upstream: {}}\n") == []


def test_an_upstream_that_is_paraf_itself() -> None:
    words = "is where Paraf itself listens: calls would go round in circles"
    route = "routes:\n  a: {upstream: 'http://%s'}\n"
    assert found(route % "127.0.0.1:8080/x") == [f"2:17 routes.a.upstream: 127.0.0.1:8080 {words}"]
    assert found(route % "localhost:8080") == [f"2:17 routes.a.upstream: localhost:8080 {words}"]
    assert found("listen: 0.0.0.0:80\n" + route % "127.0.0.1") == [f"3:17 routes.a.upstream: 127.0.0.1:80 {words}"]
    assert found("listen: unix:/a\n" + route % "127.0.0.1:9464") == [f"3:17 routes.a.upstream: 127.0.0.1:9464 {words}"]
    assert found(route % "127.0.0.1:8081") == []
    assert found("listen: 0.0.0.0:443\nroutes:\n  a: {upstream: 'https://api.example.com'}\n") == []
