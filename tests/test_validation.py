"""The checks of what users pass in: what they take, what they return, and what their errors say."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.validation import check_choice, check_flag, check_integer, check_number

# ---- integers


@pytest.mark.parametrize("value", [3, np.int8(3), np.int64(3), np.uint8(3), np.uint64(3), np.array(3)])
def test_an_integer_of_any_type_becomes_an_int(value: Any) -> None:
    number = check_integer("epochs", value)
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, [3], Fraction(3), 3j])
def test_what_is_no_integer_is_a_type_error_that_names_the_argument_and_the_value(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        check_integer("epochs", value, low=1)
    assert str(caught.value) == f"epochs must be an integer of at least 1, got {value!r}"


def test_limits_of_an_integer_are_part_of_the_range() -> None:
    assert [check_integer("n", n, low=-1, high=1) for n in (-1, 0, 1)] == [-1, 0, 1]
    for n in (-2, 2):
        with pytest.raises(ValueError, match=rf"^n must be an integer from -1 to 1, got {n}$"):
            check_integer("n", n, low=-1, high=1)
    with pytest.raises(ValueError, match=r"^n must be an integer, got 2$"):
        check_integer("n", 2, high=1)


@settings(deadline=None)
@given(value=st.integers(), low=st.none() | st.integers(), high=st.none() | st.integers())
def test_integers_pass_exactly_when_they_are_within_the_limits(value: int, low: int | None, high: int | None) -> None:
    if (low is None or value >= low) and (high is None or value <= high):
        assert check_integer("n", value, low, high) == value
    else:
        with pytest.raises(ValueError, match=r"^n must be an integer"):
            check_integer("n", value, low, high)


# ---- numbers


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.float64(2), np.int16(2), Fraction(2)])
def test_a_real_number_of_any_type_becomes_a_float(value: Any) -> None:
    number = check_number("l2", value)
    assert number == 2.0
    assert type(number) is float


@pytest.mark.parametrize("value", [True, np.False_, "1", None, [1.0], 1j, np.ones(1)])
def test_what_is_no_number_is_a_type_error_that_names_the_argument_and_the_value(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        check_number("l2", value, low=0.0)
    assert str(caught.value) == f"l2 must be a finite number of at least 0, got {value!r}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
def test_numbers_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match=r"^l2 must be a finite number, got"):
        check_number("l2", value)


@pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400)], ids=["int", "negative", "fraction"])
def test_numbers_too_large_for_a_float_are_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^l2 must be a finite number"):
        check_number("l2", value)


def test_limits_of_a_number_are_part_of_the_range_unless_above_or_below_is_set() -> None:
    assert check_number("p", 0.0, low=0.0, high=1.0) == 0.0
    assert check_number("p", 1.0, low=0.0, high=1.0) == 1.0
    with pytest.raises(ValueError, match=r"^p must be a finite number above 0 and below 1, got 0\.0$"):
        check_number("p", 0.0, low=0.0, high=1.0, above=True, below=True)
    with pytest.raises(ValueError, match=r"^p must be a finite number above 0 and below 1, got 1\.0$"):
        check_number("p", 1.0, low=0.0, high=1.0, above=True, below=True)
    with pytest.raises(ValueError, match=r"^p must be a finite number at most 1, got 1\.5$"):
        check_number("p", 1.5, high=1.0)


@settings(deadline=None)
@given(value=st.floats(), low=st.floats(allow_nan=False), high=st.floats(allow_nan=False), above=st.booleans(),
       below=st.booleans())
def test_numbers_pass_exactly_when_they_are_within_the_limits(value: float, low: float, high: float, above: bool,
                                                              below: bool) -> None:
    within = (value > low if above else value >= low) and (value < high if below else value <= high)
    if within and math.isfinite(value):
        assert check_number("p", value, low, high, above=above, below=below) == value
    else:
        with pytest.raises(ValueError, match=r"^p must be a finite number"):
            check_number("p", value, low, high, above=above, below=below)


# ---- names and flags


def test_a_choice_is_returned_as_it_is() -> None:
    assert check_choice("loss", "b", {"a": 1, "b": 2}) == "b"


@pytest.mark.parametrize(("value", "error"), [
    ("c", ValueError), ("A", ValueError), ("", ValueError), ("a ", ValueError),
    (None, TypeError), (1, TypeError), (b"a", TypeError), (["a"], TypeError),
])
def test_another_choice_names_the_argument_the_value_and_all_there_is(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        check_choice("loss", value, ("b", "a"))
    assert str(caught.value) == f"loss must be one of 'a', 'b', got {value!r}"


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_flags_are_true_or_false(value: Any) -> None:
    flag = check_flag("shuffle", value)
    assert flag == value
    assert type(flag) is bool


@pytest.mark.parametrize("value", [0, 1, None, "yes", [], 1.0])
def test_nothing_else_is_a_flag(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        check_flag("shuffle", value)
    assert str(caught.value) == f"shuffle must be True or False, got {value!r}"
