"""Where an id is found, and where something only looks like it."""

import gzip
import json
import sqlite3
import struct

import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

from components.example_gen.arrow_bytes import IPC_OPTIONS
from pipeline import id_scan
from pipeline.id_scan import IdScan


@pytest.fixture
def found(tmp_path):
    """Whether ids are found in a file of this content."""

    def call(content, *ids, name="file"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return IdScan(ids).finds_in(path)

    return call


def _example(*items):
    value = tf.train.BytesList(value=[item.encode() for item in items])
    features = tf.train.Features(feature={"item_id": tf.train.Feature(bytes_list=value)})
    return tf.train.Example(features=features).SerializeToString()


@pytest.mark.parametrize(
    "text",
    [
        "user-1",
        "a user-1 b",
        'x "user-1",',
        "(user-1)",
        "line\nuser-1\n",
        "line\r\nuser-1\r\nline",
        "user-1-old",  # a hyphen may be a part of the id, or not: too much rather than too little
    ],
)
def test_a_whole_word_in_text_is_found(found, text):
    assert found(text, "user-1")


@pytest.mark.parametrize(
    "text", ["user-10", "superuser-1", "user-1\N{LATIN SMALL LETTER E WITH ACUTE}", "user_1", ""]
)
def test_a_part_of_a_longer_word_is_not(found, text):
    assert not found(text, "user-1")


def test_a_fraction_is_no_id(found):
    assert not found('{"recall": 0.04170}', "04170")
    assert found("person 04170, event 3", "04170")


@pytest.mark.parametrize("text", ['{"id": "7"}', "6\n7\n8\n", "7", "<b>7</b>", "x='7'", "7\r\n8"])
def test_a_short_id_is_found_as_a_whole_value(found, text):
    assert found(text, "7")


@pytest.mark.parametrize("text", ['{"id": 7}', "step 7 of 8", "17\n", "0.7", "7 8\n"])
def test_a_short_id_is_not_found_among_numbers(found, text):
    assert not found(text, "7")


@pytest.mark.parametrize("text", ['a"b&c', "\N{SNOWMAN} snow", "it's", "back\\slash"])
def test_an_id_is_found_however_it_is_written(found, text):
    for written in (
        json.dumps({"id": text}),
        json.dumps({"id": text}, ensure_ascii=False),
        f"<td>{text}</td>".replace("&", "&amp;").replace('"', "&#34;").replace("'", "&#39;"),
    ):
        assert found(written, text)


def test_an_id_in_compressed_records_is_found(found):
    records = gzip.compress(b"\0" * 12 + _example("other", "user-1", "2-more"))
    assert found(records, "user-1")
    assert found(records, "2-more")
    assert not found(records, "user-2")
    assert found(records, "user")  # a hyphen may end a word
    assert not found(records, "ser-1")


def test_a_short_id_in_a_record_is_found_whatever_stands_beside_it(found):
    assert found(_example("17", "7", "8"), "7")
    assert not found(_example("17", "77"), "7")


@pytest.mark.parametrize("text", ["user-1", "7"])
def test_an_id_with_its_length_before_it_is_found(found, text):
    def entry(text, count):
        return struct.pack("<QQ", len(text), len(count)) + text.encode() + count.encode()

    assert found(gzip.compress(entry("a", "12.0") + entry(text, "72.0")), text)
    assert not found(gzip.compress(entry("a", "12.0") + entry(f"{text}8", "72.0")), text)
    assert not found(gzip.compress(entry(f"8{text}", "72.0")), text)


def test_a_cut_archive_cannot_be_vouched_for(found):
    with pytest.raises(OSError, match="not complete"):
        found(gzip.compress(b"\0" + bytes(range(256)) * 999)[:-20], "user-1")


def test_cells_of_arrow_and_parquet_are_found(found, tmp_path):
    ids = pa.array(["user-1", "user-10", None, "7"])
    table = pa.table(
        {
            "user": ids.dictionary_encode(),
            "items": pa.array([["a", "b"], [], None, ["list item"]]),
            "number": pa.array([41, 42, 43, None]),
            "pair": pa.array([{"x": "inner"}] * 4),
        }
    )
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema, options=IPC_OPTIONS) as writer:
        writer.write_table(table)
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet", compression="zstd")
    for content in (stream.getvalue().to_pybytes(), (tmp_path / "t.parquet").read_bytes()):
        for present in ("user-1", "7", "b", "list item", "42", "inner"):
            assert found(content, present)
        for absent in ("user-2", "user", "list", "4", "8"):
            assert not found(content, absent)


def test_texts_in_a_checkpoint_are_found_although_they_touch(tmp_path):
    values = tf.Variable(["a17", "7", "a18"])
    # TensorFlow writes "a177a18": only who reads it knows where a text ends.
    tf.train.Checkpoint(ids=values).write(str(tmp_path / "state"))
    (index, shard) = sorted(tmp_path.glob("state*"), reverse=True)
    assert IdScan(["7"]).finds_in(index)
    assert IdScan(["a18"]).finds_in(index)
    assert not IdScan(["77a18", "177a", "8"]).finds_in(index)
    assert not IdScan(["7"]).finds_in(shard)  # told once


def test_in_a_graph_constants_count_and_names_do_not(found):
    def graph(name, value):
        graph_def = tf.Graph()
        with graph_def.as_default():
            tf.constant(value, name=name)
        return graph_def.as_graph_def().SerializeToString()

    assert found(graph("c", ["x", "7"]), "7", name="saved_model.pb")
    assert not found(graph("n7", ["x"]), "7", name="saved_model.pb")


def test_texts_in_a_database_are_found_although_they_touch(tmp_path):
    path = tmp_path / "metadata.db"
    database = sqlite3.connect(path)
    database.execute("create table t (a text, b text)")
    database.execute("insert into t values ('left', 'user-1')")
    database.commit()
    assert b"leftuser-1" in path.read_bytes()
    assert IdScan(["user-1"]).finds_in(path)
    database.execute("delete from t")
    database.commit()
    database.execute("vacuum")
    assert not IdScan(["user-1"]).finds_in(path)


@pytest.mark.parametrize("before", range(9))
def test_an_id_across_two_blocks_is_found_once_and_for_all(found, monkeypatch, before):
    monkeypatch.setattr(id_scan, "_BLOCK", 8)
    assert found(" " * before + "user-1 and more", "user-1")
    assert not found(" " * before + "user-10 and more", "user-1")
    assert not found(" " * before + "a_user-1 and more", "user-1")
