"""Parses JSON documents as TF Serving does.

TF Serving parses bodies with RapidJSON 1.1.0 under three flags (``ParseJson`` in its
``util/json_tensor.cc``): without recursion, with NaN and infinity as numbers, and only up to the
end of the first value. This module uses Python's parser. Where that parser refuses what RapidJSON
accepts, the document is adapted and parsed again; where both refuse, the error has RapidJSON's
wording and offset. Two differences are deliberate: lone low surrogates are refused, because they
are not text, and values nested more than 64 levels deep are not read.
"""

import bisect
import json
import math
import re
from typing import Any, NoReturn

import numpy as np

from serving.errors import invalid_argument, quoted

_BOM = b"\xef\xbb\xbf"
_MAX_DEPTH = 64  # far deeper than any tensor
_MAX_SHOWN = 256  # bytes of a client's value shown in an error, as in TF Serving

_WHITESPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
# Numbers that RapidJSON accepts and Python does not.
_SPECIAL_NUMBER = re.compile(r"-?Inf(?!i)|-NaN")
_NUMBER_BEFORE = re.compile(r"(?<![\d.eE])(?<![eE][+-])\d+(\.\d+)?\Z")
# Numbers that may exceed the range of an integer or of a double.
_LARGE_NUMBER = re.compile(r"\d{19}|[eE]\+?\d{3}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_BAD_HEX = "Incorrect hex digit after \\u escape in string."
_BAD_SURROGATE = "The surrogate pair in string is invalid."
_LITERALS = ("true", "false", "null", "NaN", "Infinity")


class RepeatedKeys(dict[str, Any]):
    """An object in which a key occurs more than once; the first occurrence counts."""


class _NumberTooBigError(ValueError):
    pass


def parse_object(body: bytes) -> dict[str, Any]:
    """Parses the object at the beginning of a request's body.

    Strings that are not UTF-8 are decoded with Python's ``surrogateescape``.

    Raises:
      ServingError: INVALID_ARGUMENT, with TF Serving's wording.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    document = _parse(body)
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {show(document)} Is not object")
    return document


def _parse(body: bytes) -> Any:
    bom_size = len(_BOM) if body.startswith(_BOM) else 0
    text = body[bom_size:].decode("utf-8", "surrogateescape")

    def fail(reason: str, position: int) -> NoReturn:
        offset = bom_size + len(text[:position].encode("utf-8", "surrogateescape"))
        raise invalid_argument(f"JSON Parse error: {reason} at offset: {offset}")

    try:
        value, end = _decode(text)
    except json.JSONDecodeError as e:
        reason, position = _explain(text, e)
        surrogate = _lone_surrogate(text, position)
        if surrogate is None:
            fail(reason, position)
        if reason == _BAD_HEX and position == surrogate + len("\\uD800"):
            # RapidJSON reads a surrogate pair as one escape.
            fail(reason, surrogate)
        fail(_BAD_SURROGATE, surrogate)
    except _NumberTooBigError:
        fail("Number too big to be stored in double.", _first_number_too_big(text))
    surrogate = _lone_surrogate(text, end)
    if surrogate is not None:
        fail(_BAD_SURROGATE, surrogate)
    return value


def _decode(text: str) -> tuple[Any, int]:
    """Returns the first value of ``text`` and its end; anything after that is ignored."""
    try:
        return _decode_shallow(text)
    except RecursionError:
        return _decode_shallow(_without_depth(text))
    except json.JSONDecodeError as e:
        if not _SPECIAL_NUMBER.match(text, e.pos):
            raise
    return _decode_special_numbers(text)


def _decode_special_numbers(text: str) -> tuple[Any, int]:
    """Decodes ``text`` after rewriting its special numbers for Python's parser."""
    in_string = _in_strings(text)
    parts, end, size = [], 0, 0
    grown = [(0, 0)]  # (position, number of characters added before it)
    for match in _SPECIAL_NUMBER.finditer(text):
        if in_string[match.start()]:
            continue
        number = "NaN" if match[0] == "-NaN" else match[0].replace("Inf", "Infinity")
        parts += [text[end : match.start()], number]
        size += match.start() - end + len(number)
        end = match.end()
        grown.append((size, size - end))
    parts.append(text[end:])
    adapted = "".join(parts)
    try:
        return _decode_shallow(adapted)
    except json.JSONDecodeError as e:
        by = grown[bisect.bisect_right(grown, (e.pos, len(adapted))) - 1][1]
        raise json.JSONDecodeError(e.msg, text, e.pos - by) from e


def _decode_shallow(text: str) -> tuple[Any, int]:
    start = _WHITESPACE.match(text).end()  # type: ignore[union-attr]
    decoder = _CAREFUL_DECODER if _LARGE_NUMBER.search(text) else _DECODER
    return decoder.raw_decode(text, start)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = RepeatedKeys()
    for key, item in pairs:
        repeated.setdefault(key, item)
    return repeated


def _integer(digits: str) -> int | float:
    # As in RapidJSON, a number beyond 64 bits becomes a double.
    if len(digits) < 25 and -(2**63) <= int(digits) < 2**64:
        return int(digits)
    return _double(digits)


def _double(text: str) -> float:
    value = float(text)
    mantissa, _, exponent = text.lower().partition("e")
    fraction_digits = len(mantissa.partition(".")[2])
    if math.isinf(value) or int(exponent[-9:] or 0) > 308 + fraction_digits:
        raise _NumberTooBigError(text)
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_CAREFUL_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_double
)


