"""Named settings of model and training, as differences from the defaults."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # The settings with the best validation metrics, which are the defaults of the dataclasses.
    "strong": {"model": {}, "training": {}},
    # The paper's model: dot products without temperature, a random initial S, no positions,
    # no dropout and no residual path. The paper does not give a batch size. Without dropout,
    # small batches keep the model from overfitting.
    "paper": {
        "model": {
            "mapping_init": "glorot",
            "recency_position": False,
            "dropout": 0.0,
            "residual": False,
            "normalize": False,
        },
        "training": {"temperature": 1.0, "batch_size": 256},
    },
}
