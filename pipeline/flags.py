"""Flags that both runners have."""

import argparse
import os
from pathlib import Path

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "movielens-100k.yaml"


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` and ``--set``."""
    shown = os.path.relpath(DEFAULT_CONFIG)
    parser.add_argument("--config", help=f"YAML file (default: {shown})")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override one key of the configuration, like model.num_interests=8",
    )
