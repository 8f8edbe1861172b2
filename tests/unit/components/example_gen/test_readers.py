import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from components.example_gen import readers
from components.example_gen.config import TableConfig
from components.example_gen.errors import DataError
from components.example_gen.readers import check_columns, column_names, read_blocks

COLUMNS = {"user_column": "u", "item_column": "i"}


def _read(path, **config):
    """All rows and rejected rows of a file, as (row number, ...) tuples."""
    table = TableConfig(files=(str(path),), **config)
    rows, rejected = [], []
    for block in read_blocks(str(path), table, COLUMNS):
        cells = [block.columns[name].to_pylist() for name in ("u", "i")]
        rows += zip(block.row_numbers.tolist(), *cells, strict=True)
        rejected += [(row.row, row.reason, row.raw) for row in block.rejected]
    return rows, rejected


def _write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_csv(tmp_path, name):
    path = _write(tmp_path / name, 'x,u,i\n1,"a,b","q""\n"\n2,007,日本\n\n')
    rows, rejected = _read(path)
    assert rows == [(2, b"a,b", b'q"\n'), (3, b"007", "日本".encode())]
    assert rejected == []


def test_csv_byte_order_mark_and_carriage_returns(tmp_path):
    rows, _ = _read(_write(tmp_path / "log.csv", b"\xef\xbb\xbfu,i\r\na,b\r\n"))
    assert rows == [(2, b"a", b"b")]


def test_csv_bytes_that_are_no_utf8_pass_unchanged(tmp_path):
    rows, _ = _read(_write(tmp_path / "log.csv", b"u,i\n\xff,b\n"))
    assert rows == [(2, b"\xff", b"b")]


def test_csv_row_numbers_count_skipped_rows_in_every_block(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK_BYTES", 100)
    lines = [f"u{n},i{n}" if n % 7 else f"only{n}" for n in range(1, 200)]
    rows, rejected = _read(_write(tmp_path / "log.csv", "\n".join(["u,i", *lines])))
    # Line n + 1 holds row n: the header is line 1.
    assert rows == [(n + 1, f"u{n}".encode(), f"i{n}".encode()) for n in range(1, 200) if n % 7]
    assert rejected == [(n + 1, "wrong_number_of_columns", f"only{n}") for n in range(7, 200, 7)]


def test_csv_whose_every_row_is_rejected(tmp_path):
    rows, rejected = _read(_write(tmp_path / "log.csv", "u,i\na\nb,c,d\n"))
    assert rows == []
    assert [row for row, _, _ in rejected] == [2, 3]


def test_csv_without_header(tmp_path):
    rows, rejected = _read(_write(tmp_path / "log.csv", "a,b\nc\n"), column_names=("u", "i"))
    assert rows == [(1, b"a", b"b")]
    assert rejected == [(2, "wrong_number_of_columns", "c")]


@pytest.mark.parametrize("name", ["ratings.dat", "ratings.dat.gz"])
def test_csv_delimiter_of_two_characters(tmp_path, name):
    text = '1::Star Wars: "A"::x\n2::b::y\n3::c\n'
    rows, rejected = _read(
        _write(tmp_path / name, text), delimiter="::", column_names=("u", "i", "z")
    )
    assert rows == [(1, b"1", b'Star Wars: "A"'), (2, b"2", b"b")]
    assert rejected == [(3, "wrong_number_of_columns", "3::c")]


def test_csv_encoding(tmp_path):
    path = _write(tmp_path / "log.csv", "u,i\né,b\n".encode("latin-1"))
    assert _read(path, encoding="latin-1")[0] == [(2, "é".encode(), b"b")]


def test_csv_stray_quotes_need_quoting_off(tmp_path):
    path = _write(tmp_path / "log.csv", 'u,i\n"a,b\nc,d\n')
    assert _read(path, quoting=False)[0] == [(2, b'"a', b"b"), (3, b"c", b"d")]


def test_csv_quote_that_runs_beyond_a_block_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1000)
    path = _write(tmp_path / "log.csv", "u,i\na,b\n" + '"a,b\n' + "c,d\n" * 1000)
    with pytest.raises(DataError, match=r"Cannot read .*log\.csv.*`quoting: false`"):
        _read(path)


