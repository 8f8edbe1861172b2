"""Builds and pushes a new version from a pushed one and changes of its catalogue."""

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from components.example_gen.config import ItemsConfig
from components.example_gen.files import resolve
from components.example_gen.forgotten import read_forgotten
from contract.change_log import ChangeLog
from contract.config_types import from_dict
from contract.manifest import (
    CONFIG,
    EXAMPLES,
    FILES,
    ITEMS_DIGEST,
    LOG_IDENTITY,
    LOG_POSITION,
    MANIFEST_PATH,
    REFRESH,
)
from item_refresh.catalogue import Changes, refresh_catalogue, total
from item_refresh.changes import fold_changes, read_changes
from item_refresh.items_file import read_items
from retrieval.build import build_bundle_of, keep_training_state
from retrieval.config import IndexConfig
from retrieval.manifest import read_manifest
from retrieval.push import push
from retrieval.validation import Validation, validate
from retrieval.versions import newest_version


@dataclasses.dataclass(frozen=True)
class Refreshed:
    """The result of a refresh.

    Attributes:
      base_version: The version that was refreshed.
      version: The version that was pushed; empty if the validation refused it.
      changes: Counts of what happened to the items.
      validation: The result of the index validator's checks.
    """

    base_version: str
    version: str
    changes: Changes
    validation: Validation


def refresh(
    model_base_path: str,
    item_files: Sequence[str],
    *,
    version: str = "",
    examples: str = "",
    remove_absent: bool = False,
    log: ChangeLog | None = None,
) -> Refreshed:
    """Adds items from files and changes from a log to a pushed version, and pushes the result.

    The version's manifest determines how the files are read and how the index is built.
    Nothing is pushed unless the index passes the index validator's checks.

    Args:
      model_base_path: Directory to which versions are pushed and from which the server reads.
      item_files: Paths or globs of items files with the columns of ``data.items``; may be
        empty if there is a log.
      version: The version to refresh; if empty, the newest one that may be served.
      examples: Directory of ExampleGen's eval split. The histories in it are used to tune
        and validate the index. If empty, the directory with which the version was built.
      remove_absent: Whether to remove items that the files lack.
      log: Changes of the live catalogue, which are applied after the files.

    Raises:
      ValueError: if there is no such version, or it cannot be refreshed.
      DataError: if the items cannot be read.
    """
    base_version = version or _newest(model_base_path)
    base = os.path.join(model_base_path, base_version)
    facts = read_manifest(base)
    data, index_config = _configuration(facts, base)
    files = _example_files(examples or (facts or {}).get(EXAMPLES, ""), base)
    items_config = from_dict(ItemsConfig, data["items"])
    tower = _load(base).tower
    done = []
    made_of: dict[str, Any] = {}
    if item_files:
        items = read_items(
            item_files,
            items_config,
            data["max_bad_row_fraction"],
            read_forgotten(data.get("forgotten", "")),
        )
        done.append(refresh_catalogue(tower, items, remove_absent))
        made_of[ITEMS_DIGEST] = _digest(data["items"], item_files)
    made_of |= _contained(facts)
    if log is not None:
        logged = read_changes(log, _position_in(made_of, log))
        done.append(fold_changes(tower, logged.entries, items_config))
        made_of |= {LOG_POSITION: logged.position, LOG_IDENTITY: logged.identity}
    changes = total(done)
    logging.info("Refreshing version %s: %s", base_version, changes)
    with tempfile.TemporaryDirectory(prefix="item-refresh-") as folder:
        model_dir = os.path.join(folder, "model")
        new_facts = {
            **{key: value for key, value in (facts or {}).items() if key != FILES},
            REFRESH: {
                "base_version": base_version,
                **made_of,
                **dataclasses.asdict(changes),
            },
        }
        keep_training_state(base, model_dir)
        build_bundle_of(tower, files, model_dir, index_config, new_facts)
        validation = validate(model_dir, files, index_config)
        pushed = ""
        if validation.blessed:
            _check_still_newest(model_base_path, base_version, version)
            pushed = push(model_dir, model_base_path)
    return Refreshed(base_version, pushed, changes, validation)


def _contained(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the log whose changes the base version contains, and up to which position."""
    refreshed = (facts or {}).get(REFRESH, {})
    return {key: refreshed[key] for key in (LOG_POSITION, LOG_IDENTITY) if key in refreshed}


def _position_in(contained: Mapping[str, Any], log: ChangeLog) -> int:
    is_same = contained.get(LOG_IDENTITY) == log.identity
    return int(contained[LOG_POSITION]) if is_same else 0


def _newest(model_base_path: str) -> str:
    version = newest_version(model_base_path)
    if not version:
        raise ValueError(
            f"No complete version in {model_base_path} that may be served; expected directories "
            "named by a number. "
            "Run the pipeline first, or name the directory that it pushes to."
        )
    return version


def _check_still_newest(model_base_path: str, base_version: str, wanted: str) -> None:
    """Raises ValueError if another version was pushed in the meantime."""
    newest = _newest(model_base_path)
    if not wanted and newest != base_version:
        raise ValueError(
            f"Version {newest} was pushed while {base_version} was refreshed; nothing was pushed. "
            "Run again to refresh the new one."
        )


def _configuration(
    facts: Mapping[str, Any] | None, base: str
) -> tuple[Mapping[str, Any], IndexConfig]:
    """Returns the configuration of the data, as a dict, and that of the index."""
    config = (facts or {}).get(CONFIG)
    if not config:
        raise ValueError(
            f"{base} cannot be refreshed: expected a version that the pipeline pushed, with its "
            f"configuration in {MANIFEST_PATH}."
        )
    if not config["data"].get("items"):
        raise ValueError(
            f"{base} was trained without an items file: a new item would have no side feature to "
            "be found by. Configure data.items and run the pipeline."
        )
    return config["data"], from_dict(IndexConfig, config["index"])


def _example_files(directory: str, base: str) -> list[str]:
    files = tf.io.gfile.glob(os.path.join(directory, "*.gz")) if directory else []
    if not files:
        raise ValueError(
            f"No examples (*.gz) in {directory!r}: the people whose histories tune and validate "
            f"the index of {base}. Pass the directory Split-eval of an example-gen output with "
            "--examples."
        )
    return files


def _load(model_dir: str) -> Any:
    # Registers the ops that a ScaNN index needs.
    from scann.scann_ops.py import scann_ops  # noqa: F401

    return tf.saved_model.load(model_dir)


def _digest(items_config: Mapping[str, Any], files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    config = dataclasses.replace(from_dict(ItemsConfig, dict(items_config)), files=tuple(files))
    for file in resolve(config):
        with tf.io.gfile.GFile(file.path, "rb") as stream:
            digest.update(stream.read())
    return digest.hexdigest()[:16]
