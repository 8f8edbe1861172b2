"""Names of spans, and the paths that they stand in.

A span is a part of the log that arrives as one, such as a day. Its name stands in the
paths of its files where the configuration writes ``{SPAN}``, or ``{YYYY}``, ``{MM}`` and
``{DD}``; ``{VERSION}`` counts the deliveries of one span. These are the conventions of
TFX (https://www.tensorflow.org/tfx/guide/examplegen#span_version_and_split), except that
a date need not be one number.
"""

import datetime
import re
from typing import NamedTuple

from components.example_gen.errors import DataError

# What --span may be instead of a name: the newest that has a file.
LATEST = "latest"
SPAN = "{SPAN}"
VERSION = "{VERSION}"
_DATE = {"{YYYY}": "%Y", "{MM}": "%m", "{DD}": "%d"}
_WHOLE_NUMBER = "a whole number"
# Pattern of a name, format of `datetime`, and hours from one span to the next.
_TIMES = {
    "a date like 2026-11-26": (re.compile(r"\d{4}-\d\d-\d\d"), "%Y-%m-%d", 24),
    "a date like 20261126": (re.compile(r"(19|20)\d{6}"), "%Y%m%d", 24),
    "an hour like 2026-11-26-05": (re.compile(r"\d{4}-\d\d-\d\d-\d\d"), "%Y-%m-%d-%H", 1),
    "an hour like 2026112605": (re.compile(r"(19|20)\d{8}"), "%Y%m%d%H", 1),
}
_EPOCH = datetime.datetime(1970, 1, 1)
_HOUR = datetime.timedelta(hours=1)
_GROUPS = {
    SPAN: ("span", r"[0-9]+(?:-[0-9]+)*"),
    VERSION: ("version", r"[0-9]+"),
    "{YYYY}": ("year", r"[0-9]{4}"),
    "{MM}": ("month", r"[0-9]{2}"),
    "{DD}": ("day", r"[0-9]{2}"),
}
_WILD = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


class SpanName(NamedTuple):
    """A span's name and its place among the others.

    Attributes:
      notation: How the name is written; only spans of one notation can be compared.
      number: Its number; the next span's is one higher.
      text: The name itself.
    """

    notation: str
    number: int
    text: str


def parse(text: str) -> SpanName:
    """Reads a span's name: a date, an hour of a date, or a whole number.

    Raises:
      DataError: if it is none of these.
    """
    for notation, (pattern, form, hours) in _TIMES.items():
        if pattern.fullmatch(text):
            try:
                moment = datetime.datetime.strptime(text, form)
            except ValueError:
                continue
            return SpanName(notation, (moment - _EPOCH) // (_HOUR * hours), text)
    if text.isascii() and text.isdigit():
        return SpanName(_WHOLE_NUMBER, int(text), text)
    raise DataError(
        f"{text!r} is no span: expected {', '.join(_TIMES)}, {_WHOLE_NUMBER}, or {LATEST!r}"
    )


def name_of(number: int, like: SpanName) -> str:
    """The name of span ``number``, written as ``like`` is."""
    if like.notation == _WHOLE_NUMBER:
        return str(number).zfill(len(like.text))  # 008 comes after 007
    _, form, hours = _TIMES[like.notation]
    return (_EPOCH + number * hours * _HOUR).strftime(form)


def names_span(pattern: str) -> bool:
    """Whether a path depends on the span."""
    return SPAN in pattern or all(part in pattern for part in _DATE)


def fill(pattern: str, span: str) -> str:
    """The path with the span in it; ``{VERSION}`` stays.

    Raises:
      DataError: if the path needs a date and the span is none.
    """
    path = pattern.replace(SPAN, span)
    if not any(part in path for part in _DATE):
        return path
    name = parse(span)
    if name.notation not in _TIMES:
        raise DataError(f"{pattern} needs a date, and the span {span!r} is {name.notation}")
    _, form, _ = _TIMES[name.notation]
    moment = datetime.datetime.strptime(span, form)
    for part, code in _DATE.items():
        path = path.replace(part, moment.strftime(code))
    return path


def glob(pattern: str) -> str:
    """A glob of the files of all spans and versions."""
    for part in _GROUPS:
        pattern = pattern.replace(part, "*")
    return pattern


def expression(pattern: str) -> re.Pattern[str]:
    """A regular expression of the same, with the groups that ``span_of`` reads."""
    seen: set[str] = set()
    result = ""
    for part in re.split(r"(\{[A-Z]+\}|\*\*|\*|\?)", pattern):
        if part in _GROUPS:
            name, characters = _GROUPS[part]
            result += f"(?P={name})" if name in seen else f"(?P<{name}>{characters})"
            seen.add(name)
        else:
            result += _WILD.get(part) or re.escape(part)
    return re.compile(result)


def span_of(match: re.Match[str]) -> str:
    """The span of a path that ``expression`` has matched."""
    groups = match.groupdict()
    return groups.get("span") or "{year}-{month}-{day}".format(**groups)
