"""Tables of what was found out: right, and bounded whatever the keys are."""

import pytest

from proxy.remembered import LONGEST, MOST, Remembered


def test_what_was_found_is_found_once():
    asked = []
    table = Remembered(lambda key: asked.append(key) or len(key))
    assert [table["abc"], table["abc"], table["a"]] == [3, 3, 1]
    assert asked == ["abc", "a"]


def test_what_raises_is_not_kept():
    table = Remembered(int)
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            table["x"]
    assert table == {}


def test_many_keys_do_not_make_it_grow():
    table = Remembered(str.upper)
    for number in range(5 * MOST):
        assert table[f"n{number}"] == f"N{number}"
        assert len(table) <= MOST


@pytest.mark.parametrize("key", ["x" * (LONGEST + 1), ("x" * LONGEST, "y"), (b"x" * LONGEST, b"y")])
def test_long_keys_are_answered_and_not_kept(key):
    table = Remembered(lambda key: key)
    assert table[key] == key
    assert table == {}
