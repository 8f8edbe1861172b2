"""The message that a person sees, whatever wrapped it."""

import errno

import pytest

from components.example_gen.errors import DataError
from report import failure


def _raised(make):
    """The error that ``make`` raises, with its chain."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        make()
    return caught.value


def test_our_message_comes_before_its_cause(tmp_path):
    def make():
        try:
            try:
                raise EOFError("Compressed file ended early")
            except EOFError as error:
                raise DataError("Cannot read b.csv.gz. Copy it again") from error
        except DataError as error:
            raise RuntimeError("wrapped by Beam") from error

    assert failure.explain(_raised(make), tmp_path).splitlines() == [
        "Cannot read b.csv.gz. Copy it again",
        "Cause: EOFError: Compressed file ended early",
    ]


def test_our_message_is_found_behind_an_error_raised_while_handling_it(tmp_path):
    def make():
        try:
            raise DataError("b.csv is empty")
        except DataError:
            raise RuntimeError("in Beam's own handler")  # noqa: B904

    assert failure.explain(_raised(make), tmp_path) == "b.csv is empty"


def test_a_cause_that_our_message_already_quotes_is_not_repeated(tmp_path):
    def make():
        try:
            raise OSError("truncated stream")
        except OSError as error:
            raise DataError(f"Cannot read b.csv.gz: {error}") from error

    assert failure.explain(_raised(make), tmp_path) == "Cannot read b.csv.gz: truncated stream"


def test_an_error_of_others_is_shown_by_its_root(tmp_path):
    def make():
        try:
            raise KeyError("x")
        except KeyError as error:
            raise RuntimeError("wrapped") from error

    assert failure.explain(_raised(make), tmp_path) == "KeyError: 'x'"


def test_a_full_disk_comes_with_advice(tmp_path):
    def make():
        with open("/dev/full", "w") as file:
            file.write("x")

    message, advice = failure.explain(_raised(make), tmp_path).splitlines()
    assert "No space left on device" in message
    assert advice.startswith(f"A disk is full. Free space where {tmp_path} is")
    assert "--output_dir" in advice


@pytest.mark.parametrize(
    ("error", "advised"),
    [
        (OSError(errno.EROFS, "Read-only file system", "{output}/logs"), True),
        (RuntimeError("INTERNAL: attempt to write a readonly database"), True),
        (PermissionError(errno.EACCES, "Permission denied", "{output}/logs"), True),
        (PermissionError(errno.EACCES, "Permission denied", "/elsewhere/schema.pbtxt"), False),
    ],
)
def test_a_place_that_cannot_be_written_comes_with_advice(tmp_path, error, advised):
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(output=tmp_path)
    shown = failure.explain(error, tmp_path)
    assert (f"{tmp_path} cannot be written" in shown) == advised
