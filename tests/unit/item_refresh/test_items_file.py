from components.example_gen.config import ItemsConfig
from components.example_gen.forgotten import add_forgotten, read_forgotten
from item_refresh.items_file import read_items


def test_a_refresh_brings_no_item_back_that_was_forgotten(tmp_path):
    (tmp_path / "items.csv").write_text("item_id\na\nb\nc\n")
    add_forgotten(tmp_path / "list.json", {"items": ["b"], "users": ["c"]}, "2026-11-26")
    files = [str(tmp_path / "items.csv")]
    config = ItemsConfig(files=("unused.csv",))
    forgotten = read_forgotten(str(tmp_path / "list.json"))
    assert read_items(files, config, 0.0).ids == [b"a", b"b", b"c"]
    assert read_items(files, config, 0.0, forgotten).ids == [b"a", b"c"]
