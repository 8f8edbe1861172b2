"""Continues the training of an earlier model on newer data.

Between two trainings the vocabularies change: items come and go, and an item's index may
change. Rows of embedding tables, and the optimizer's moments for them, are therefore
carried over by token and not by position.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from contract.features import SEQUENCE
from contract.training_report import FROM_NOTHING_BECAUSE
from model.network.item_encoder import ITEM_TABLE
from model.network.mind import MindModel
from model.training.optimizer import LazyAdam

_CHECKPOINT = "state"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

# For each table, the tokens of its rows. The first row, padding or unknown, has no token. None
# marks a table whose rows are buckets and not tokens.
Tokens = Mapping[str, Sequence[bytes] | None]


@dataclasses.dataclass(frozen=True)
class WarmStarted:
    """What a training took over from an earlier model.

    Attributes:
      generation: Number of trainings since the last one from scratch, including this one.
      kept: By table, the number of rows whose token the earlier model had.
      new: By table, the number of rows whose token the earlier model did not have.
      gone: By table, the number of the earlier model's rows whose token no longer exists.
      not_fitting: Names of weights whose shape has changed, which start untrained.
    """

    generation: int
    kept: dict[str, int]
    new: dict[str, int]
    gone: dict[str, int]
    not_fitting: list[str]


def save_state(
    directory: str,
    model: MindModel,
    optimizer: LazyAdam,
    tokens: Tokens,
    generation: int,
    from_nothing_because: str = "",
) -> None:
    """Writes everything that a later training needs to continue from this one.

    Args:
      directory: Where to write the state.
      model: The model with the weights to continue from.
      optimizer: The optimizer that trained the model.
      tokens: Tokens of the model's embedding tables.
      generation: Number of trainings since the last one from scratch; 0 for that one.
      from_nothing_because: Why a training that is configured to continue from an earlier
        model started from scratch; empty if it did continue.
    """
    weights = _weights(model)
    moments = {name: optimizer.moments(weight) for name, weight in weights.items()}
    facts = {
        "generation": generation,
        "iterations": int(optimizer.iterations.numpy()),
        "num_interests": model.num_interests,
        FROM_NOTHING_BECAUSE: from_nothing_because,
    }
    checkpoint = tf.train.Checkpoint(
        facts=tf.Variable(json.dumps(facts)),
        weights=weights,
        momentums={name: pair[0] for name, pair in moments.items()},
        velocities={name: pair[1] for name, pair in moments.items()},
        tokens={
            name: tf.Variable(tf.constant(list(values), tf.string))
            for name, values in tokens.items()
            if values is not None
        },
    )
    checkpoint.write(os.path.join(directory, _CHECKPOINT))


def generation_of(directory: str) -> int | None:
    """Generation of the training whose state is in ``directory``; None if there is no state."""
    if not tf.io.gfile.exists(os.path.join(directory, f"{_CHECKPOINT}.index")):
        return None
    return _SavedState(directory).generation


def interests_of(directory: str) -> int | None:
    """K of the model whose state is in ``directory``; None if an older version wrote the state."""
    return _SavedState(directory).num_interests


def why_from_nothing(directory: str) -> str:
    """Returns ``from_nothing_because`` of the training whose state is in ``directory``."""
    return _SavedState(directory).from_nothing_because


def restore_state(
    directory: str,
    model: MindModel,
    optimizer: LazyAdam,
    tokens: Tokens,
    sequences: tf.data.Dataset,
    mismatch: str,
) -> WarmStarted:
    """Loads the state of an earlier training into a new model and its optimizer.

    The id embedding of a new item starts as the vector that its side features give. Without
    side features, it starts as the mean of the known items in the sequences that contain the
    new item. Without either, it keeps its random initial value, as the embeddings of all other
    new tokens do. The optimizer's moments of new rows are zero.

    Args:
      directory: The directory that ``save_state`` wrote to.
      model: A newly created model.
      optimizer: An optimizer that was built for the model's trainable variables.
      tokens: Tokens of the model's embedding tables.
      sequences: Train sequences, see `input_pipeline.training_batches`.
      mismatch: What to do if the shape of a weight has changed: ``fail``, or ``start_anew``,
        which leaves the weight at its initial value.

    Raises:
      ValueError: if a weight does not fit and ``mismatch`` is ``fail``.
    """
    saved = _SavedState(directory)
    tables = {table.name: name for name, table in model.embedding_tables.items()}
    kept, new, gone = {}, {}, {}
    not_fitting = []
    rows_of_items: _Rows | None = None
    for name, weight in _weights(model).items():
        shape = saved.shape(name)
        table = tables.get(weight.name)
        if shape is None or shape[1 if table else 0 :] != weight.shape[1 if table else 0 :]:
            not_fitting.append(name)
            continue
        if table is None:
            rows = None
        else:
            rows = _match(saved.tokens(table), tokens[table], shape[0], weight.shape[0])
            kept[table], new[table] = len(rows.to), weight.shape[0] - 1 - len(rows.to)
            gone[table] = shape[0] - 1 - len(rows.to)
            if table == ITEM_TABLE:
                rows_of_items = rows
        _carry_over(weight, saved.read("weights", name), rows)
        for variable, kind in zip(
            optimizer.moments(weight), ("momentums", "velocities"), strict=True
        ):
            _carry_over(variable, saved.read(kind, name), rows)
    if not_fitting and mismatch == "fail":
        raise ValueError(_explain(not_fitting, saved, model, directory))
    optimizer.iterations.assign(saved.iterations)
    if rows_of_items is not None:
        _start_new_items(model, rows_of_items, sequences)
    return WarmStarted(saved.generation + 1, kept, new, gone, not_fitting)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows that two tables have in common, without the padding row.

    Attributes:
      source: Row numbers in the old table [R].
      to: Row numbers in the new table [R].
    """

    source: np.ndarray
    to: np.ndarray


