"""Combinations that hold each pair of values."""

from itertools import combinations, product

from tests.pairs import pairs


def test_each_pair_of_values_stands_together_in_few_combinations() -> None:
    axes = (["a", "b", "c"], [1, 2, 3, 4], [True, False], ["x"])
    found = pairs(*axes)
    for one, other in combinations(range(4), 2):
        assert {(row[one], row[other]) for row in found} == set(product(axes[one], axes[other]))
    assert len(found) == len(set(found)) <= 14
