from proxy.inbound.turns import Turns


def test_the_worker_with_the_fewest_open_is_next():
    turns = Turns(3)
    first, second, third = (turns.seat(number) for number in range(3))
    assert [seat.lead() for seat in (first, second, third)] == [0, 0, 0]
    first.took()
    assert [seat.lead() for seat in (first, second, third)] == [1, 0, 0]
    second.took()
    third.took()
    third.took()
    assert [seat.lead() for seat in (first, second, third)] == [0, 0, 1]
    third.lost()
    third.lost()
    first.took()
    assert [seat.lead() for seat in (first, second, third)] == [2, 1, 0]


def test_equal_ones_take_turns():
    turns = Turns(2)
    first, second = turns.seat(0), turns.seat(1)
    for _ in range(5):
        first.took()
        first.lost()
        assert (first.lead(), second.lead()) == (1, 0)
        second.took()
        second.lost()
        assert (first.lead(), second.lead()) == (0, 0)


def test_one_alone_never_waits():
    seat = Turns(1).seat(0)
    for _ in range(3):
        seat.took()
        assert seat.lead() == 0


def test_nobody_waits_for_one_that_ended_and_a_new_one_has_no_past_to_catch_up_with():
    turns = Turns(2)
    first, second = turns.seat(0), turns.seat(1)
    for seat in (first, second) * 50:
        seat.took()
    turns.vacate(1)
    assert first.lead() == 0
    again = turns.seat(1)
    assert first.lead() == 50  # it has no connection yet
    for _ in range(50):
        assert again.lead() == 0
        again.took()
    again.took()
    assert again.lead() == 1


def test_who_is_awaited_changes_with_every_caller_it_takes():
    turns = Turns(3)
    first, second, third = (turns.seat(number) for number in range(3))
    first.took()
    third.took()
    assert first.awaited() == (1, 0)
    third.took()
    assert first.awaited() == (1, 0)  # it is not the third that is waited for
    second.took()
    second.lost()
    assert first.awaited() == (1, 1)
