"""What a fold of logged changes says it did."""

import tensorflow as tf

from components.example_gen.config import ItemsConfig
from contract.catalogue_changes import Change
from contract.change_log import Entry
from contract.config_types import from_dict
from item_refresh.catalogue import Changes
from item_refresh.changes import fold_changes
from tests.trained_export import ITEMS_CONFIG, catalogue, side_features


def _described(item: str, title: str | None) -> Change:
    genres, countries = side_features(item)
    features = {"genre": tuple(genres), "country": tuple(countries)}
    return Change(title=title, features=features)


def test_each_known_item_is_counted_once(trained):
    tower = tf.saved_model.load(str(trained / "export"))
    changes = {
        "i02": Change(title="Only the title"),
        "i03": _described("i03", "Title and the same features"),
        "i04": _described("i04", None),  # nothing differs
        "i05": Change(title="Title i05"),  # nothing differs
        "i06": Change(is_removed=True),
        "new": _described("i07", "New"),
    }
    entries = [
        Entry(position, item, change) for position, (item, change) in enumerate(changes.items(), 1)
    ]
    done = fold_changes(tower, entries, from_dict(ItemsConfig, ITEMS_CONFIG))
    assert done == Changes(
        added=1, added_without_vector=0, changed=2, removed=1, unchanged=len(catalogue()) - 3
    )
    titles = dict(zip(tower.item_ids.numpy(), tower.item_titles.numpy(), strict=True))
    assert titles[b"i02"] == b"Only the title"
    assert titles[b"i03"] == b"Title and the same features"