def _first_number_too_big(text: str) -> int:
    in_string = _in_strings(text)
    for match in _NUMBER.finditer(text):
        if in_string[match.start()]:
            continue
        try:
            _double(match[0])
        except _NumberTooBigError:
            return match.start()
    raise AssertionError("no number is too big")


def _lone_surrogate(text: str, end: int) -> int | None:
    """Returns the position of an unpaired first surrogate before ``end``; None without one."""
    if not _SURROGATE.search(text, 0, end):
        return None
    high: re.Match[str] | None = None
    for match in _ESCAPE.finditer(text, 0, end):
        unit = int(match[1], 16) if match[1] else 0
        if high is not None:
            if not (0xDC00 <= unit < 0xE000 and match.start() == high.end()):
                return high.start()
            high = None
        elif 0xD800 <= unit < 0xDC00:
            high = match
        elif 0xDC00 <= unit < 0xE000:
            return match.start()
    return None if high is None else high.start()


def _without_depth(text: str) -> str:
    """Returns ``text`` with a 0 in place of values nested deeper than ``_MAX_DEPTH``."""
    opens, closes = _brackets(text)
    depth = np.cumsum(opens.astype(np.int8) - closes, dtype=np.int32)
    deep = (depth > _MAX_DEPTH) | (closes & (depth == _MAX_DEPTH))
    begins = deep & np.concatenate([[True], ~deep[:-1]])
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).copy()
    characters[deep] = ord(" ")
    characters[begins] = ord("0")
    return characters.tobytes().decode("utf-32-le", "surrogatepass")


def _codes(text: str) -> np.ndarray:
    """Returns one byte per character; characters outside ASCII become question marks."""
    return np.frombuffer(text.encode("ascii", "replace"), np.uint8)


def _in_strings(text: str) -> np.ndarray:
    """Marks the characters of a document that are inside strings, quotation marks included.

    This uses no regular expression, because a malicious document could make one take hours.
    """
    # The remaining quotation marks begin or end strings.
    quotes = _codes(text.replace("\\\\", "..").replace('\\"', "..")) == ord('"')
    return np.logical_xor.accumulate(quotes) | quotes


