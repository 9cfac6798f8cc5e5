"""An idle connection is trusted for half as long as the provider keeps one."""

import math

import pytest

from proxy.outbound.trust import HABIT, INCIDENT, Trust, promised


def test_at_first_as_long_as_configured():
    assert Trust(15).span(0) == 15


@pytest.mark.parametrize(("age", "span"), [(0.0, 0), (0.2, 0), (1.0, 0), (1.5, 0.75), (5.0, 2.5), (20.0, 10), (75, 15)])
def test_half_of_the_age_at_which_one_was_ended(age, span):
    trust = Trust(15)
    trust.ended(age, now=100)
    assert trust.span(100) == span


def test_a_habit_is_known_by_its_youngest_age_and_for_ten_minutes():
    trust = Trust(15)
    trust.ended(6, now=0)
    trust.ended(4, now=10)
    trust.ended(12, now=20)
    assert trust.span(20) == 2
    assert trust.span(10 + HABIT - 1) == 2
    assert trust.span(10 + HABIT) == 15


def test_an_age_seen_again_is_kept_in_mind():
    trust = Trust(15)
    for now in (0, 500, 1000):
        trust.ended(4, now)
    assert trust.span(1000 + HABIT - 1) == 2


def test_an_incident_is_soon_forgotten_and_the_habit_is_not():
    trust = Trust(15)
    trust.ended(4, now=0)
    trust.ended(0.1, now=1)
    trust.ended(0.3, now=5)
    assert trust.span(5 + INCIDENT - 0.1) == 0
    assert trust.span(5 + INCIDENT) == 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, math.inf),
        ("", math.inf),
        ("timeout=5", 5),
        ("timeout=5, max=100", 5),
        ("max=100,Timeout=60", 60),
        ("timeout=0", 0),
        ("timeout=x", math.inf),
        ("notimeout=5", math.inf),
        ("timeout=5.5", math.inf),
        ("timeout=99999999999", math.inf),
    ],
)
def test_what_a_header_promises(header, seconds):
    assert promised(header) == seconds
