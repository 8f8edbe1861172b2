"""With the repeat path, what a run evaluates is what the pushed version answers."""

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from contract import evaluation_outputs as outputs
from model.config import RepeatConfig
from model.tfx_functions.export import ExportedMind
from model.tfx_functions.transformed_data import ItemTexts
from retrieval.config import IndexConfig
from tests import trained_export
from tests.synthetic_bundle import save_bundle
from tests.trained_export import item_id, sequence_row, to_example

# Longer than the six behaviours that interests are formed of; "nobody" is known to nobody.
_HISTORY = [item_id(i) for i in (40, 41, 40, 3, 50, 40, 41, 7, 8, 9, 10, 40)] + ["nobody"]
_TARGETS = [item_id(i) for i in (40, 50, 20, 0)]


def test_evaluated_ranks_are_those_of_the_served_answer(trained, tmp_path):
    output = tft.TFTransformOutput(str(trained / "transform"))
    known = trained_export._known(output)
    mind = trained_export._model(known, False, RepeatConfig())
    rng = np.random.default_rng(5)
    for weight in mind.repeat.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    texts = ItemTexts([b""] * known.num_items, None)
    features = sorted(known.side_features)
    ExportedMind(mind, output, known, texts, features, [], 10, False).save(str(tmp_path / "export"))
    save_bundle(tmp_path / "export", tmp_path / "bundle", "exact", IndexConfig(max_k=100))
    bundle = tf.saved_model.load(str(tmp_path / "bundle"))
    row = to_example(sequence_row([*_HISTORY, *_TARGETS], "u", len(_TARGETS))).SerializeToString()
    evaluated = bundle.signatures["evaluate"](examples=tf.constant([row]))

    def served(exclude_history):
        answer = bundle.signatures["serving_default"](
            history=tf.constant([_HISTORY]), k=tf.constant(100), exclude=tf.constant([[""]]),
            exclude_history=tf.constant(exclude_history),
        )  # fmt: skip
        return [item.decode() for item in answer["item_ids"].numpy()[0] if item]

    ranking = served(exclude_history=False)
    ranks = evaluated[outputs.RANKS_HISTORY_INCLUDED].numpy()[0].tolist()
    assert ranks == [1 + ranking.index(item) for item in _TARGETS]
    recommended = evaluated[outputs.RECOMMENDED].numpy()[0].tolist()
    items = trained_export.catalogue()
    assert [items[index - 1] for index in recommended] == ranking[:10]
    # The path changes the order of what was had, and nothing of the order of the rest.
    without = served(exclude_history=True)
    assert without == [item for item in ranking if item not in _HISTORY]
    ranks = evaluated[outputs.RANKS].numpy()[0].tolist()
    assert ranks == [0, 0, *(1 + without.index(item) for item in _TARGETS[2:])]
