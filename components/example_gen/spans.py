"""Finds the spans of the log that a run reads, and their files.

TFX resolves spans in its drivers, which do not exist in open-source Kubeflow Pipelines.
ExampleGen therefore resolves them itself, in the same way everywhere.
"""

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.example_gen import span_names
from components.example_gen.config import InteractionsConfig, WindowConfig
from components.example_gen.errors import DataError
from components.example_gen.files import resolve
from components.example_gen.span_names import LATEST, SpanName, parse


@dataclass(frozen=True)
class Span:
    """One span of the window.

    Attributes:
      name: Its name.
      files: Its files, in the order in which they are read.
    """

    name: str
    files: tuple[FileMetadata, ...]


@dataclass(frozen=True)
class Window:
    """The spans that a run reads.

    Attributes:
      spans: The spans, from the oldest to the newest.
      missing: Names of the spans between them that have no file.
    """

    spans: tuple[Span, ...]
    missing: tuple[str, ...]

    @property
    def newest(self) -> str:
        """The name of the newest span."""
        return self.spans[-1].name


def available(table: InteractionsConfig) -> list[SpanName]:
    """Returns the spans that have a file, from the oldest to the newest.

    Raises:
      DataError: if there is none, or if their names do not all have the same notation.
    """
    found = {span_names.span_of(match) for pattern in table.files for match in _matches(pattern)}
    if not found:
        raise DataError(f"No input file matches {', '.join(table.files)} for any span")
    names = sorted((parse(text) for text in found), key=lambda name: (name.number, name.text))
    for one, other in itertools.pairwise(names):
        if one.notation != other.notation or one.number == other.number:
            raise DataError(
                f"Spans {one.text!r} and {other.text!r} are not written alike, so their order is "
                "not clear. Rename the files of one of them"
            )
    return names


def resolve_window(table: InteractionsConfig, window: WindowConfig, span: str = "") -> Window:
    """Finds the spans of the window that ends with ``span``, and their files.

    Spans before the first one that has a file do not count as missing, because every log begins
    somewhere.

    Args:
      table: The interaction log; each of its paths contains ``{SPAN}`` or a date.
      window: The number of spans, and what to do about missing ones.
      span: Name of the newest span; ``latest`` or "" is the newest span that has a file.

    Raises:
      DataError: if ``span`` has no file, or a span is missing and ``window.gaps`` is
        ``fail``.
    """
    names = available(table)
    newest = names[-1] if span in ("", LATEST) else parse(span)
    by_number = {name.number: name for name in names}
    if newest.number not in by_number or newest.notation != names[0].notation:
        raise DataError(
            f"Span {newest.text!r} has no file in {', '.join(table.files)}. There are "
            f"{len(names)} spans, {names[0].text} to {names[-1].text}"
        )
    first = max(newest.number - window.spans + 1, names[0].number)
    wanted = range(first, newest.number + 1)
    missing = tuple(span_names.name_of(n, newest) for n in wanted if n not in by_number)
    if missing and window.gaps == "fail":
        raise DataError(
            f"{len(missing)} of the {len(wanted)} spans of the window that ends with "
            f"{newest.text} have no file: {', '.join(missing[:5])}{' …' if missing[5:] else ''}. "
            "Deliver them, or set data.window.gaps to 'count' to train without them"
        )
    spans = [
        Span(by_number[n].text, tuple(resolve(table, by_number[n].text)))
        for n in wanted
        if n in by_number
    ]
    return Window(tuple(spans), missing)


def between(table: InteractionsConfig, first: str, last: str) -> list[str]:
    """Returns the names of the spans from ``first`` to ``last`` that have a file, in order.

    Raises:
      DataError: if there is none, or if the two names do not form a range.
    """
    begin, end = parse(first), parse(last)
    names = available(table)
    if begin.number > end.number or {begin.notation, end.notation} != {names[0].notation}:
        raise DataError(
            f"{first}..{last} is not a range of spans: expected two names like {names[0].text}, "
            "the older one first"
        )
    found = [name.text for name in names if begin.number <= name.number <= end.number]
    if not found:
        raise DataError(
            f"No span from {first} to {last} has a file; the spans with files are "
            f"{names[0].text} to {names[-1].text}"
        )
    return found


def newer_than(names: Sequence[str], done: Iterable[str]) -> list[str]:
    """Returns the spans in ``names`` that are newer than all spans in ``done``.

    Names in ``done`` that are not spans, or have another notation, cannot be compared with
    ``names`` and are ignored.
    """
    numbers = {name: parse(name).number for name in names}
    notations = {parse(name).notation for name in names}
    newest = -1
    for name in done:
        with contextlib.suppress(DataError):
            span = parse(name)
            newest = max(newest, span.number if span.notation in notations else -1)
    return [name for name in names if numbers[name] > newest]


def _matches(pattern: str) -> Iterator[re.Match[str]]:
    """Yields the matches of ``pattern`` with the files of all spans and versions."""
    expression = span_names.expression(pattern)
    for file in FileSystems.match([span_names.glob(pattern)])[0].metadata_list:
        if match := expression.fullmatch(file.path):
            yield match
