"""Filters, splits and metrics against a second, independent implementation."""

import collections
import random

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from benchmarks import protocols
from model import ranking
from model.metrics import metrics_from_ranks


def _log(seed=0, users=60, items=40, events=1500):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            # Skewed, so that some items and people fall below the minimum.
            "user_id": 1 + (users * rng.random(events) ** 2).astype(int),
            "item_id": 1 + (items * rng.random(events) ** 3).astype(int),
            "timestamp": rng.integers(0, 50, events),
        }
    )


def _reference(log, protocol):
    """The published scripts' steps, on plain lists."""
    rows = sorted(log.itertuples(index=False), key=lambda r: (r.user_id, r.timestamp))
    by_item = collections.Counter(r.item_id for r in rows)
    rows = [r for r in rows if by_item[r.item_id] >= 5]
    by_user = collections.Counter(r.user_id for r in rows)
    sequences = collections.defaultdict(list)
    for r in rows:
        if by_user[r.user_id] >= 5:
            sequences[r.user_id].append(r.item_id)
    users = sorted(sequences)
    if protocol == "user":
        random.Random(1230).shuffle(users)
        a, b = int(0.8 * len(users)), int(0.9 * len(users))
        cut = {u: int(0.8 * len(sequences[u])) for u in users}
        train = [sequences[u] for u in users[:a]]
        groups = [[(sequences[u][: cut[u]], sequences[u][cut[u] :]) for u in part]
                  for part in (users[a:b], users[b:])]  # fmt: skip
    else:
        train = [sequences[u][:-2] for u in users]
        groups = [[(sequences[u][:-2], [sequences[u][-2]]) for u in users],
                  [(sequences[u][:-1], [sequences[u][-1]]) for u in users]]  # fmt: skip
    return train, groups, {i for s in sequences.values() for i in s}


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_splits_equal_the_reference(tmp_path, protocol):
    log = _log()
    log.to_csv(tmp_path / "interactions.csv.gz", index=False)
    split = protocols.load_split(tmp_path, protocol)
    train, (validation, test), items = _reference(log, protocol)
    raw = dict(enumerate(split.items, start=1))

    def named(rows):
        return [[raw[i] for i in row] for row in rows]

    assert named(split.train) == train
    for people, expected in ((split.validation, validation), (split.test, test)):
        assert named(people.histories) == [h for h, _ in expected]
        assert named(people.targets) == [t for _, t in expected]
    assert set(split.items) == items
    counts = collections.Counter(i for s in train for i in s)
    order = [(-counts[i], i) for i in split.items]
    assert order == sorted(order)
    assert split.train_counts()[0] == 0
    assert split.train_counts().sum() == sum(map(len, train))


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_times_stay_beside_their_items(tmp_path, protocol):
    log = _log()
    log["timestamp"] = np.arange(len(log))  # no two alike
    log.to_csv(tmp_path / "interactions.csv", index=False)
    split = protocols.load_split(tmp_path, protocol)
    event = {row.timestamp: (row.user_id, row.item_id) for row in log.itertuples()}

    def of_times(users, times):
        return [[event[t] for t in row] for row in times], [
            [(user, split.items[i - 1]) for i in row] for user, row in users
        ]

    for people in (split.validation, split.test):
        found, expected = of_times(zip(people.users, people.histories, strict=True), people.times)
        assert found == expected
    found, expected = of_times(zip(split.train_users, split.train, strict=True), split.train_times)
    assert found == expected


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no interactions\.csv"):
        protocols.load_split(tmp_path, "user")


def test_padding_keeps_the_newest():
    np.testing.assert_array_equal(
        protocols.pad([[1, 2, 3], [4], []], 2, fill=-1), [[2, 3], [4, -1], [-1, -1]]
    )


def test_the_history_length_follows_the_data():
    people = protocols.People([], [], [], [])
    for length, expected in ((51, 50), (50, 20)):
        split = protocols.Split([1], [], [[1] * length], people, people, [[0] * length])
        assert split.history_length() == expected


