import datetime

import pyarrow as pa
import pytest

from components.example_gen.timestamps import MAX_SECONDS, parse_timestamps

NOON = 1_577_880_000  # 2020-01-01T12:00:00Z


def _problems(column, unit):
    seconds, problems = parse_timestamps(column, unit)
    named = [None] * len(seconds)
    for name, rows in problems.items():
        for row in rows.nonzero()[0]:
            assert named[row] is None, "a row has one problem at most"
            named[row] = name
    return list(zip(seconds.tolist(), named, strict=True))


@pytest.mark.parametrize(
    ("unit", "column"),
    [
        ("s", pa.array([NOON])),
        ("s", pa.array([NOON], pa.int32())),
        ("s", pa.array([NOON + 0.9])),
        ("s", pa.array([str(NOON)])),
        ("s", pa.array([f" {NOON}.0 ".encode()])),
        ("s", pa.array(["1.57788e9"])),
        ("ms", pa.array([NOON * 1000 + 999])),
        ("us", pa.array([str(NOON * 1_000_000 + 1)])),
        ("iso", pa.array(["2020-01-01T12:00:00Z"])),
        ("iso", pa.array(["2020-01-01 12:00"])),
        ("iso", pa.array(["2020-01-01T14:00:00+02:00"])),
        ("iso", pa.array(["2020-01-01 07:00:00.250 -0500"])),
        ("s", pa.array([datetime.datetime(2020, 1, 1, 12)], pa.timestamp("ns"))),
        ("ms", pa.array([datetime.datetime(2020, 1, 1, 12)], pa.timestamp("us"))),
        ("iso", pa.array([datetime.datetime(2020, 1, 1, 12)], pa.timestamp("s", "UTC"))),
        ("iso", pa.chunked_array([["2020-01-01T12:00:00Z"]])),
    ],
)
def test_good(unit, column):
    assert _problems(column, unit) == [(NOON, None)]


def test_dates_are_midnight():
    column = pa.array([datetime.date(2020, 1, 1)])
    assert _problems(column, "s") == [(NOON - 12 * 3600, None)]
    assert _problems(pa.array(["2020-01-01"]), "iso") == [(NOON - 12 * 3600, None)]


def test_one_bad_value_does_not_touch_the_others():
    column = pa.array(["5", "x", "", None, "-1", "nan", "inf", "1e30", "2020-01-01", "7"])
    assert _problems(column, "s") == [
        (5, None),
        (0, "unparsable_timestamp"),
        (0, "missing_timestamp"),
        (0, "missing_timestamp"),
        (0, "negative_timestamp"),
        (0, "unparsable_timestamp"),
        (0, "unparsable_timestamp"),
        (0, "timestamp_out_of_range"),
        (0, "unparsable_timestamp"),
        (7, None),
    ]


def test_iso_refuses_what_is_no_iso_date():
    column = pa.array(["now", "5", "2020-13-01", "01/02/2020", "1969-12-31T23:59:59Z", " "])
    assert [name for _, name in _problems(column, "iso")] == [
        "unparsable_timestamp",
        "unparsable_timestamp",
        "unparsable_timestamp",
        "unparsable_timestamp",
        "negative_timestamp",
        "missing_timestamp",
    ]


def test_milliseconds_read_as_seconds_are_out_of_range():
    column = pa.array([NOON * 1000, MAX_SECONDS, MAX_SECONDS + 1])
    assert [name for _, name in _problems(column, "s")] == [
        "timestamp_out_of_range",
        None,
        "timestamp_out_of_range",
    ]


def test_missing_and_negative_in_typed_columns():
    before = datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000)
    column = pa.array([None, before, datetime.datetime(1970, 1, 1)], pa.timestamp("us"))
    assert _problems(column, "s") == [
        (0, "missing_timestamp"),
        (0, "negative_timestamp"),
        (0, None),
    ]
    assert _problems(pa.array([None, -0.5]), "s") == [
        (0, "missing_timestamp"),
        (0, "negative_timestamp"),
    ]
    assert _problems(pa.nulls(1), "s") == [(0, "missing_timestamp")]
