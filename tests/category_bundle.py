"""A real bundle whose items have categories, for the tests of servers and clients."""

from pathlib import Path

import tensorflow as tf

from components.index_builder.bundle import (
    RetrievalBundle,
    retrievable_items,
    retrievable_vectors,
)
from components.index_builder.config import IndexConfig
from components.index_builder.search import ExactSearch
from components.index_builder.warmup import write_warmup
from tests.synthetic_tower import Tower, unit_vectors

NUM_ITEMS = 200
MAIN_CATEGORIES = ("drama", "comedy", "war", "noir")
SECOND_CATEGORY = "classic"
OVER_FETCH = 4


def categories_of(item: str) -> list[str]:
    """One main category by the id, "classic" too for every fifth item."""
    number = int(item)
    # Half of the items are of the first category: an answer has something to mix.
    main = MAIN_CATEGORIES[0 if number % 2 else number // 2 % len(MAIN_CATEGORIES)]
    return [main] + [SECOND_CATEGORY] * (number % 5 == 0)


def save_category_bundle(path: Path) -> None:
    """Saves a bundle of the exact kind of items "1" .. "200", titled "Title <id>"."""
    ids = [str(i) for i in range(1, NUM_ITEMS + 1)]
    tower_path = path.parent / f"{path.name}-tower"
    Tower(
        ids,
        unit_vectors(NUM_ITEMS, 8, seed=7),
        range(NUM_ITEMS, 0, -1),
        [f"Title {i}" for i in ids],
        [categories_of(i) for i in ids],
    ).save(tower_path)
    tower = tf.saved_model.load(str(tower_path))
    rows = retrievable_items(tower)
    search = ExactSearch(retrievable_vectors(tower, rows))
    bundle = RetrievalBundle(tower, rows, search, IndexConfig(over_fetch=OVER_FETCH))
    tf.saved_model.save(bundle, str(path), signatures=bundle.signatures())
    write_warmup(str(path), [b"1"], 10)
