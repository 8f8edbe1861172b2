"""Named settings of model and training, as differences from the defaults."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # What measures best on validation; the defaults of the dataclasses.
    "strong": {"model": {}, "training": {}},
    # The paper, section by section: dot products without temperature, a random map, no
    # position, no dropout, no residual path. It names no batch size; without dropout
    # small batches are what keeps the model from overfitting.
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
