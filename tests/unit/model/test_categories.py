"""Numbering of categories by hand."""

import numpy as np

from model.categories import category_table, number_table


def test_names_of_most_items_come_first_and_repetitions_count_once():
    table = category_table([[b"b", b"a", b"b"], [], [b"c", b"a"], [b"d"]])
    assert table.names.tolist() == [b"a", b"b", b"c", b"d"]
    assert table.items.tolist() == [[1, 2], [0, 0], [1, 3], [4, 0]]


def test_items_without_any_category_are_a_table_too():
    table = category_table([[], []])
    assert table.names.tolist() == []
    assert table.items.tolist() == [[0], [0]]


def test_numbers_of_items_are_distinct_ascending_and_padded():
    table = number_table([[2.5, 1.0, 2.5], [], [-3.0]])
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, [[1.0, 2.5], [np.nan, np.nan], [-3.0, np.nan]])
    assert number_table([[], []]).shape == (2, 1)
