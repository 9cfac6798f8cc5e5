"""Faults in a row open the circuit, probes close it, and nothing else does."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.breaker import FAULTS, Breaker, Trial, Verdict, verdict_on
from proxy.errors import KINDS, ProxyError
from proxy.settings import Circuit


def breaker(faults: float = 3, probe: float = 5.0) -> Breaker:
    return Breaker(Circuit(faults, probe))


def ended(circuit: Breaker, verdict: Verdict, now: float, times: int = 1) -> None:
    for _ in range(times):
        circuit.settle(circuit.enter(now), verdict, now)


def opened(at: float = 0.0, **rule: float) -> Breaker:
    circuit = breaker(**rule)
    ended(circuit, "fault", at, times=int(circuit.rule.faults))
    assert circuit.state(at) == "open"
    return circuit


def refused(circuit: Breaker, now: float) -> ProxyError:
    with pytest.raises(ProxyError) as raised:
        circuit.enter(now)
    assert (raised.value.code, raised.value.sent) == ("circuit_open", "no")
    with pytest.raises(ProxyError):
        circuit.check(now)
    return raised.value


def test_faults_in_a_row_open_it() -> None:
    circuit = breaker(faults=3)
    ended(circuit, "fault", 0, times=2)
    assert circuit.state(0) == "closed"
    ended(circuit, "fault", 0)
    assert circuit.state(0) == "open"


def test_an_answer_breaks_the_row() -> None:
    circuit = breaker(faults=3)
    for _ in range(5):
        ended(circuit, "fault", 0, times=2)
        ended(circuit, "alive", 0)
    assert circuit.state(0) == "closed"


def test_what_says_nothing_of_the_provider_neither_counts_nor_breaks_the_row() -> None:
    circuit = breaker(faults=3)
    ended(circuit, "fault", 0, times=2)
    ended(circuit, "unknown", 0, times=100)
    assert circuit.state(0) == "closed"
    ended(circuit, "fault", 0)
    assert circuit.state(0) == "open"


def test_until_the_first_probe_everybody_is_told_how_long_to_wait() -> None:
    circuit = opened(at=100, probe=5)
    assert refused(circuit, 100).retry_after == 5
    assert refused(circuit, 104.5).retry_after == 0.5


def test_one_request_is_a_probe_and_the_others_are_told_to_wait() -> None:
    circuit = opened(probe=5)
    circuit.check(5)
    probe = circuit.enter(5)
    assert (probe.is_probe, circuit.state(5)) == (True, "half-open")
    assert refused(circuit, 5).retry_after == 5
    circuit.settle(probe, "alive", 6)
    assert circuit.state(6) == "closed"
    assert not circuit.enter(6).is_probe


def test_it_is_left_alone_no_longer_than_until_a_probe_is_due_though_nobody_calls() -> None:
    circuit = opened(at=100, probe=5)
    assert [circuit.state(now) for now in (100, 104.9, 105, 9_999)] == ["open", "open", "half-open", "half-open"]
    circuit.settle(circuit.enter(9_999), "fault", 9_999)
    assert [circuit.state(now) for now in (9_999, 10_004)] == ["open", "half-open"]


def test_a_probe_that_fails_leaves_it_open_and_the_next_begins_five_seconds_after_this_one_began() -> None:
    circuit = opened(probe=5)
    circuit.settle(circuit.enter(5), "fault", 8)
    assert circuit.state(8) == "open"
    assert refused(circuit, 9).retry_after == 1
    circuit.settle(circuit.enter(10), "alive", 10)
    assert circuit.state(10) == "closed"


def test_a_probe_that_hangs_does_not_keep_the_next_from_finding_the_provider_well() -> None:
    circuit = opened(probe=5)
    hanging = circuit.enter(5)
    refused(circuit, 9.9)
    circuit.settle(circuit.enter(10), "alive", 10.1)
    assert circuit.state(10.1) == "closed"
    circuit.settle(hanging, "fault", 35)
    ended(circuit, "fault", 35, times=2)
    assert circuit.state(35) == "closed"


def test_it_is_half_open_as_long_as_any_probe_is_under_way() -> None:
    circuit = opened(probe=5)
    first, second = circuit.enter(5), circuit.enter(10)
    circuit.settle(second, "fault", 11)
    assert circuit.state(11) == "half-open"
    circuit.settle(first, "alive", 12)
    assert circuit.state(12) == "closed"


def test_a_probe_that_finds_out_nothing_lets_the_next_follow_at_once() -> None:
    circuit = opened(probe=5)
    circuit.settle(circuit.enter(5), "unknown", 6)
    assert circuit.state(6) == "half-open"
    assert circuit.enter(6).is_probe
    refused(circuit, 6)


def test_an_old_probe_that_finds_out_nothing_leaves_the_newer_one_alone() -> None:
    circuit = opened(probe=5)
    old = circuit.enter(5)
    circuit.enter(10)
    circuit.settle(old, "unknown", 11)
    refused(circuit, 11)


def test_closed_again_it_takes_the_whole_row_to_open() -> None:
    circuit = opened(faults=3, probe=5)
    circuit.settle(circuit.enter(5), "alive", 5)
    ended(circuit, "fault", 6, times=2)
    assert circuit.state(6) == "closed"


def test_what_began_before_it_opened_neither_closes_it_nor_opens_it_again() -> None:
    circuit = breaker(faults=3, probe=5)
    old = [circuit.enter(0) for _ in range(20)]
    for trial in old[:3]:
        circuit.settle(trial, "fault", 30)
    circuit.settle(old[3], "alive", 31)
    assert circuit.state(31) == "open"
    circuit.settle(circuit.enter(35), "alive", 35)
    for trial in old[4:]:
        circuit.settle(trial, "fault", 36)
    assert circuit.state(36) == "closed"


def test_switched_off_it_never_opens() -> None:
    circuit = breaker(faults=math.inf)
    ended(circuit, "fault", 0, times=10_000)
    assert circuit.state(0) == "closed"


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 404, 408, 429, 499, 501, 505])
def test_answers_of_a_provider_that_works(status: int) -> None:
    assert verdict_on(status) == "alive"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 506, 507, 520, 599])
def test_answers_of_one_that_does_not(status: int) -> None:
    assert verdict_on(status) == "fault"


def test_errors_that_are_the_providers_doing() -> None:
    assert {code for code in KINDS if code.startswith("upstream_")} == FAULTS


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "enter", "alive", "fault", "fault"]), st.integers(0, 30), st.floats(0, 4)),
    max_size=120,
)


@given(faults=st.integers(1, 4), steps=STEPS)
def test_whatever_happens_an_open_circuit_lets_one_through_in_five_seconds(
    faults: int, steps: list[tuple[str, int, float]]
) -> None:
    circuit, now, last = breaker(faults=faults, probe=5), 0.0, -math.inf
    inside: list[Trial] = []
    for step, number, pause in steps:
        now += pause
        was_open = circuit.state(now) != "closed"
        if step == "enter":
            let_through = now >= last + 5 or not was_open
            if let_through:
                inside.append(circuit.enter(now))
                assert inside[-1].is_probe == was_open
                last = now if was_open else last
            else:
                assert refused(circuit, now).retry_after == pytest.approx(last + 5 - now)
        elif inside:
            circuit.settle(inside.pop(number % len(inside)), "alive" if step == "alive" else "fault", now)
            last = now if circuit.state(now) == "open" and not was_open else last
    circuit.enter(now + 5)
