"""Names of spans, and the paths that contain them.

A span is a part of the log that is delivered as a unit, such as a day. In the paths of the
configuration, ``{SPAN}``, or ``{YYYY}``, ``{MM}`` and ``{DD}``, are placeholders for its name;
``{VERSION}`` numbers the deliveries of one span. These are the conventions of
TFX (https://www.tensorflow.org/tfx/guide/examplegen#span_version_and_split), except that
a date need not be a single number.
"""

import datetime
import re
from typing import NamedTuple

from components.example_gen.errors import DataError

# A value of --span that means the newest span that has a file.
LATEST = "latest"
SPAN = "{SPAN}"
VERSION = "{VERSION}"
_DATE = {"{YYYY}": "%Y", "{MM}": "%m", "{DD}": "%d"}
_WHOLE_NUMBER = "a whole number"
# Each notation has a pattern, a format of `datetime`, and the hours from one span to the next.
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
      notation: How the name is written; only spans with the same notation can be compared.
      number: Its number; that of the next span is higher by one.
      text: The name itself.
    """

    notation: str
    number: int
    text: str


def parse(text: str) -> SpanName:
    """Parses a span's name: a date, an hour of a date, or a whole number.

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
        f"{text!r} is not a span: expected {', '.join(_TIMES)}, {_WHOLE_NUMBER}, or {LATEST!r}"
    )


def name_of(number: int, like: SpanName) -> str:
    """Returns the name of span ``number`` in the notation of ``like``."""
    if like.notation == _WHOLE_NUMBER:
        return str(number).zfill(len(like.text))  # 008 comes after 007
    _, form, hours = _TIMES[like.notation]
    return (_EPOCH + number * hours * _HOUR).strftime(form)


def names_span(pattern: str) -> bool:
    """Returns whether a path depends on the span."""
    return SPAN in pattern or all(part in pattern for part in _DATE)


def fill(pattern: str, span: str) -> str:
    """Returns the path with the span filled in; ``{VERSION}`` is left as it is.

    Raises:
      DataError: if the path needs a date and the span is not a date.
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
    """Returns a glob that matches the files of all spans and versions."""
    for part in _GROUPS:
        pattern = pattern.replace(part, "*")
    return pattern


def expression(pattern: str) -> re.Pattern[str]:
    """Returns a regular expression for the same files, with the groups that ``span_of`` reads."""
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
    """Returns the span of a path that ``expression`` has matched."""
    groups = match.groupdict()
    return groups.get("span") or "{year}-{month}-{day}".format(**groups)
