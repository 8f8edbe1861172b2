"""Converts Arrow columns of any type to the text that a tf.Example contains."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# Integers up to this one are exact in a float64.
_MAX_EXACT_FLOAT = float(1 << 53)


@dataclass(frozen=True)
class Text:
    """A column as text.

    Attributes:
      values: Text [R]; null if missing or unusable.
      not_utf8: Which rows [R] are not valid UTF-8.
      not_whole: Which rows [R] have a number with a fraction, or one that is too large
        for its digits to be exact. ``values`` contains the text of such a number.
    """

    values: pa.StringArray
    not_utf8: np.ndarray
    not_whole: np.ndarray


def to_text(column: pa.Array | pa.ChunkedArray, separator: str = "") -> Text:
    """Converts ``column`` to text.

    Text is kept exactly as it is. Whole numbers become their decimal digits, even in a
    floating-point column, because pandas turns an integer column with missing values into
    one.

    Args:
      column: A column [R] of any scalar type, or of lists of scalars.
      separator: Text that joins the elements of a list.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # combine_chunks returns this if there is no chunk
        array = pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    never = np.zeros(len(array), bool)
    kind = array.type
    if pa.types.is_null(kind):
        return Text(pa.nulls(len(array), pa.string()), never, never)
    if pa.types.is_binary(kind) or pa.types.is_string(kind) or _is_large_text(kind):
        values, not_utf8 = _decode(array)
        return Text(values, not_utf8, never)
    if pa.types.is_floating(kind):
        return _from_float(array, never)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _join(array, separator)
    try:
        return Text(array.cast(pa.string()), never, never)
    except pa.ArrowNotImplementedError:  # decimals, structures
        texts = [None if value is None else str(value) for value in array.to_pylist()]
        return Text(pa.array(texts, pa.string()), never, never)


def is_blank(values: pa.StringArray) -> np.ndarray:
    """Returns which rows [R] are null, empty or only white space."""
    blank = pc.equal(pc.utf8_trim_whitespace(values), "")
    return to_numpy(pc.fill_null(blank, True))


def hash_text(values: pa.StringArray, key: str = "0123456789123456") -> np.ndarray:
    """Returns hashes [R] (uint64) of text, the same on every machine and in every run.

    Args:
      values: Text [R] without nulls.
      key: 16 characters; different keys give independent hashes.
    """
    encoded = values.dictionary_encode()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    hashes = pd.util.hash_array(distinct, hash_key=key, categorize=False)
    return hashes[encoded.indices.to_numpy()]


def to_numpy(array: pa.Array) -> np.ndarray:
    """Returns a column without nulls as a NumPy array; booleans are copied."""
    return array.to_numpy(zero_copy_only=False)


def _is_large_text(kind: pa.DataType) -> bool:
    return pa.types.is_large_binary(kind) or pa.types.is_large_string(kind)


def _decode(array: pa.Array) -> tuple[pa.StringArray, np.ndarray]:
    binary = array.cast(pa.binary())
    never = np.zeros(len(array), bool)
    try:
        return binary.cast(pa.string()), never  # the cast checks that it is UTF-8
    except pa.ArrowInvalid:
        pass
    decoded: list[str | None] = []
    for row, value in enumerate(binary.to_pylist()):
        try:
            decoded.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            never[row] = True
            decoded.append(None)
    return pa.array(decoded, pa.string()), never


def _from_float(array: pa.Array, never: np.ndarray) -> Text:
    numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null becomes NaN
    missing = np.isnan(numbers)
    whole = np.abs(numbers) < _MAX_EXACT_FLOAT
    whole &= numbers == np.floor(numbers)
    digits = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
    exact = pa.array(numbers, mask=missing).cast(pa.string())
    return Text(pc.if_else(pa.array(whole), digits, exact), never, ~whole & ~missing)


def _join(array: pa.Array, separator: str) -> Text:
    elements = to_text(array.flatten(), separator)
    # Elements that are null would make the whole list null.
    values = pc.fill_null(elements.values, "")
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), values)
    unusable = np.zeros(len(array), bool)
    unusable[np.repeat(np.arange(len(array)), lengths)[elements.not_utf8]] = True
    joined = pc.binary_join(lists, separator)
    empty = pa.array(lengths == 0)
    return Text(
        pc.if_else(pc.or_(empty, pa.array(unusable)), pa.scalar(None, pa.string()), joined),
        unusable,
        np.zeros(len(array), bool),
    )
