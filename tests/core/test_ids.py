import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.ids import Ulids

DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def number(ulid):
    total = 0
    for digit in ulid:
        total = total * 32 + DIGITS.index(digit)
    return total


@given(st.integers(0, 2**48 - 1), st.integers())
def test_it_holds_the_time_and_the_drawn_bits(ms, seed):
    ulid = Ulids(random.Random(seed)).new(ms)
    assert re.fullmatch(f"[{DIGITS}]{{26}}", ulid)
    assert number(ulid) >> 80 == ms
    assert number(ulid) & (2**80 - 1) == random.Random(seed).getrandbits(80)


@given(st.lists(st.integers(1_000, 1_010), max_size=50))
def test_ids_grow_whatever_the_clock_does(times):
    ulids = Ulids(random.Random(0))
    made = [ulids.new(ms) for ms in times]
    assert made == sorted(set(made))


def test_within_a_millisecond_the_bits_are_counted_up():
    ulids = Ulids(random.Random(1))
    first, second = number(ulids.new(5)), number(ulids.new(5))
    assert second == first + 1


def test_a_count_that_runs_over_goes_on_in_the_next_millisecond():
    class Ones(random.Random):
        def getrandbits(self, k):
            return 2**k - 1

    ulids = Ulids(Ones())
    first, second = ulids.new(5), ulids.new(5)
    assert (number(first) >> 80, number(second) >> 80) == (5, 6)


def test_seeded_ids_repeat_and_unseeded_ones_do_not():
    assert Ulids(random.Random(7)).new(1) == Ulids(random.Random(7)).new(1)
    assert Ulids().new(1) != Ulids().new(1)


@pytest.mark.parametrize("ms", [-1, 2**48, -(2**60)])
def test_times_out_of_bounds_are_refused(ms):
    with pytest.raises(ValueError, match="ULID holds times"):
        Ulids().new(ms)
