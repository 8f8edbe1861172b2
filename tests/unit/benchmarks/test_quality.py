import math

import numpy as np
import pytest

from benchmarks import protocols, quality
from model.catalogue import Catalogue
from model.metrics import metrics_from_ranks


def test_overrides_change_the_preset():
    model_config, training_config = quality.configs(
        "paper",
        ["model.num_interests=2", "training.negatives=uniform", "training.attention_power=1.5"],
        history_length=7,
        seed=9,
    )
    assert (model_config.num_interests, model_config.history_length) == (2, 7)
    assert not model_config.normalize  # from the preset
    assert (training_config.negatives, training_config.seed) == ("uniform", 9)
    assert training_config.attention_power == 1.5
    assert math.isinf(quality.configs("strong", [], 7, 1)[1].attention_power)


def test_an_unknown_override_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        quality.configs("strong", ["model.nothing=1"], 7, 1)


def test_summary_of_runs_by_hand():
    runs = [{"excluded.recall@50": 0.1, "curve": []}, {"excluded.recall@50": 0.3, "curve": []}]
    assert quality.summarise(runs) == pytest.approx(
        {"excluded.recall@50": 0.2, "excluded.recall@50.std": 0.1}
    )


def test_a_run_reports_every_figure_and_learns():
    # Everybody walks along the same ring of thirty items: the next one is certain.
    sequences = {u: [(u + t) % 30 + 1 for t in range(12)] for u in range(80)}
    times = {u: list(range(12)) for u in sequences}
    split = protocols.split_sequences(sequences, times, "leave_one_out")
    settings = ["training.max_steps=150", "training.eval_every_steps=50", "training.batch_size=64",
                "model.embedding_dim=16", "model.dropout=0.0",
                "training.eval_exclude_history=false"]  # fmt: skip
    run, ranks = quality.train_and_evaluate(
        split, Catalogue(split.train_counts()), protocols.Profiles(),
        *quality.configs("strong", settings, 5, 1),
    )  # fmt: skip
    for kind in ("excluded", "included"):
        for k in quality.CUTOFFS:
            for metric in ("recall", "ndcg", "hit_rate"):
                assert 0 <= run[f"{kind}.{metric}@{k}"] <= 1
    assert run["excluded.ndcg@10"] > 0.5
    assert {"seconds", "examples_per_second", "validation.recall", "curve"} <= set(run)
    found = [metrics_from_ranks(of, (10,)) for of in ranks.values()]
    assert [run[f"{kind}.ndcg@10"] for kind in ranks] == [one["ndcg@10"] for one in found]


def test_the_paired_difference_by_hand(capsys):
    """Ranks 1 and 3 against 3 and 3: one person gains a half, the other nothing."""
    ours, theirs = np.array([[1], [3]]), np.array([[3], [3]])
    quality.print_paired("popularity", {"included": ours}, {"included": theirs})
    line = capsys.readouterr().out
    assert "above popularity, history included: +0.2500" in line
    assert "(2 people)" in line


def test_cpu_seconds_to_a_recall():
    curve = [
        {"step": 250, "cpu_seconds": 10.0, "recall": 0.1},
        {"step": 500, "cpu_seconds": 20.0, "recall": 0.3},
        {"step": 750, "cpu_seconds": 30.0, "recall": 0.2},
    ]
    assert quality.cpu_seconds_to(0.2, curve) == 20.0
    assert quality.cpu_seconds_to(0.1, curve) == 10.0
    assert quality.cpu_seconds_to(0.4, curve) is None