def test_parquet(tmp_path):
    table = pa.table({"x": [0, 0], "i": [12, None], "u": ["a", "b"]})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    assert _read(tmp_path / "log.parquet")[0] == [(1, "a", 12), (2, "b", None)]


def test_parquet_row_numbers_run_on(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_PARQUET_ROWS", 2)
    table = pa.table({"u": list("abcde"), "i": list("vwxyz")})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    assert [row for row, _, _ in _read(tmp_path / "log.parquet")[0]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_jsonl(tmp_path, name, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK_BYTES", 8)
    lines = [
        json.dumps({"u": "a\nb", "i": "日本"}).encode(),
        b"",
        b'{"u": "a", "i": ',
        b"[1]",
        b'{"u": "\xff"}',
        b'{"u": "c", "y": 1}',
    ]
    rows, rejected = _read(_write(tmp_path / name, b"\n".join(lines)))
    assert rows == [(1, "a\nb", "日本"), (6, "c", None)]
    assert rejected == [
        (3, "unparsable_json", '{"u": "a", "i": '),
        (4, "unparsable_json", "[1]"),
        (5, "not_utf8", '{"u": "\\xff"}'),
    ]


def test_jsonl_column_of_several_types_becomes_text(tmp_path):
    path = _write(tmp_path / "log.jsonl", '{"u": "007", "i": 1}\n{"u": 7, "i": 2}\n')
    assert _read(path)[0] == [(1, "007", 1), (2, "7", 2)]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.csv.gz"])
def test_empty(tmp_path, name):
    with pytest.raises(DataError, match=r"log\.\w+(\.gz)? is empty"):
        _read(_write(tmp_path / name, ""))


@pytest.mark.parametrize("name", ["log.csv.gz", "log.jsonl.gz"])
def test_a_truncated_archive_names_the_file(tmp_path, name):
    line = "u,i\n" if "csv" in name else '{"u": 1, "i": 2}\n'
    whole = gzip.compress((line * 3).encode() + bytes(range(256)) * 50)
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"Cannot read .*{name}"):
        _read(tmp_path / name)


def test_what_is_no_parquet_names_the_file(tmp_path):
    with pytest.raises(DataError, match=r"Cannot read .*log\.parquet"):
        _read(_write(tmp_path / "log.parquet", "u,i\n"))


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_missing_column_names_the_nearest_and_those_present(tmp_path, name):
    path = tmp_path / name
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pa.table({"userId": ["a"], "i": ["b"]}), path)
    else:
        _write(path, "userId,i\na,b\n" if "csv" in name else '{"userId": "a", "i": "b"}\n')
    table = TableConfig(files=(str(path),))
    assert column_names(str(path), table) == ["userId", "i"]
    with pytest.raises(DataError) as error:
        check_columns(str(path), table, {"user_column": "user_id", "item_column": "i"})
    assert "user_column = 'user_id'; did you mean 'userId'?" in str(error.value)
    assert "Columns present: 'userId', 'i'" in str(error.value)
    assert "item_column" not in str(error.value)


def test_one_column_suggests_the_delimiter(tmp_path):
    path = _write(tmp_path / "log.csv", "u;i\na;b\n")
    with pytest.raises(DataError, match="is ',' the right delimiter"):
        check_columns(str(path), TableConfig(files=(str(path),)), COLUMNS)


def test_a_reader_dropped_halfway_does_not_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1 << 10)
    path = _write(tmp_path / "log.csv", "u,i\n" + "a,b\n" * 100_000)
    table = TableConfig(files=(str(path),))
    blocks = read_blocks(str(path), table, COLUMNS)
    assert next(blocks).columns.num_rows > 0
    blocks.close()
    assert column_names(str(path), table) == ["u", "i"]