def _topk_metrics(interests, items, histories, targets, k, exclude):
    """Metrics from the sorted top k, as the published evaluators compute them."""
    recalls, hits, ndcgs = [], [], []
    for vectors, history, wanted in zip(interests, histories, targets, strict=True):
        scores = (vectors @ items.T).max(axis=0)
        scores[0] = -np.inf
        wanted = set(wanted)
        if exclude:
            scores[history] = -np.inf
            wanted -= set(history)
        if not wanted:
            continue
        top = np.argsort(-scores, kind="stable")[:k]
        found = [item in wanted for item in top]
        discounts = 1 / np.log2(np.arange(k) + 2)
        recalls.append(sum(found) / len(wanted))
        hits.append(any(found))
        ndcgs.append((discounts * found).sum() / discounts[: len(wanted)].sum())
    return {
        f"recall@{k}": np.mean(recalls), f"hit_rate@{k}": np.mean(hits),
        f"ndcg@{k}": np.mean(ndcgs), "users": len(recalls),
    }  # fmt: skip


@pytest.mark.parametrize("exclude", [True, False])
def test_figures_equal_those_of_an_independent_evaluator(exclude):
    rng = np.random.default_rng(5)
    interests = rng.normal(size=(40, 3, 8)).astype(np.float32)
    items = rng.normal(size=(120, 8)).astype(np.float32)
    histories = [list(rng.integers(1, 120, rng.integers(1, 30))) for _ in range(40)]
    # Repeated targets, targets in the history, more targets than k.
    targets = [list(rng.integers(1, 120, rng.integers(1, 16))) for _ in range(40)]
    targets[0] = histories[0][:2]
    ranks = ranking.target_ranks(
        interests, tf.ones([40, 3], tf.bool), items, protocols.pad(histories),
        protocols.pad(targets, fill=-1), exclude,
    )  # fmt: skip
    for k in (5, 10, 50):
        figures = metrics_from_ranks(ranks.numpy(), (k,))
        expected = _topk_metrics(interests, items, histories, targets, k, exclude)
        assert figures == pytest.approx(expected, abs=1e-6)


def test_side_features_and_profiles(tmp_path):
    people = protocols.People([], [], [], [])
    split = protocols.Split(
        [7, 5, 9], [1, 2], [[1, 1, 2], [2, 1]], people, people, [[0, 0, 0], [0, 0]]
    )
    (tmp_path / "items.csv").write_text("item_id,title,tags,brand\n5,A,x|y,b\n7,B,,c\n8,C,z,b\n")
    (tmp_path / "users.csv").write_text("user_id,age\n1,30\n2,20\n3,30\n4,99\n")
    catalogue = protocols.load_side_features(tmp_path, split)
    np.testing.assert_array_equal(catalogue.train_counts, [0, 3, 2, 0])
    np.testing.assert_array_equal(catalogue.side_features["tags"], [[0, 0], [0, 0], [1, 2], [0, 0]])
    np.testing.assert_array_equal(catalogue.side_features["brand"], [[0], [2], [1], [0]])
    assert dict(catalogue.side_vocab_sizes) == {"tags": 3, "brand": 3}
    profiles = protocols.load_profiles(tmp_path, split)
    # 99 is not known from train; user 5 has no row.
    np.testing.assert_array_equal(profiles.of([1, 2, 3, 4, 5])["age"], [2, 1, 2, 0, 0])
    assert profiles.vocab_sizes == {"age": 3}


def test_held_out_items_are_targets_only():
    # Every time is ten times the index of its item.
    people = protocols.People(
        [1, 2], [[1, 2, 3], [4, 5]], [[6, 7, 8], [9, 10, 1]], [[10, 20, 30], [40, 50]]
    )
    train = [[*range(1, 11)], [1, 2, 3]]
    times = [[10 * i for i in row] for row in train]
    split = protocols.Split(list("abcdefghij"), [1, 2], train, people, people, times)
    held = protocols.hold_items_out(split, 0.3)
    counts = held.train_counts()
    assert (counts[1:8] > 0).all()
    np.testing.assert_array_equal(counts[8:], 0)
    cold = {held.items[i - 1] for i in (8, 9, 10)}
    assert sorted(held.items) == list("abcdefghij")

    def named(rows):
        return [[held.items[i - 1] for i in row] for row in rows]

    assert named(held.train) == [[i for i in s if i not in cold] for s in ("abcdefghij", "abc")]

    def moments(rows):
        return [[10 * (1 + "abcdefghij".index(i)) for i in row] for row in named(rows)]

    assert held.train_times == moments(held.train)
    assert held.test.times == moments(held.test.histories)
    for user, targets in zip(held.test.users, named(held.test.targets), strict=True):
        assert targets == [i for i in {1: "fgh", 2: "ija"}[user] if i in cold]
    for user, targets in zip(held.validation.users, named(held.validation.targets), strict=True):
        assert targets == [i for i in {1: "fgh", 2: "ija"}[user] if i not in cold]
