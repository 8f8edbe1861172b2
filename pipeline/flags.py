"""Flags that several commands share."""

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


def add_store_flags(parser: argparse.ArgumentParser, *, is_required: bool = False) -> None:
    """Adds ``--history_store`` and ``--model_name``, which say where histories are kept."""
    parser.add_argument(
        "--history_store",
        default="",
        required=is_required,
        metavar="PLACE",
        help="where the server keeps histories: directory or redis://..., as in its flag",
    )
    parser.add_argument(
        "--model_name",
        default="",
        help="name of the model at the server (default: name of the configuration)",
    )
