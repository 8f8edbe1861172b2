"""The list of people and items that are never read again, as keyed hashes.

Who asks to be forgotten must not be remembered by a list of names. The list holds
HMAC-SHA256 of each id, with a random key that stands beside it: who has the list alone
cannot even try ids. ExampleGen hashes what it reads and leaves out what is on the list.
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
      key: Of the hashes.
      users: Hashes of people, hexadecimal.
      items: Hashes of items.
    """

    key: bytes = b""
    users: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.users or self.items)

    @functools.cached_property
    def digest(self) -> str:
        """Of the whole list; empty if nobody is on it."""
        if not self:
            return ""
        facts = json.dumps([self.key.hex(), sorted(self.users), sorted(self.items)])
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def hash(self, text: str) -> str:
        """What the list holds of an id."""
        return hmac.digest(self.key, text.encode(), "sha256").hex()

    def is_listed(self, kind: Kind, values: pa.StringArray) -> np.ndarray:
        """Rows [R] of ``values``, ids of one kind or null, that are on the list."""
        hashes = self._of(kind)
        if not hashes:
            return np.zeros(len(values), bool)
        encoded = values.dictionary_encode()
        known = [self.hash(text) in hashes for text in encoded.dictionary.to_pylist()]
        # Null stands behind all ids.
        return np.array([*known, False])[
            pc.fill_null(encoded.indices, len(known)).to_numpy(zero_copy_only=False)
        ]

    def is_in_any(self, cells: Iterable[str]) -> bool:
        """Whether a cell is the id of anybody or anything on the list."""
        everything = self.users | self.items
        return any(self.hash(cell) in everything for cell in cells)

    def _of(self, kind: Kind) -> frozenset[str]:
        return self.users if kind == "users" else self.items


NOBODY = Forgotten()


def read_forgotten(path: str) -> Forgotten:
    """Reads a list that ``add_forgotten`` wrote, on any file system.

    Args:
      path: Of the list; empty is none.

    Raises:
      DataError: if the list or its key is not there: people would come back unnoticed.
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
            f"The list of who is not to be read, {path} with its key {path}{_KEY_SUFFIX}, cannot "
            f"be read ({error}). Put both files back, or correct data.forgotten: without them, "
            "people who were forgotten would be read again"
        ) from error


def add_forgotten(path: Path, ids: Mapping[Kind, Collection[str]], day: str) -> int:
    """Adds ids to a local list; makes the list and its key if there is none.

    Both files can be read by their owner only.

    Args:
      path: Of the list.
      ids: By kind.
      day: When; kept beside each hash.

    Returns:
      How many of them were not on the list yet.

    Raises:
      DataError: if there is a list and it cannot be read.
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
    """The hashes of a local list by kind, each with the day on which it was added."""
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT, _ONLY_OWNER), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
