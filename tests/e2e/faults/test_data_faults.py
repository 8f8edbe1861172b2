"""Faults in the newest span: each is caught by the guard rail that is named for it.

The spans are read as ExampleGen reads them, and where a whole run of ExampleGen,
StatisticsGen and the gate is needed, these are the real ones. Every fault is put into the
same clean log, and twenty clean days pass all rails.
"""

import dataclasses
import re
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.io.filesystems import FileSystems
from tfx.components.statistics_gen.executor import Executor as StatisticsGen
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from components.data_gate.component import DataGate
from components.data_gate.config import DataRailsConfig
from components.data_gate.rails import judge_spans
from components.example_gen.config import InteractionsConfig
from components.example_gen.errors import DataError
from components.example_gen.forgotten import NOBODY
from components.example_gen.reading import keep_spans
from components.example_gen.span_measures import measure
from components.example_gen.span_store import StoredFile, stored_file
from contract.config_types import to_json
from contract.guard_rails import GuardRailError, stopping
from tests.e2e.faults import shop
from tests.e2e.faults.shop import Event
from tests.unit.components.example_gen.ingestion import BEAM_ARGS, run_example_gen

_DAYS = 6
_NEWEST = _DAYS - 1


class Log:
    """The shop's folder, and what the steps of a run leave beside it."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._runs = 0
        for number in range(_DAYS):
            shop.write_day(folder, number, shop.day(number))
        self.write_items(shop.usual_category)

    def write_newest(self, events: list[Event]) -> None:
        shop.write_day(self._folder, _NEWEST, events)

    def remove(self, number: int) -> None:
        (self._folder / f"{number}.csv").unlink()

    def write_items(self, category) -> None:
        shop.write_items(self._folder / "items.csv", category)

    def ingest(self) -> standard_artifacts.Examples:
        self._runs += 1
        examples = standard_artifacts.Examples()
        examples.uri = str(self._folder / f"examples{self._runs}")
        run_example_gen(
            examples,
            self._folder / "bad",
            interactions={"files": [f"{self._folder}/{{SPAN}}.csv"]},
            items={
                "files": [f"{self._folder}/items.csv"],
                "features": {"category": {"column": "category"}},
            },
            window={"spans": _DAYS},
            split={"protocol": "newest_span", "eval_fraction": 0.4},
            num_shards=1,
        )
        return examples

    def statistics(self, examples) -> standard_artifacts.ExampleStatistics:
        statistics = standard_artifacts.ExampleStatistics()
        statistics.uri = f"{examples.uri}-statistics"
        context = BaseBeamExecutor.Context(
            make_beam_pipeline_fn=lambda: beam.Pipeline(argv=BEAM_ARGS)
        )
        StatisticsGen(context).Do(
            {"examples": [examples]}, {"statistics": [statistics]}, {"exclude_splits": "[]"}
        )
        return statistics

    def gate(self, examples, statistics, **limits) -> None:
        findings = standard_artifacts.ExampleAnomalies()
        findings.uri = f"{examples.uri}-findings"
        DataGate.test_call(
            examples=examples,
            statistics=statistics,
            findings=findings,
            config=to_json(DataRailsConfig(**limits)),
            accepted_dir=str(self._folder / "accepted"),
            source_digest="",
        )

    def remembered(self) -> list[Path]:
        return [path for path in (self._folder / "accepted").rglob("*") if path.is_file()]

    def accepted(self) -> int:
        return len([path for path in self.remembered() if path.name == "measures.json"])


def _half_missing(events):
    return events[::2]


def _replayed(events):
    return [
        dataclasses.replace(event, time=event.time + again)
        for event in events
        for again in range(4)
    ]


def _other_item_ids(events):
    return [dataclasses.replace(event, item=f"sku-{event.item}") for event in events]


def _other_user_ids(events):
    # Of four in five: were it all, nobody would have a history, and ExampleGen would refuse.
    return [
        event
        if event.user.endswith(("0", "5"))
        else dataclasses.replace(event, user=f"id-{event.user}")
        for event in events
    ]


def _vocabulary_swap(events):
    order = np.random.default_rng(1).permutation(120)
    return [dataclasses.replace(event, item=f"i{order[int(event.item[1:])]}") for event in events]


def _bot(events):
    first = events[0].time
    return events + [Event("u0", f"i{n % 120}", first + n) for n in range(700)]


def _frozen_clock(events):
    return [dataclasses.replace(event, time=shop.day(1)[0].time) for event in events]


def _copy_of_the_day_before(events):
    return shop.day(_NEWEST - 1)


def _next_century(events):
    return [dataclasses.replace(event, time=event.time + 100 * 365 * 86_400) for event in events]


def _seven_lines_without_an_item(events):
    return [
        dataclasses.replace(event, item="") if n < 7 else event for n, event in enumerate(events)
    ]


_FAULTS = {
    _half_missing: "least_events",
    _replayed: "most_events",
    _other_item_ids: "new_items",
    _other_user_ids: "new_people",
    _vocabulary_swap: "item_drift",
    _bot: "busiest_person",
    _frozen_clock: "early_events",
    _copy_of_the_day_before: "repeated_events",
    _next_century: "future_events",
    _seven_lines_without_an_item: "bad_rows",
}


def _keep(folder: Path, files: list[Path]) -> list[StoredFile]:
    """Reads files as the first stage of ExampleGen does; a file's name is its span."""
    config = InteractionsConfig(files=("unused/{SPAN}",))
    kept = [
        stored_file(
            str(folder / "spans"),
            path.stem,
            FileSystems.match([str(path)])[0].metadata_list[0],
            config,
            "",
        )
        for path in files
    ]
    with beam.Pipeline(argv=BEAM_ARGS) as pipeline:
        keep_spans(pipeline, kept, config, NOBODY, str(folder / "unreadable.json"))
    return kept


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """The clean days before the newest, and the newest one with each fault."""
    folder = tmp_path_factory.mktemp("days")
    for number in range(_NEWEST):
        shop.write_day(folder, number, shop.day(number))
    for fault in _FAULTS:
        (folder / fault.__name__).mkdir()
        shop.write_day(folder / fault.__name__, _NEWEST, fault(shop.day(_NEWEST)))
    clean = [folder / f"{number}.csv" for number in range(_NEWEST)]
    kept = _keep(
        folder, [*clean, *(folder / fault.__name__ / f"{_NEWEST}.csv" for fault in _FAULTS)]
    )
    return kept[:_NEWEST], dict(zip(_FAULTS, kept[_NEWEST:], strict=True))


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_fault_in_the_newest_span_is_caught_by_its_rail(days, fault):
    earlier, newest = days
    measures = measure([*earlier, newest[fault]], now=shop.END)
    found = stopping(judge_spans(measures, DataRailsConfig()))
    assert _FAULTS[fault] in [finding.rail for finding in found]


