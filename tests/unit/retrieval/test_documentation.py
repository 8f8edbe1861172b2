"""The tables of docs/serving.md name what a bundle serves."""

import re
from pathlib import Path

import pytest
import tensorflow as tf

from retrieval.versions import complete_versions

_TEXT = (Path(__file__).resolve().parents[3] / "docs" / "serving.md").read_text()


@pytest.fixture(scope="module")
def signatures(pushed_with_times):
    """Those of a bundle whose model reads times and whose items have categories."""
    (version,) = complete_versions(str(pushed_with_times))
    return tf.saved_model.load(str(pushed_with_times / version)).signatures


def _table(heading):
    """The rows of the first table below a heading, as lists of cells."""
    after = _TEXT.split(f"\n{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE).group().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def _names(cell):
    return set(re.findall(r"`([a-z_]+)`", cell)) - {"user_", "allow_", "deny_", "min_", "max_"}


def test_the_table_of_signatures(signatures):
    rows = {re.findall(r"`(\w+)`", row[0])[0]: row for row in _table("## Signatures")}
    assert set(rows) == set(signatures)
    for name, (_, inputs, outputs) in rows.items():
        assert _names(inputs) == set(signatures[name].structured_input_signature[1]), name
        if name not in ("recommend", "evaluate"):  # described in words
            assert _names(outputs) == set(signatures[name].structured_outputs), name


def test_the_table_of_inputs(signatures):
    rows = {
        name
        for row in _table("### Inputs of `serving_default`")
        for name in re.findall(r"`([\w<>]+)`", row[0])
    }
    served = set(signatures["serving_default"].structured_input_signature[1])
    by_feature = {f"{part}_<name>" for part in ("user", "allow", "deny", "min", "max")}
    assert by_feature < rows
    assert rows - by_feature == served


def test_every_footnote_is_referred_to_and_every_reference_has_one():
    text = _TEXT.split("## Signatures", 1)[1].split("### Outputs", 1)[0]
    tables = "".join(line for line in text.splitlines() if line.startswith("|"))
    references = set(re.findall(r"`(\*+)(?=[ ,|])", tables))
    notes = {mark.replace("\\", "") for mark in re.findall(r"^((?:\\\*)+) ", text, re.MULTILINE)}
    assert references == notes == {"*", "**"}
    signatures = "".join(line for line in text.split("### Inputs", 1)[0].splitlines(True))
    assert all(f"`{mark}" in signatures for mark in ("*", "**"))
