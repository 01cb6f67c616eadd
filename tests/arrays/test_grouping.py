from itertools import groupby

import numpy as np
import pytest

from hf_hardneg.arrays.grouping import among, position_in_group, spread


@pytest.mark.parametrize("group", [[], [3], [0, 0, 2, 2, 2, 5], [7, 1, 1, 0]])
def test_positions_begin_anew_in_each_group(group):
    by_hand = [place for _, entries in groupby(group) for place, _ in enumerate(entries)]
    assert position_in_group(np.array(group, np.int64)).tolist() == by_hand


@pytest.mark.parametrize("counts", [[], [0], [2, 0, 3], [0, 1, 0]])
def test_spread_names_group_and_position(counts):
    by_hand = [(group, place) for group, count in enumerate(counts) for place in range(count)]
    group, place = spread(np.array(counts, np.int64))
    assert list(zip(group.tolist(), place.tolist(), strict=True)) == by_hand


def test_among_looks_in_the_own_group_alone():
    values, group = np.array([4, 5, 4, 9]), np.array([0, 0, 1, 2])
    assert among(values, group, np.array([4, 5, 9]), np.array([0, 1, 2, 2])).tolist() == [1, 0, 0, 0]
