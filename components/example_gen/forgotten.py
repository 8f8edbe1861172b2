"""The list of people and items that are never read again, as keyed hashes.

A list of names would itself remember the people who asked to be forgotten. This list contains
the HMAC-SHA256 of each id instead. The random key is in a separate file, so that somebody who has
only the list cannot even try out ids. ExampleGen hashes the ids that it reads and leaves out those
on the list.
"""

import dataclasses
import functools
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tfx.dsl.io import fileio

from components.example_gen.errors import DataError

Kind = Literal["users", "items"]
KINDS: tuple[Kind, ...] = ("users", "items")

_KEY_SUFFIX = ".key"
_KEY_BYTES = 32
_ONLY_OWNER = 0o600


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """Hashes of the ids that are left out.

    Attributes:
      key: The key of the hashes.
      users: Hexadecimal hashes of people's ids.
      items: Hexadecimal hashes of item ids.
    """

    key: bytes = b""
    users: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.users or self.items)

    @functools.cached_property
    def digest(self) -> str:
        """A digest of the whole list; empty if the list is empty."""
        if not self:
            return ""
        facts = json.dumps([self.key.hex(), sorted(self.users), sorted(self.items)])
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def hash(self, text: str) -> str:
        """Returns the hash of an id, as it is in the list."""
        return hmac.digest(self.key, text.encode(), "sha256").hex()

    def is_listed(self, kind: Kind, values: pa.StringArray) -> np.ndarray:
        """Returns which rows [R] of ``values``, which are ids of one kind or null, are listed."""
        hashes = self._of(kind)
        if not hashes:
            return np.zeros(len(values), bool)
        encoded = values.dictionary_encode()
        known = [self.hash(text) in hashes for text in encoded.dictionary.to_pylist()]
        # Null has the position after all ids.
        return np.array([*known, False])[
            pc.fill_null(encoded.indices, len(known)).to_numpy(zero_copy_only=False)
        ]

    def is_in_any(self, cells: Iterable[str]) -> bool:
        """Returns whether any of the cells is the id of a person or an item on the list."""
        everything = self.users | self.items
        return any(self.hash(cell) in everything for cell in cells)

    def _of(self, kind: Kind) -> frozenset[str]:
        return self.users if kind == "users" else self.items


NOBODY = Forgotten()


def read_forgotten(path: str) -> Forgotten:
    """Reads a list that ``add_forgotten`` wrote, on any file system.

    Args:
      path: Path of the list; empty if there is no list.

    Raises:
      DataError: if the list or its key cannot be read. Reading the data without them would
        bring forgotten people back unnoticed.
    """
    if not path:
        return NOBODY
    try:
        with fileio.open(path) as file:
            values = json.loads(file.read())
        with fileio.open(path + _KEY_SUFFIX) as file:
            key = bytes.fromhex(file.read().strip())
        return Forgotten(key, *(frozenset(values[kind]) for kind in KINDS))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise DataError(
            f"The list of forgotten people and items, {path} with its key {path}{_KEY_SUFFIX}, "
            f"cannot be read ({error}). Restore both files, or correct data.forgotten: without "
            "them, people who were forgotten would be read again"
        ) from error


def add_forgotten(path: Path, ids: Mapping[Kind, Collection[str]], day: str) -> int:
    """Adds ids to a local list; creates the list and its key if they do not exist.

    Only the owner can read the two files.

    Args:
      path: Path of the list.
      ids: The ids by kind.
      day: The current day, which is stored with each new hash.

    Returns:
      How many of the ids were not on the list yet.

    Raises:
      DataError: if there is a list but it cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write(path.with_name(path.name + _KEY_SUFFIX), secrets.token_hex(_KEY_BYTES))
        _write(path, json.dumps({kind: {} for kind in KINDS}))
    forgotten = read_forgotten(str(path))
    values = entries(path)
    added = 0
    for kind in KINDS:
        for text in ids.get(kind, ()):
            hashed = forgotten.hash(text)
            added += hashed not in values[kind]
            values[kind].setdefault(hashed, day)
    if added:
        _write(path, json.dumps(values, indent=1, sort_keys=True))
    return added


def entries(path: Path) -> dict[Kind, dict[str, str]]:
    """Returns the hashes in a local list by kind, each with the day on which it was added."""
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT, _ONLY_OWNER), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