class _SavedState:
    """Reads the state that ``save_state`` wrote, one tensor at a time."""

    def __init__(self, directory: str):
        self._reader = tf.train.load_checkpoint(os.path.join(directory, _CHECKPOINT))
        self._shapes = self._reader.get_variable_to_shape_map()
        facts = json.loads(self._reader.get_tensor(f"facts{_VALUE}"))
        self.generation: int = facts["generation"]
        self.iterations: int = facts["iterations"]
        self.num_interests: int | None = facts.get("num_interests")
        self.from_nothing_because: str = facts.get(FROM_NOTHING_BECAUSE, "")

    def shape(self, name: str) -> list[int] | None:
        return self._shapes.get(_key("weights", name))

    def read(self, kind: str, name: str) -> np.ndarray:
        return self._reader.get_tensor(_key(kind, name))

    def tokens(self, table: str) -> list[bytes] | None:
        key = _key("tokens", table)
        return self._reader.get_tensor(key).tolist() if key in self._shapes else None


def _key(kind: str, name: str) -> str:
    # tf.train.Checkpoint escapes dots and slashes in the keys of a dictionary like this.
    return f"{kind}/{name.replace('.', '..').replace('/', '.S')}{_VALUE}"


def _weights(model: MindModel) -> dict[str, tf.Variable]:
    weights = {weight.name.removesuffix(":0"): weight for weight in model.trainable_variables}
    # If two weights had the same name, every warm start would silently reset one of them.
    assert len(weights) == len(model.trainable_variables), "two weights have the same name"
    return weights


def _match(
    old: Sequence[bytes] | None, new: Sequence[bytes] | None, old_rows: int, new_rows: int
) -> _Rows:
    if old is None or new is None:  # buckets have no tokens, so that rows keep their numbers
        common = np.arange(1, min(old_rows, new_rows))
        return _Rows(common, common)
    place = {token: row for row, token in enumerate(old[: old_rows - 1], start=1)}
    found = [
        (place[token], row)
        for row, token in enumerate(new[: new_rows - 1], start=1)
        if token in place
    ]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return _Rows(pairs[:, 0], pairs[:, 1])


def _carry_over(variable: tf.Variable, value: np.ndarray, rows: _Rows | None) -> None:
    if rows is None:
        variable.assign(value)
        return
    changed = variable.numpy()
    changed[rows.to] = value[rows.source]
    changed[0] = value[0]
    variable.assign(changed)


def _start_new_items(model: MindModel, rows: _Rows, sequences: tf.data.Dataset) -> None:
    table = model.embedding_tables[ITEM_TABLE]
    values = table.numpy()
    is_new = np.ones(len(values), bool)
    is_new[0] = False
    is_new[rows.to] = False
    if not is_new.any():
        return
    items = np.flatnonzero(is_new)
    described = model.item_encoder.side_vectors(tf.constant(items, tf.int32)).numpy()
    has_side = described.any(axis=1)
    values[items[has_side]] = described[has_side]
    lonely = is_new.copy()
    lonely[items[has_side]] = False
    known = ~is_new
    known[0] = False
    means, found = _company(sequences, values, lonely, known)
    values[found] = means
    table.assign(values)


def _company(
    sequences: tf.data.Dataset, values: np.ndarray, wanted: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Averages the known items in the sequences of each wanted item.

    Returns:
      The means [W, d], and the wanted items [W] that share a sequence with a known item.
    """
    total = np.zeros((len(values), values.shape[1]), np.float64)
    number = np.zeros(len(values), np.int64)
    if wanted.any():
        for batch in sequences:
            sequence = batch[SEQUENCE]
            item = sequence.values.numpy()
            row = sequence.value_rowids().numpy()
            others = known[item]
            count = np.bincount(row[others], minlength=int(sequence.nrows()))
            mean = np.zeros((len(count), values.shape[1]))
            np.add.at(mean, row[others], values[item[others]])
            mean /= np.maximum(count, 1)[:, np.newaxis]
            mine = wanted[item] & (count[row] > 0)
            np.add.at(total, item[mine], mean[row[mine]])
            np.add.at(number, item[mine], 1)
    found = np.flatnonzero(number)
    return (total[found] / number[found, np.newaxis]).astype(values.dtype), found


def _explain(names: Sequence[str], saved: _SavedState, model: MindModel, directory: str) -> str:
    weights = _weights(model)
    lines = [f"{len(names)} weights do not fit the model that the training continues from:"]
    lines += [
        f"  {name}: expected {list(weights[name].shape)}, received {saved.shape(name) or 'none'}"
        for name in names
    ]
    lines.append(
        f"Its state is in {directory}. Restore the old values of `model`, train once from scratch "
        "(training.warm_start.full_every=1), or set training.warm_start.mismatch to start_anew, "
        "which keeps the weights that fit"
    )
    return "\n".join(lines)
