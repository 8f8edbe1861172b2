"""Numbering of categories by hand."""

from model.categories import category_table


def test_names_of_most_items_come_first_and_repetitions_count_once():
    table = category_table([[b"b", b"a", b"b"], [], [b"c", b"a"], [b"d"]])
    assert table.names.tolist() == [b"a", b"b", b"c", b"d"]
    assert table.items.tolist() == [[1, 2], [0, 0], [1, 3], [4, 0]]


def test_items_without_any_category_are_a_table_too():
    table = category_table([[], []])
    assert table.names.tolist() == []
    assert table.items.tolist() == [[0], [0]]
