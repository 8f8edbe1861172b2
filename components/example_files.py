"""Finds the files of an Examples artifact."""

from tfx import types
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils


def split_files(examples: list[types.Artifact], split: str) -> list[str]:
    """Returns the files of one split of a single Examples artifact."""
    pattern = io_utils.all_files_pattern(artifact_utils.get_split_uri(examples, split))
    return [str(path) for path in fileio.glob(pattern)]
