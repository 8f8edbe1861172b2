"""The model card says what the manifest knows, and leaves out what it does not."""

from contract import manifest
from retrieval.model_card import render, write_model_card

_FACTS = {
    manifest.NAME: "shop",
    manifest.RUN_KEY: "abc",
    manifest.DATA_DIGEST: "d1",
    manifest.GENERATION: 3,
    manifest.STEPS_ON_ALL: 1200,
    manifest.JUDGED_MODEL: "/judged/7",
    manifest.PRIMARY_METRIC: "recall_at_50",
    manifest.CONFIG: {
        "data": {"license": "CC BY 4.0 | with <b>care</b>"},
        "model": {"num_interests": 4, "embedding_dim": 64, "history_length": 20},
        "evaluation": {"min_lift_over_popularity": 0.0, "max_drop_from_pushed": 0.01},
        "index": {"recall_target": 0.95},
    },
    manifest.DATA: {
        "window": {"first": "2026-11-01", "last": "2026-11-26", "spans": 26},
        "time": {"first": 1_793_491_200, "last": 1_795_737_599},
        "events": 12_345,
        "people": 678,
        "items": 90,
        "sequences": {"train": 600, "test": 78},
    },
    manifest.METRICS: {
        "recall_at_50": {"value": 0.41234, "low": 0.4, "high": 0.42},
        "recall_at_50_diff": {"value": 0.1},
        "recall_at_50_history_included": {"value": 0.9},
        "ndcg_at_50": {"value": 0.3},
        "recall_at_10": {"value": 0.2},
    },
    manifest.SLICES: {
        "overall": {"value": 0.41234},
        "history_length_bucket=1-9": {"value": 0.25, "low": 0.2, "high": 0.3},
    },
    manifest.INDEX: {manifest.ALGORITHM: manifest.EXACT, manifest.RECALL: 1.0},
    manifest.VERSIONS: {"tensorflow": "2.16.2"},
}


def test_the_card_by_hand():
    lines = render(_FACTS).splitlines()
    for line in (
        "# Model card: shop",
        "| Spans | 2026-11-01 to 2026-11-26, 26 in all |",
        "| Events from | 2026-11-01 to 2026-11-26 (UTC) |",
        "| Events | 12,345 |",
        "| People in test | 78 |",
        "| License of the data | CC BY 4.0 \\| with <b>care</b> |",
        "| Training | warm start number 3 |",
        "| Trained on all events | 1,200 steps. The metrics below are those of /judged/7, which "
        "was trained in the same way, but without the events used for the metrics |",
        "| Index | exact, recall 1.0000 when built |",
        "| tensorflow | 2.16.2 |",
        "| recall_at_50 | 0.4123 | 0.4000 to 0.4200 |",
        "| ndcg_at_50 | 0.3000 |  |",
        "| recall_at_50, history_length_bucket=1-9 | 0.2500 | 0.2000 to 0.3000 |",
        "| recall_at_50 below the previous version by at most | 0.01 |",
    ):
        assert line in lines
    # Differences, other rankings and other cut-offs would bury what the gates look at.
    text = "\n".join(lines)
    assert "_diff" not in text
    assert "history_included" not in text
    assert "recall_at_10" not in text


def test_the_page_has_tables_and_no_markup_of_others(tmp_path):
    write_model_card(str(tmp_path), _FACTS)
    page = (tmp_path / "assets.extra" / "model_card.html").read_text()
    assert page.count("<table>") == 4
    assert "<td>CC BY 4.0 | with &lt;b&gt;care&lt;/b&gt;</td>" in page
    assert (tmp_path / "assets.extra" / "model_card.md").read_text() == render(_FACTS)


def test_what_is_unknown_is_left_out():
    text = render({manifest.NAME: "shop"})
    assert "Quality" not in text
    assert "passed" not in text
    assert "| License of the data | not stated (`data.license`) |" in text


def test_a_training_from_nothing_says_why():
    facts = {**_FACTS, manifest.GENERATION: 0}
    assert "| Training | from scratch |" in render(facts)
    facts["from_nothing_because"] = "the items drifted"
    assert "| Training | from scratch: the items drifted |" in render(facts)
