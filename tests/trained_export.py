"""A real Trainer export, of real Transform output: small, and trained for no step."""

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

from contract.config_types import from_dict
from model.catalogue import Catalogue
from model.config import ModelConfig, RepeatConfig, TrainingConfig
from model.network.mind import MindModel
from model.tfx_functions import preprocessing
from model.tfx_functions.export import ExportedMind
from model.tfx_functions.transformed_data import ItemTexts
from retrieval.build import build_bundle
from retrieval.config import IndexConfig
from retrieval.push import push
from tests.synthetic_examples import sequence_example, write_examples

NUM_TRAINED, DIM = 60, 8
GENRES = ("drama", "war", "noir", "comedy")
COUNTRIES = ("NL", "FR", "CN")
# In the catalogue, never in train.
COLD = ("cold0", "cold1")
_SPEC = {
    "user_id": tf.io.VarLenFeature(tf.string),
    "item_id": tf.io.VarLenFeature(tf.string),
    "timestamp": tf.io.VarLenFeature(tf.int64),
    "num_targets": tf.io.VarLenFeature(tf.int64),
    "num_context": tf.io.VarLenFeature(tf.int64),
    "title": tf.io.VarLenFeature(tf.string),
    "item_genre": tf.io.VarLenFeature(tf.string),
    "item_country": tf.io.VarLenFeature(tf.string),
}
_NOTHING: dict[str, list] = {column: [] for column in _SPEC}
_PREPROCESSING = {
    "history_length": 6,
    "titles": True,
    "category": "genre",
    "item_features": {"genre": {"kind": "categorical"}, "country": {"kind": "categorical"}},
    "user_features": {},
}
ITEMS_CONFIG = {
    "files": ["unused.csv"],
    "id_column": "id",
    "title_column": "name",
    "features": {
        "genre": {"column": "genres", "separator": "|"},
        "country": {"column": "country"},
    },
    "category_feature": "genre",
}


def item_id(index: int) -> str:
    """Id of a trained item; a smaller index is more frequent."""
    return f"i{index:02}"


def side_features(item: str) -> tuple[list[str], list[str]]:
    """Genres and countries of an item of the trained catalogue."""
    number = int(item.strip("icold"))
    genres = [GENRES[number % 4]] + [GENRES[(number + 1) % 4]] * (number % 3 == 0)
    return genres, [] if number % 7 == 6 else [COUNTRIES[number % 3]]


def catalogue() -> list[str]:
    """Ids of the trained catalogue, in vocabulary order."""
    return [item_id(i) for i in range(NUM_TRAINED)] + sorted(COLD, reverse=True)


