from proxy.inbound.turns import Turns


def test_the_worker_with_the_fewest_open_is_next():
    turns = Turns(3)
    first, second, third = (turns.seat(number) for number in range(3))
    assert not any(seat.others_first() for seat in (first, second, third))
    first.took()
    assert [seat.others_first() for seat in (first, second, third)] == [True, False, False]
    second.took()
    third.took()
    third.took()
    assert [seat.others_first() for seat in (first, second, third)] == [False, False, True]
    third.lost()
    third.lost()
    assert [seat.others_first() for seat in (first, second, third)] == [True, True, False]


def test_equal_ones_take_turns():
    turns = Turns(2)
    first, second = turns.seat(0), turns.seat(1)
    for _ in range(5):
        first.took()
        first.lost()
        assert (first.others_first(), second.others_first()) == (True, False)
        second.took()
        second.lost()
        assert (first.others_first(), second.others_first()) == (False, False)


def test_one_alone_never_waits():
    seat = Turns(1).seat(0)
    for _ in range(3):
        seat.took()
        assert not seat.others_first()


def test_nobody_waits_for_one_that_ended_and_a_new_one_has_no_past_to_catch_up_with():
    turns = Turns(2)
    first, second = turns.seat(0), turns.seat(1)
    for seat in (first, second) * 50:
        seat.took()
    turns.vacate(1)
    assert not first.others_first()
    again = turns.seat(1)
    assert first.others_first()  # it has no connection yet
    for _ in range(50):
        assert not again.others_first()
        again.took()
    again.took()
    assert again.others_first()