def _brackets(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Marks the characters that open an array or object, and those that close one."""
    codes, outside = _codes(text), ~_in_strings(text)
    opens = (codes == ord("[")) | (codes == ord("{"))
    closes = (codes == ord("]")) | (codes == ord("}"))
    return opens & outside, closes & outside


def _explain(text: str, error: json.JSONDecodeError) -> tuple[str, int]:
    """Returns RapidJSON's wording and offset for an error of Python's parser."""
    position = error.pos
    here = text[position : position + 1]
    if error.msg == "Expecting value":
        return _explain_missing_value(text, position)
    if error.msg.startswith("Expecting property name"):
        return "Missing a name for object member.", position
    if error.msg.startswith("Expecting ':'"):
        return "Missing a colon after a name of object member.", position
    if error.msg.startswith("Expecting ','"):
        number = _NUMBER_BEFORE.search(text, 0, position)
        if here == "." and number and not number[1]:
            return "Miss fraction part in number.", position + 1
        if here in ("e", "E") and number:
            has_sign = text[position + 1 : position + 2] in ("+", "-")
            return "Miss exponent in number.", position + 1 + has_sign
        if _is_in_array(text[:position]):
            return "Missing a comma or ']' after an array element.", position
        return "Missing a comma or '}' after an object member.", position
    if error.msg.startswith("Unterminated string"):
        backslashes = len(text) - len(text.rstrip("\\"))
        if backslashes % 2:
            return "Invalid escape character in string.", len(text) - 1
        return "Missing a closing quotation mark in string.", len(text)
    if error.msg.startswith("Invalid control character"):
        if here == "\0":
            return "Missing a closing quotation mark in string.", position
        return "Invalid escape character in string.", position
    escape = text.rfind("\\", 0, position + 1)
    if error.msg.startswith("Invalid \\u"):
        return _BAD_HEX, escape
    return "Invalid escape character in string.", escape


def _explain_missing_value(text: str, position: int) -> tuple[str, int]:
    here = text[position : position + 1]
    is_first = _WHITESPACE.match(text).end() == position  # type: ignore[union-attr]
    if is_first and (not here or here in ",:]}\0"):
        return "The document is empty.", position
    if here == "-":
        position += 1
        here = text[position : position + 1]
    for literal in _LITERALS:
        if here == literal[0]:
            # RapidJSON reads as far as the text matches the literal.
            found = text[position : position + len(literal)]
            agrees = [ours == theirs for ours, theirs in zip(found, literal, strict=False)]
            position += (*agrees, False).index(False)
            break
    return "Invalid value.", position


def _is_in_array(before: str) -> bool:
    """Whether the innermost bracket still open at the end of ``before`` opens an array."""
    opens, closes = _brackets(before)
    balance = np.cumsum((opens.astype(np.int8) - closes)[::-1], dtype=np.int32)
    innermost = np.flatnonzero(balance == 1)
    return bool(innermost.size) and before[len(before) - 1 - innermost[0]] == "["


def show(value: Any) -> str:
    """Formats a client's value for an error: as TF Serving prints it, cut to 256 bytes."""
    writer = _Writer()
    writer.write(value, levels=0)
    return quoted("".join(writer.parts))


class _Writer:
    """Imitates RapidJSON's ``PrettyWriter`` with arrays on one line, up to a size limit."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._size = 0

    def write(self, value: Any, levels: int) -> bool:
        """Writes a value at a depth; returns whether there is room for more."""
        if isinstance(value, list):
            return self._write_array(value, levels)
        if isinstance(value, dict):
            return self._write_object(value, levels)
        if isinstance(value, float):
            # RapidJSON's writer stops at NaN and infinity.
            return math.isfinite(value) and self._put(_show_double(value))
        if isinstance(value, str):
            return self._put(_show_string(value))
        return self._put(json.dumps(value))

    def _write_array(self, value: list[Any], levels: int) -> bool:
        if not self._put("["):
            return False
        for position, item in enumerate(value):
            if position and not self._put(", ", is_prefix=True):
                return False
            if not self.write(item, levels + 1):
                return False
        return self._put("]")

    def _write_object(self, value: dict[str, Any], levels: int) -> bool:
        if not self._put("{"):
            return False
        indent = "\n" + "    " * (levels + 1)
        for position, (key, item) in enumerate(value.items()):
            prefix = "," + indent if position else indent
            if not self._put(prefix, is_prefix=True) or not self._put(_show_string(key)):
                return False
            if not self._put(": ", is_prefix=True) or not self.write(item, levels + 1):
                return False
        return self._put(indent[:-4] + "}" if value else "}")

    def _put(self, text: str, *, is_prefix: bool = False) -> bool:
        """Appends as much as fits. A prefix is only written together with what follows it."""
        room = _MAX_SHOWN - self._size
        if room <= 0:
            return False
        self.parts.append(text[:room])
        self._size += len(text.encode("utf-8", "replace"))
        return is_prefix or self._size < _MAX_SHOWN


def _show_string(value: str) -> str:
    # Cut first: text beyond the limit must not cost anything.
    return json.dumps(
        value[:_MAX_SHOWN].encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        ensure_ascii=False,
    )


def _show_double(value: float) -> str:
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return np.format_float_positional(value, trim="0")
    mantissa, _, exponent = repr(value).partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
