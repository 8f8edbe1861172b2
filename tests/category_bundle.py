"""A real bundle whose items have categories, for the tests of servers and clients."""

from pathlib import Path

from retrieval.config import IndexConfig
from retrieval.warmup import write_warmup
from tests.synthetic_bundle import save_bundle
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


def maker_of(item: str) -> str:
    """A categorical feature that filters."""
    return f"maker {int(item) % 3}"


def price_of(item: str) -> float:
    """A numeric feature that filters."""
    return float(item)


def save_category_bundle(
    path: Path, *, live_catalogue: bool = False, filters: bool = False
) -> None:
    """Saves a bundle of the exact kind of items "1" .. "200", titled "Title <id>".

    Args:
      path: Where to.
      live_catalogue: Whether the catalogue can be changed.
      filters: Whether requests can filter by the features above.
    """
    ids = [str(i) for i in range(1, NUM_ITEMS + 1)]
    tower_path = path.parent / f"{path.name}-tower"
    Tower(
        ids,
        unit_vectors(NUM_ITEMS, 8, seed=7),
        range(NUM_ITEMS, 0, -1),
        [f"Title {i}" for i in ids],
        [categories_of(i) for i in ids],
        {"maker": [[maker_of(i)] for i in ids], "price": [[price_of(i)] for i in ids]}
        if filters
        else None,
    ).save(tower_path)
    save_bundle(
        tower_path, path, "exact", IndexConfig(over_fetch=OVER_FETCH, live_catalogue=live_catalogue)
    )
    write_warmup(str(path), [b"1"], 10)
