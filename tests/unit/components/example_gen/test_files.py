import os
import pathlib

import pytest
from apache_beam.io.filesystems import FileSystems

from components.example_gen.config import DataConfig, InteractionsConfig, ItemsConfig, TableConfig
from components.example_gen.errors import DataError
from components.example_gen.files import digest, file_format, resolve
from components.example_gen.inputs import find_inputs, fingerprint, tables


def _paths(*files, span=""):
    return [match.path for match in resolve(TableConfig(files=files), span)]


def test_patterns_in_order_files_by_name_none_twice(tmp_path):
    for name in ("b2.csv", "b1.csv", "a.csv", "_SUCCESS", ".part.csv"):
        (tmp_path / name).write_text("x")
    found = _paths(f"{tmp_path}/b*.csv", f"{tmp_path}/*")
    assert [path.removeprefix(f"{tmp_path}/") for path in found] == ["b1.csv", "b2.csv", "a.csv"]


def test_a_marker_that_is_named_is_read(tmp_path):
    (tmp_path / "_log.csv").write_text("x")
    assert _paths(f"{tmp_path}/_log.csv") == [f"{tmp_path}/_log.csv"]


def test_span(tmp_path):
    (tmp_path / "log-7.csv").write_text("x")
    assert _paths(f"{tmp_path}/log-{{SPAN}}.csv", span="7") == [f"{tmp_path}/log-7.csv"]
    with pytest.raises(DataError, match="needs a span"):
        _paths(f"{tmp_path}/log-{{SPAN}}.csv")


def test_nothing_matches_names_the_nearest(tmp_path):
    (tmp_path / "interactions.csv").write_text("x")
    with pytest.raises(
        DataError, match=r"No input file matches .*/interaction\.csv.*Nearest.*interactions\.csv"
    ):
        _paths(f"{tmp_path}/interaction.csv")
    with pytest.raises(DataError, match="does not exist or is empty"):
        _paths(f"{tmp_path}/nowhere/x.csv")


def test_package_files():
    [path] = _paths("package:recbole/recbole/dataset_example/ml-100k/ml-100k.inter")
    assert pathlib.Path(path).read_text().startswith("user_id:token")
    with pytest.raises(DataError, match=r"no file .*Nearest.*ml-100k\.inter"):
        _paths("package:recbole/recbole/dataset_example/ml-100k/ml-100k.intr")
    with pytest.raises(DataError, match="not installed"):
        _paths("package:no-such-distribution/x.csv")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "csv"),
        ("a.TSV", "csv"),
        ("a.csv.gz", "csv"),
        ("a.b/c.parquet", "parquet"),
        ("a.jsonl.zst", "jsonl"),
    ],
)
def test_format_by_name(name, expected):
    assert file_format(TableConfig(files=(name,)), name) == expected


def test_format_unknown_or_set():
    with pytest.raises(DataError, match="Set `format`"):
        file_format(TableConfig(files=("a.log",)), "a.log")
    assert file_format(TableConfig(files=("a.log",), format="csv"), "a.log") == "csv"


def test_fingerprint_sees_content_and_nothing_else(tmp_path):
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    log.write_text("aaaa")
    items.write_text("b")
    config = DataConfig(
        interactions=InteractionsConfig(files=(str(log),)),
        items=ItemsConfig(files=(str(items),)),
    )
    first = fingerprint(find_inputs(config))
    assert fingerprint(find_inputs(config)) == first
    log.touch()
    assert fingerprint(find_inputs(config)) == first, (
        "a fresh copy of the same data is the same data"
    )
    log.write_text("aaba")  # same size
    second = fingerprint(find_inputs(config))
    assert second != first
    log.write_text("aaaa")
    items.write_text("c")
    assert fingerprint(find_inputs(config)) not in (first, second)


def test_a_file_is_read_once_for_its_digest_until_it_is_written_to(tmp_path, monkeypatch):
    log = tmp_path / "log.csv"
    log.write_text("aaaa")
    opened = []
    real = FileSystems.open
    monkeypatch.setattr(
        FileSystems, "open", lambda path, **more: opened.append(path) or real(path, **more)
    )
    table = TableConfig(files=(str(log),))
    first = [digest(file) for file in resolve(table) * 2]
    assert first[0] == first[1]
    assert opened == [str(log)]
    times = log.stat()
    log.write_text("aaba")
    os.utime(log, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(resolve(table)[0]) != first[0]


def test_fingerprint_tells_the_border_between_files(tmp_path):
    def digest(*contents):
        for index, content in enumerate(contents):
            (tmp_path / f"{index}.csv").write_text(content)
        config = DataConfig(interactions=InteractionsConfig(files=(f"{tmp_path}/*.csv",)))
        return fingerprint(find_inputs(config))

    assert digest("ab", "c") != digest("a", "bc")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    log = tmp_path / "log.csv"
    log.symlink_to("/proc/self/mem")  # opens, but reading fails, also for root
    config = DataConfig(interactions=InteractionsConfig(files=(str(log),)))
    with pytest.raises(DataError, match=rf"Cannot read {log}: .*Check that this account"):
        fingerprint(find_inputs(config))


def test_tables_leaves_out_what_is_not_configured():
    config = DataConfig(interactions=InteractionsConfig(files=("a",)))
    assert list(tables(config)) == ["interactions"]
