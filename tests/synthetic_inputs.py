"""Artifacts that IndexBuilder reads: a trained model and raw examples."""

import json
from pathlib import Path

import numpy as np
from tfx.types import standard_artifacts

from tests.synthetic_examples import sequence_example, write_examples
from tests.synthetic_tower import Tower, unit_vectors

NUM_ITEMS, DIM = 2000, 16


def model_artifact(path: Path) -> standard_artifacts.Model:
    """Returns a Model artifact at ``path``."""
    artifact = standard_artifacts.Model()
    artifact.uri = str(path)
    return artifact


def write_inputs(root: Path) -> tuple[standard_artifacts.Model, standard_artifacts.Examples]:
    """Writes 2000 items, five of them without a vector, and 150 people."""
    vectors = unit_vectors(NUM_ITEMS, DIM)
    vectors[-5:] = 0.0
    ids = [f"i{i}" for i in range(NUM_ITEMS)]
    Tower(ids, vectors, np.arange(NUM_ITEMS)[::-1]).save(root / "trainer" / "Format-Serving")
    generator = np.random.default_rng(0)
    write_examples(
        root / "examples" / "Split-eval" / "data-00000-of-00001.gz",
        [
            sequence_example(
                f"user{user}",
                [f"i{item}" for item in generator.integers(0, NUM_ITEMS, 2 + user % 20)],
                profile={"user_taste": "inverted"} if user % 2 else None,
            )
            for user in range(150)
        ],
    )
    examples = standard_artifacts.Examples()
    examples.uri = str(root / "examples")
    examples.split_names = json.dumps(["eval"])
    return model_artifact(root / "trainer"), examples