def test_milliseconds_are_refused_by_the_ingestion(tmp_path):
    log = Log(tmp_path)
    log.write_newest([dataclasses.replace(e, time=e.time * 1000) for e in shop.day(_NEWEST)])
    with pytest.raises(DataError, match="timestamp_out_of_range"):
        log.ingest()


def test_a_span_that_is_late_is_missed(tmp_path):
    log = Log(tmp_path)
    log.remove(_NEWEST - 2)
    with pytest.raises(DataError, match=f"have no file: {_NEWEST - 2}"):
        log.ingest()


def test_a_renamed_category_is_drift_from_the_data_last_accepted(tmp_path):
    log = Log(tmp_path)
    examples = log.ingest()
    log.gate(examples, log.statistics(examples))
    log.write_items(lambda item: shop.usual_category(item).replace("tea", "tea & coffee"))
    examples = log.ingest()
    statistics = log.statistics(examples)
    with pytest.raises(
        GuardRailError, match=r"feature_drift: .* item_category of split catalog"
    ) as e:
        log.gate(examples, statistics)
    assert log.accepted() == 1
    # What is remembered names neither people nor items.
    remembered = b"".join(path.read_bytes() for path in log.remembered())
    assert b"fruit" in remembered
    assert not re.search(rb"[ui]\d+", remembered)
    # The advice of the message lets the data through.
    named = [line.split(":")[0].strip() for line in str(e.value).splitlines()[1:-1]]
    assert f"guard_rails.data.warn=[{named[0]}]" in str(e.value)
    log.gate(examples, statistics, warn=tuple(named))
    # Accepted, so that the new name is now what is expected.
    log.gate(examples, statistics)


def test_twenty_clean_days_hit_no_rail(tmp_path):
    days = 28
    for number in range(days):
        shop.write_day(tmp_path, number, shop.day(number, seed=7))
    kept = _keep(tmp_path, [tmp_path / f"{number}.csv" for number in range(days)])
    judged = 0
    for newest in range(8, days):
        found = judge_spans(measure(kept[newest - 7 : newest + 1], now=shop.END), DataRailsConfig())
        assert not [finding for finding in found if finding.tripped]
        judged += len(found)
    # future, repeated and early events, volume twice, bad rows, two of new ids, three drifts
    assert judged == 20 * 11
