"""Checks the options for Apache Beam, which itself ignores unknown ones."""

import argparse
import difflib
from collections.abc import Sequence

from pipeline.config import ConfigError

# The job server of these runners may have options of its own, for which Beam asks it.
_RUNNERS_WITH_OWN_OPTIONS = ("PortableRunner", "FlinkRunner", "SparkRunner")
# Below this similarity to a known option, an unknown option of such a runner is assumed to belong
# to the job server.
_MISSPELT = 0.8


def check(arguments: Sequence[str]) -> None:
    """Refuses options that Beam would silently ignore.

    Args:
      arguments: The words after ``--`` on the command line.

    Raises:
      ConfigError: a word is neither an option nor the value of one (the message names it and the
        nearest valid option), or Beam does not accept a value.
    """
    if not arguments:
        return
    # Beam takes long to import, and most runs give it no options.
    from apache_beam.options.pipeline_options import PipelineOptions

    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    [parser] = parsers
    valid = sorted(name for name in parser._option_string_actions if name.startswith("--"))

    def refuse(message: str) -> None:
        raise ConfigError(f"After --, options for Apache Beam: {message}.")

    parser.error = refuse  # type: ignore[method-assign, assignment]
    known, unknown = parser.parse_known_args(list(arguments))
    has_own_options = known.runner in _RUNNERS_WITH_OWN_OPTIONS
    lines = []
    for word in unknown:
        name = word.partition("=")[0]
        if not name.startswith("-"):
            if not has_own_options:  # with them, it may be the value of such an option
                lines.append(f"{word!r} is neither an option of Apache Beam nor the value of one.")
            continue
        cutoff = _MISSPELT if has_own_options else 0.0
        nearest = difflib.get_close_matches(name, valid, n=1, cutoff=cutoff)
        if nearest:
            lines.append(f"{name!r} is not an option of Apache Beam. Did you mean {nearest[0]!r}?")
    if lines:
        raise ConfigError("\n".join(f"After --: {line}" for line in lines))
