"""Named settings of model and training, as differences from the defaults."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # What measures best on validation; the defaults of the dataclasses.
    "strong": {"model": {}, "training": {}},
    # The paper, section by section: dot products without temperature, no
    # position, no dropout, no residual path, Adam's own learning rate.
    "paper": {
        "model": {
            "recency_position": False,
            "dropout": 0.0,
            "residual": False,
            "normalize": False,
        },
        "training": {"temperature": 1.0, "learning_rate": 1e-3, "plateau_factor": 1.0},
    },
}
