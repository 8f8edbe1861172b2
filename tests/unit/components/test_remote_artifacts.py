"""Steps whose artifacts are in an object store, with no copy on the local disk."""

import tensorflow as tf
from tfx.types import standard_artifacts

from retrieval.manifest import list_files
from tests.unit.components.example_gen.ingestion import read_splits, run_example_gen


def test_example_gen_leaves_its_splits_and_report_and_nothing_else(
    tmp_path, object_store, monkeypatch
):
    make_directories = tf.io.gfile.makedirs
    # A directory of an object store is gone when its last file is, as if never made.
    monkeypatch.setattr(
        tf.io.gfile, "makedirs", lambda path: path.endswith("/.temp") or make_directories(path)
    )
    log = tmp_path / "log.csv"
    rows = [f"u{user},i{item},{item}" for user in range(4) for item in range(5)]
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    examples = standard_artifacts.Examples()
    examples.uri = f"{object_store}/examples"
    run_example_gen(examples, tmp_path / "bad", interactions={"files": [str(log)]})
    files = list_files(examples.uri)
    assert "ingest_report.json" in files
    assert {name.partition("/")[0] for name in files} == {
        "ingest_report.json",
        *(f"Split-{split}" for split in ("train", "eval", "test", "catalog")),
    }
    assert len(read_splits(examples.uri)["test"]) == 4
