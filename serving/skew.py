"""Compares the requests to a server with the data that the model was trained on."""

import dataclasses
import datetime
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from contract.divergence import equal_mass_buckets, jensen_shannon
from contract.features import HISTORY_TIME, ITEM_ID, NUM_TARGETS, TIMESTAMP, USER_PREFIX
from contract.signatures import (
    ITEM_IDS,
    LIMIT,
    LIST_ITEMS,
    OFFSET,
    TRAIN_COUNTS,
    UNKNOWN_TIME,
)
from serving.errors import ServingError
from serving.replay import LoadedVersion
from serving.request_sample import RequestSample

POPULARITY_BUCKETS = 10
_MAX_EXAMPLES = 10_000
# Thresholds for the findings in sentences, beside the table.
_FEW_REQUESTS = 100
_MAX_UNKNOWN = 0.05
_MAX_COLD = 0.05
_MAX_DIVERGENCE = 0.1
_MIN_TRAINED = 0.05  # share of the people in training from which an input counts as used
_DAY_SECONDS = 86_400


@dataclasses.dataclass(frozen=True)
class Trained:
    """What is known about a model's training.

    Attributes:
      item_counts: Number of occurrences of each item of the vocabulary in train, by id; None if the
        version does not provide them.
      person_inputs: Inputs about a person that the model reads in addition to the history.
      history_lengths: Number of items before the targets, for each example; empty without examples.
      max_history: Number of newest items of a history that the model reads; None if unknown.
      given: Share of the examples that have each of ``person_inputs``; empty without examples.
    """

    item_counts: Mapping[str, int] | None
    person_inputs: tuple[str, ...]
    history_lengths: tuple[int, ...] = ()
    given: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_history: int | None = None


@dataclasses.dataclass(frozen=True)
class Skew:
    """Comparison of requests with training. Figures that cannot be compared are None.

    Attributes:
      requests: Number of requests.
      unknown_items: Share of the items in the requests' histories that the model does not know.
      cold: Share of the requests without any known item.
      trained_lengths: Median and 90th percentile of the history lengths in the examples, cut to
        what the model reads.
      asked_lengths: The same for the requests.
      length_divergence: Jensen-Shannon divergence, from 0 to 1, between the two distributions over
        0, 1, 2-3, 4-7, … items.
      trained_popularity: Share of train in each bucket of items, the most popular bucket first; all
        buckets hold about equal shares.
      asked_popularity: The same for the known items of the requests' histories.
      popularity_divergence: Jensen-Shannon divergence between these two.
      inputs: For each input about a person, the share of the examples and of the requests
        that have it.
      unread: Inputs about a person that requests contain but the model does not read.
      future_times: Share of the requests whose history extends more than a day beyond the time of
        the request; None if the model reads no times.
      findings: Noteworthy differences, as sentences.
    """

    requests: int
    unknown_items: float | None
    cold: float | None
    trained_lengths: tuple[float, float] | None
    asked_lengths: tuple[float, float]
    length_divergence: float | None
    trained_popularity: tuple[float, ...] | None
    asked_popularity: tuple[float, ...] | None
    popularity_divergence: float | None
    inputs: dict[str, tuple[float | None, float]]
    unread: tuple[str, ...]
    future_times: float | None
    findings: tuple[str, ...] = ()


def read_trained(
    version: LoadedVersion, example_files: Sequence[str], max_history: int | None = None
) -> Trained:
    """Reads the items from a version, and the examples from files.

    Args:
      version: The version.
      example_files: TFRecord (gzip) of raw sequence examples; the first 10,000 are read.
      max_history: Number of newest items of a history that the model reads; None if unknown.
    """
    person_inputs = tuple(filter(_is_of_person, version.signature.inputs))
    examples = [
        tf.train.Example.FromString(record).features.feature
        for record in itertools.islice(
            tf.data.TFRecordDataset(
                sorted(example_files), compression_type="GZIP"
            ).as_numpy_iterator(),
            _MAX_EXAMPLES,
        )
    ]
    lengths = [
        len(features[ITEM_ID].bytes_list.value) - sum(features[NUM_TARGETS].int64_list.value)
        for features in examples
    ]
    given = {
        name: float(np.mean([_is_given(features, name) for features in examples]))
        for name in person_inputs
        if examples
    }
    return Trained(_item_counts(version), person_inputs, tuple(lengths), given, max_history)


def skew(samples: Sequence[RequestSample], trained: Trained) -> Skew:
    """Compares requests with training; ``samples`` must not be empty."""
    longest = trained.max_history or np.iinfo(np.int32).max
    lengths = np.minimum([len(sample.history) for sample in samples], longest)
    items = [item for sample in samples for item in sample.history]
    unknown = cold = popularity = asked = divergence = None
    counts = trained.item_counts
    if counts is not None:
        unknown = float(np.mean([item not in counts for item in items] or [False]))
        cold = float(np.mean([not any(i in counts for i in s.history) for s in samples]))
        if sum(counts.values()):
            in_train, in_requests = _by_popularity(counts, items)
            popularity, asked = _shares(in_train), _shares(in_requests)
            divergence = jensen_shannon(in_train, in_requests)
    known_lengths = np.minimum(np.array(trained.history_lengths, np.int64), longest)
    found = Skew(
        requests=len(samples),
        unknown_items=unknown,
        cold=cold,
        trained_lengths=_quantiles(known_lengths) if known_lengths.size else None,
        asked_lengths=_quantiles(lengths),
        length_divergence=(
            jensen_shannon(_by_length(known_lengths), _by_length(lengths))
            if known_lengths.size
            else None
        ),
        trained_popularity=popularity,
        asked_popularity=asked,
        popularity_divergence=divergence,
        inputs={
            name: (
                trained.given.get(name),
                float(np.mean([bool(sample.inputs.get(name)) for sample in samples])),
            )
            for name in trained.person_inputs
        },
        unread=tuple(
            sorted(
                {name for sample in samples for name in sample.inputs if _is_of_person(name)}
                - {*trained.person_inputs}
            )
        ),
        future_times=(
            float(np.mean([_is_ahead(sample) for sample in samples]))
            if HISTORY_TIME in trained.person_inputs
            else None
        ),
    )
    return dataclasses.replace(found, findings=tuple(_findings(found)))


