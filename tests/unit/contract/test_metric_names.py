"""Names of metrics: what is written can be read again."""

import itertools
import typing

import pytest

from contract import metric_names
from contract.metric_names import metric_name, parse_metric_name
from pipeline.config import EvaluationConfig


@pytest.mark.parametrize(
    ("quantity", "cutoff"), [("recall", 50), ("hit_rate", 5), ("coverage", 10), ("mrr", None)]
)
def test_a_name_is_taken_apart_into_what_it_was_made_of(quantity, cutoff):
    qualifiers = ("", "tail"), ("", "history_included"), ("", "lift_over_popularity")
    for rest, history, lift in itertools.product(*qualifiers):
        name = metric_name(quantity, cutoff, rest, history, lift)
        assert parse_metric_name(name) == (quantity, cutoff, bool(history), bool(lift), rest)


def test_spelling():
    assert metric_name("ndcg", 20, "history_included") == "ndcg_at_20_history_included"
    assert metric_name("recall", 50, "", "") == "recall_at_50"


def test_the_configuration_offers_every_quantity_with_a_cutoff():
    offered = typing.get_type_hints(EvaluationConfig)["primary_metric"]
    assert set(typing.get_args(offered)) == set(metric_names.CUTOFF_QUANTITIES)
