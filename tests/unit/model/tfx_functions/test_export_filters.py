"""The export carries the values that requests filter by, and a bundle of it answers."""

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from model.tfx_functions.export import ExportedMind
from model.tfx_functions.transformed_data import ItemTexts
from retrieval.config import IndexConfig
from tests import trained_export
from tests.synthetic_bundle import save_bundle


def test_the_export_carries_values_to_filter_by(trained, tmp_path):
    output = tft.TFTransformOutput(str(trained / "transform"))
    known = trained_export._known(output)
    items = trained_export.catalogue()
    countries = [[c.encode() for c in trained_export.side_features(item)[1]] for item in items]
    texts = ItemTexts([b""] * len(items), None, {"country": countries})
    features = sorted(known.side_features)
    exported = ExportedMind(
        trained_export._model(known, False), output, known, texts, features, [], 10, True
    )
    exported.save(str(tmp_path / "export"))
    tower = tf.saved_model.load(str(tmp_path / "export"))
    names = tower.filter_names["country"].numpy().tolist()
    table = tower.filter_values["country"].numpy()
    assert [[names[c - 1] for c in row if c] for row in table] == countries

    save_bundle(tmp_path / "export", tmp_path / "bundle", "exact", IndexConfig())
    serve = tf.saved_model.load(str(tmp_path / "bundle")).signatures["serving_default"]
    answer = serve(
        history=tf.constant([["i03"]]), k=tf.constant(100), exclude=tf.constant([[""]]),
        exclude_history=tf.constant(True), allow_country=tf.constant([["NL"]]),
        deny_country=tf.constant([[""]]),
    )  # fmt: skip
    found = {item.decode() for item in answer["item_ids"].numpy()[0]} - {""}
    assert found == {i for i, c in zip(items, countries, strict=True) if b"NL" in c} - {"i03"}
    assert np.isfinite(answer["scores"].numpy()).all()