def _findings(found: Skew) -> list[str]:
    said = []
    if found.requests < _FEW_REQUESTS:
        said.append(f"There are only {found.requests} requests: small differences mean nothing.")
    if found.unknown_items is not None and found.unknown_items > _MAX_UNKNOWN:
        said.append(
            f"The model does not know {found.unknown_items:.1%} of the items in the histories: "
            "either its vocabulary is older than the requests, or the caller writes ids "
            "differently."
        )
    if found.cold is not None and found.cold > _MAX_COLD:
        said.append(
            f"{found.cold:.1%} of the requests have no item that the model knows; they are "
            "answered with the most popular items."
        )
    if found.length_divergence is not None and found.length_divergence > _MAX_DIVERGENCE:
        assert found.trained_lengths is not None
        said.append(
            "The histories differ in length from those in training: the median is "
            f"{found.asked_lengths[0]:g} items in the requests and {found.trained_lengths[0]:g} "
            "in the examples."
        )
    if found.popularity_divergence is not None and found.popularity_divergence > _MAX_DIVERGENCE:
        assert found.asked_popularity is not None
        assert found.trained_popularity is not None
        half = POPULARITY_BUCKETS // 2
        said.append(
            "The histories hold items of different popularity than in training: the more popular "
            f"half of the buckets has {sum(found.asked_popularity[:half]):.1%} of the items in "
            f"the requests and {sum(found.trained_popularity[:half]):.1%} in training."
        )
    for name, (trained, asked) in found.inputs.items():
        if trained is not None and trained < _MIN_TRAINED:
            continue
        usual = "" if trained is None else f", while {trained:.1%} of the examples have it"
        if not asked:
            said.append(f"The model reads {name}. No request gives it{usual}.")
        elif trained is not None and asked < trained / 2:
            said.append(f"The model reads {name}. {asked:.1%} of the requests give it{usual}.")
    for name in found.unread:
        said.append(f"The requests give {name}, which the model does not read.")
    if found.future_times:
        said.append(
            f"{found.future_times:.1%} of the requests contain times more than a day after the "
            f"request itself: {HISTORY_TIME} is in seconds since 1970, not in milliseconds."
        )
    return said


def _is_of_person(name: str) -> bool:
    return name.startswith(USER_PREFIX) or name == HISTORY_TIME


def _item_counts(version: LoadedVersion) -> dict[str, int] | None:
    """Returns each item's number of occurrences in train, if the version provides them."""
    if LIST_ITEMS not in version.model.signatures:
        return None
    inputs = {OFFSET: np.array(0, np.int32), LIMIT: np.array(np.iinfo(np.int32).max, np.int32)}
    try:
        names = version.model.output_names(LIST_ITEMS, (ITEM_IDS, TRAIN_COUNTS))
    except ServingError:
        return None
    found = version.model.run(LIST_ITEMS, inputs, names)
    ids = [item.decode(errors="surrogateescape") for item in found[ITEM_IDS]]
    return dict(zip(ids, found[TRAIN_COUNTS].tolist(), strict=True))


def _is_given(features: Mapping[str, tf.train.Feature], name: str) -> bool:
    if name == HISTORY_TIME:
        return any(features[TIMESTAMP].int64_list.value) if TIMESTAMP in features else False
    if name not in features:
        return False
    feature = features[name]
    return bool(feature.float_list.value) or any(feature.bytes_list.value)


def _by_popularity(
    counts: Mapping[str, int], items: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how much of train, and how many of ``items``, fall into each bucket of items."""
    numbers = np.array(list(counts.values()))
    buckets = equal_mass_buckets(numbers, POPULARITY_BUCKETS)
    bucket_of = dict(zip(counts, buckets.tolist(), strict=True))
    known = np.array([bucket_of[item] for item in items if item in bucket_of], np.int64)
    return (
        np.bincount(buckets, numbers, POPULARITY_BUCKETS),
        np.bincount(known, minlength=POPULARITY_BUCKETS).astype(float),
    )


def _by_length(lengths: np.ndarray) -> np.ndarray:
    """Counts histories by their number of items, in powers of two."""
    exponents = [int(length).bit_length() for length in lengths]
    return np.bincount(exponents, minlength=int(np.iinfo(np.int32).bits)).astype(float)


def _shares(counts: np.ndarray) -> tuple[float, ...]:
    return tuple((counts / max(counts.sum(), 1.0)).tolist())


def _quantiles(lengths: np.ndarray) -> tuple[float, float]:
    median, high = np.percentile(lengths, [50, 90])
    return float(median), float(high)


def _is_ahead(sample: RequestSample) -> bool:
    newest = max(sample.inputs.get(HISTORY_TIME, ()), default=UNKNOWN_TIME)
    asked = datetime.datetime.fromisoformat(sample.time.replace("Z", "+00:00"))
    return newest > asked.timestamp() + _DAY_SECONDS