def items_csv(path: Path, rows: list[tuple[str, str, str, str]]) -> str:
    """Writes an items file: id, title, genres joined by "|", country."""
    lines = ["id,name,genres,country", *(",".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def known_rows() -> list[tuple[str, str, str, str]]:
    """The trained catalogue as rows of an items file."""
    rows = []
    for item in catalogue():
        genres, countries = side_features(item)
        rows.append((item, f"Title {item}", "|".join(genres), "".join(countries)))
    return rows


class Trained:
    """The model of an export, and how to embed by its weights in NumPy.

    Attributes:
      mind: A model of the same weights as the exported one: equal seeds give equal weights.
    """

    def __init__(self, folder: Path, time_gap: bool = False):
        """Takes what ``export`` has written to ``folder``."""
        output = tft.TFTransformOutput(str(folder / "transform"))
        self.mind = _model(_known(output), time_gap)
        weights = {w.name.split(":")[0]: w.numpy() for w in self.mind.item_encoder.weights}
        self._ids = weights["id"]
        self._tables = {name: weights[f"side_item_{name}"] for name in ("genre", "country")}
        self._values = {
            name: [v.decode() for v in output.vocabulary_by_name(f"item_{name}")]
            for name in self._tables
        }
        self._index = {item: i for i, item in enumerate(catalogue()[:NUM_TRAINED], start=1)}

    def vector(self, item: str, genres: list[str], countries: list[str]) -> np.ndarray:
        """An item's vector: each feature has one voice, so has a trained id; unit length."""
        voices = [self._ids[self._index[item]]] if item in self._index else []
        for name, values in (("genre", genres), ("country", countries)):
            known = [self._values[name].index(v) + 1 for v in values if v in self._values[name]]
            if known:
                voices.append(self._tables[name][known].mean(axis=0))
        mean = np.mean(voices, axis=0)
        return mean / np.linalg.norm(mean)


def preprocessing_config(time_gap: bool = False) -> dict[str, object]:
    """What Transform is given, as JSON."""
    return {**_PREPROCESSING, "times": time_gap}


def write_transformed_examples(folder: Path, output: tft.TFTransformOutput) -> None:
    """Writes the splits that a Trainer reads, below ``folder / "Split-NAME"``."""
    held_out = [{**row, "num_targets": [1]} for row in _sequences()]
    splits = {"train": _sequences(), "catalog": _listed(), "eval": held_out}
    for name, rows in splits.items():
        columns = {
            key: tf.RaggedTensor.from_sparse(value).to_list()
            if isinstance(value, tf.SparseTensor)
            else value.numpy().tolist()
            for key, value in _transformed(rows, output).items()
        }
        write_examples(
            folder / f"Split-{name}" / "transformed_examples-00000-of-00001.gz",
            [
                to_example({key: values[i] for key, values in columns.items()})
                for i in range(len(rows))
            ],
        )


def export(folder: Path, time_gap: bool = False) -> None:
    """Writes what a run without training would leave in ``folder``.

    ``transform`` is Transform's output, ``Split-eval`` people for the index, and ``export``
    the Trainer's SavedModel; with ``time_gap``, one that reads times.
    """
    output = _transform(folder, time_gap)
    known = _known(output)
    texts = ItemTexts(
        [f"Title {item}".encode() for item in catalogue()],
        [[name.encode() for name in side_features(item)[0]] for item in catalogue()],
    )
    features = sorted(known.side_features)
    exported = ExportedMind(_model(known, time_gap), output, known, texts, features, [], 10, True)
    exported.save(str(folder / "export"))
    rng = np.random.default_rng(0)
    people = [
        sequence_example(f"p{p}", [item_id(i) for i in rng.integers(0, NUM_TRAINED, 3 + p % 5)])
        for p in range(60)
    ]
    write_examples(folder / "Split-eval" / "data-00000-of-00001.gz", people)


def push_bundle(
    folder: Path, base: Path, kind: str = "exact", *, live_catalogue: bool = False
) -> str:
    """Indexes and pushes what ``export`` wrote to ``folder``; returns the version."""
    split = folder / "Split-eval"
    settings = {"kind": kind, "recall_k": 10, "recall_target": 0.9, "num_queries": 30}
    settings |= {"live_catalogue": live_catalogue}
    facts = {
        "run_key": "r",
        "examples": str(split),
        "config": {
            "data": {"items": ITEMS_CONFIG, "max_bad_row_fraction": 0.01},
            "index": settings,
        },
    }
    files = [str(file) for file in split.glob("*.gz")]
    with tempfile.TemporaryDirectory() as bundle:
        config = from_dict(IndexConfig, settings)
        build_bundle(str(folder / "export"), files, bundle, config, facts)
        return push(bundle, str(base))


def sequence_row(items: list[str], user: str, num_targets: int = 0) -> dict[str, list]:
    """A person's raw row, by column."""
    return {
        **_NOTHING,
        "user_id": [user.encode()],
        "item_id": [i.encode() for i in items],
        "timestamp": list(range(1, 1 + len(items))),
        "num_targets": [num_targets],
        "num_context": [0],
    }


def to_example(row: dict[str, list]) -> tf.train.Example:
    """A row, by column, as ``tf.train.Example``."""

    def feature(values: list) -> tf.train.Feature:
        if values and isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    # Without values there is no type, and the parser needs none.
    features = {name: feature(values) for name, values in row.items() if values}
    return tf.train.Example(features=tf.train.Features(feature=features))


def _sequences() -> list[dict[str, list]]:
    """The raw rows of train. Item i is in them more often than item i + 1."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(80):
        items = [item_id(i) for i in range(NUM_TRAINED) if i * 80 < (80 - user) * NUM_TRAINED]
        rows.append(sequence_row(rng.permutation(items).tolist(), user=f"u{user}"))
    return rows


def _listed() -> list[dict[str, list]]:
    """The raw rows of the catalogue."""
    rows = []
    for item in sorted(catalogue()):
        genres, countries = side_features(item)
        rows.append(
            {
                **_NOTHING,
                "item_id": [item.encode()],
                "title": [f"Title {item}".encode()],
                "item_genre": [g.encode() for g in genres],
                "item_country": [c.encode() for c in countries],
            }
        )
    return rows


def _transform(folder: Path, time_gap: bool) -> tft.TFTransformOutput:
    """Analyses train sequences and the catalogue; writes to ``folder / "transform"``."""
    config = {"preprocessing": preprocessing_config(time_gap)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(_SPEC))
    work = folder / "transform"
    with tft_beam.Context(temp_dir=str(folder / "tmp")):
        transform_fn = (_sequences() + _listed(), metadata) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing.preprocessing_fn(inputs, config)
        )
        transform_fn | tft_beam.WriteTransformFn(str(work))
    metadata_io.write_metadata(metadata, str(work / tft.TFTransformOutput.RAW_METADATA_DIR))
    output = tft.TFTransformOutput(str(work))
    assert [i.decode() for i in preprocessing.item_ids(output)] == catalogue()
    return output


def _transformed(
    rows: list[dict[str, list]], output: tft.TFTransformOutput
) -> dict[str, tf.Tensor | tf.SparseTensor]:
    examples = [to_example(row).SerializeToString() for row in rows]
    return output.transform_features_layer()(tf.io.parse_example(examples, _SPEC))


def _known(output: tft.TFTransformOutput) -> Catalogue:
    """The catalogue as the Trainer makes it of transformed rows."""
    rows = _transformed(_listed(), output)
    order = np.argsort(rows["item_index"].numpy()[:, 0])
    tables = {
        name: np.pad(tf.sparse.to_dense(rows[name]).numpy()[order], [[1, 0], [0, 0]])
        for name in ("item_genre", "item_country")
    }
    counts = np.zeros(len(catalogue()) + 1, np.int64)
    for row in _sequences():
        for item in row["item_id"]:
            counts[1 + catalogue().index(item.decode())] += 1
    return Catalogue(
        counts,
        {name: table.astype(np.int32) for name, table in tables.items()},
        {name: int(table.max()) + 1 for name, table in tables.items()},
    )


def _model(known: Catalogue, time_gap: bool, repeat: RepeatConfig | None = None) -> MindModel:
    """The model, of the same weights at every call."""
    mind = MindModel(
        ModelConfig(
            embedding_dim=DIM,
            num_interests=2,
            history_length=6,
            hidden_units=(8,),
            time_gap=time_gap,
            repeat=repeat,
        ),
        TrainingConfig(num_negatives=5),
        known,
    )
    if time_gap:  # all gaps count alike before training
        (weight,) = (w for w in mind.weights if w.name.startswith("time_gap_weight"))
        weight.assign(np.random.default_rng(4).normal(size=weight.shape))
    return mind
