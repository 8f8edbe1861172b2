import decimal

import pyarrow as pa
import pytest

from components.example_gen.text import hash_text, is_blank, to_text


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (
            pa.array(["007", " a,b ", 'q"\n', "日本", None, ""]),
            ["007", " a,b ", 'q"\n', "日本", None, ""],
        ),
        (pa.array([7, None, -1], pa.int64()), ["7", None, "-1"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([12.0, None, float("nan")]), ["12", None, None]),
        (pa.array([True, None]), ["true", None]),
        (pa.array([decimal.Decimal("1.50")]), ["1.50"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([["a", None, "b"], [], None, ["c"]]), ["a||b", None, None, "c"]),
        (pa.array([[1, 2], [3]]), ["1|2", "3"]),
        (pa.nulls(2), [None, None]),
        (pa.chunked_array([["a"], ["b"]]), ["a", "b"]),
        (pa.chunked_array([], pa.string()), []),
    ],
)
def test_to_text(column, expected):
    text = to_text(column, separator="|")
    assert text.values.to_pylist() == expected
    assert text.values.type == pa.string()
    assert not text.not_utf8.any()
    assert not text.not_whole.any()


def test_only_the_row_with_bad_bytes_is_marked():
    text = to_text(pa.array([b"a", b"\xff", None, "é".encode()]))
    assert text.values.to_pylist() == ["a", None, None, "é"]
    assert text.not_utf8.tolist() == [False, True, False, False]


def test_bad_bytes_inside_a_list():
    text = to_text(pa.array([[b"a", b"\xff"], [b"b"]], pa.list_(pa.binary())), "|")
    assert text.not_utf8.tolist() == [True, False]
    assert text.values.to_pylist() == [None, "b"]


def test_numbers_that_are_no_ids_are_marked():
    # 2**53 + 1 is not representable: its digits would be those of another id.
    text = to_text(pa.array([1.5, 2.0, 2.0**53, float("inf"), None]))
    assert text.not_whole.tolist() == [True, False, True, True, False]


def test_slices_of_lists_keep_their_rows():
    lists = pa.array([["a"], ["b", "c"], None, ["d"]]).slice(1)
    assert to_text(lists, "|").values.to_pylist() == ["b|c", None, "d"]


def test_is_blank():
    values = pa.array(["a", "", " \t", None, "\u3000", " a "])
    assert is_blank(values).tolist() == [False, True, True, True, True, False]


def test_hash_is_stable_and_depends_on_text_and_key_only():
    both = hash_text(pa.array(["a", "b", "a"]))
    assert both[0] == both[2] != both[1]
    assert hash_text(pa.array(["b", "z", "a"]))[2] == both[0]
    assert hash_text(pa.array(["a"]), "another key 1234")[0] != both[0]
    # A change here would move people between buckets and splits.
    assert hash_text(pa.array(["user-1"])).tolist() == [10727632427313137042]
