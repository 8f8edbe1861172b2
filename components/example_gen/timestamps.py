"""Converts timestamp columns of any type to whole seconds since 1970 (UTC)."""

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.example_gen.text import is_blank, to_text

# 9999-12-31T23:59:59Z. Larger values are probably milliseconds that were read as seconds.
MAX_SECONDS = 253_402_300_799
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_ISO_8601 = (
    r"^\d{4}-\d{2}-\d{2}"
    r"([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?)?$"
)

TimestampProblem = Literal[
    "missing_timestamp",
    "unparsable_timestamp",
    "negative_timestamp",
    "timestamp_out_of_range",
]


def parse_timestamps(
    column: pa.Array | pa.ChunkedArray, unit: Literal["s", "ms", "us", "iso"]
) -> tuple[np.ndarray, dict[TimestampProblem, np.ndarray]]:
    """Converts ``column`` to seconds.

    Args:
      column: Times [R]: numbers, text, dates or timestamps.
      unit: Unit of numbers, including numbers written as text; ``iso`` reads text as
        ISO 8601. Dates and timestamps have their own unit.

    Returns:
      Seconds since 1970 [R], rounded down (int64; 0 for rows with a problem), and which
      rows [R] have each problem. A row has at most one problem.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.array([], array.type)
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        missing = array.is_null().to_numpy(zero_copy_only=False)
        seconds = pc.fill_null(_floor_to_seconds(array), 0).to_numpy().astype(np.float64)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        # pandas writes missing numbers as NaN.
        missing = np.isnan(numbers)
        seconds = numbers / _PER_SECOND.get(unit, 1)
    else:
        text = to_text(array).values
        missing = is_blank(text)
        trimmed = pc.utf8_trim_whitespace(pc.fill_null(text, ""))
        seconds = _parse_iso(trimmed) if unit == "iso" else _parse_numbers(trimmed, unit)
    seconds = np.floor(seconds)
    unparsable = ~missing & np.isnan(seconds)
    known = ~missing & ~unparsable
    with np.errstate(invalid="ignore"):
        negative = known & (seconds < 0)
        beyond = known & (seconds > MAX_SECONDS)
    good = known & ~negative & ~beyond
    problems: dict[TimestampProblem, np.ndarray] = {
        "missing_timestamp": missing,
        "unparsable_timestamp": unparsable,
        "negative_timestamp": negative,
        "timestamp_out_of_range": beyond,
    }
    return np.where(good, seconds, 0).astype(np.int64), problems


def _floor_to_seconds(array: pa.Array) -> pa.Array:
    stamps = array.cast(pa.timestamp("s"), safe=False) if pa.types.is_date(array.type) else array
    zone = getattr(stamps.type, "tz", None)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[stamps.type.unit]
    ticks = stamps.cast(pa.timestamp(stamps.type.unit, zone)).cast(pa.int64())
    # Not by integer division, which in Arrow rounds towards 0: a time just before 1970 must stay
    # negative.
    return pc.floor(pc.divide(ticks.cast(pa.float64(), safe=False), float(per_second)))


def _parse_numbers(text: pa.StringArray, unit: str) -> np.ndarray:
    try:
        numbers = text.cast(pa.int64()).to_numpy().astype(np.float64)
    except pa.ArrowInvalid:  # some value is not an integer, so parse them one by one
        values = text.to_numpy(zero_copy_only=False)
        numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(float)
        numbers[np.isinf(numbers)] = np.nan
    return numbers / _PER_SECOND[unit]


def _parse_iso(text: pa.StringArray) -> np.ndarray:
    # Without this check, pandas would also accept "now", "5" and the like as dates.
    plausible = pc.match_substring_regex(text, _ISO_8601)
    values = pc.if_else(plausible, text, pa.scalar(None, pa.string())).to_pandas()
    stamps = pd.to_datetime(values, utc=True, errors="coerce")
    nanoseconds = stamps.to_numpy("datetime64[ns]").astype(np.int64)
    return np.where(stamps.isna().to_numpy(), np.nan, nanoseconds / 1e9)
