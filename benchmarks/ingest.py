"""Ingestion at scale: synthetic logs of 1 M and 10 M events through ExampleGen + Transform.

    python -m benchmarks.ingest --events 1000000 10000000 --json ingest.json

Each size runs in a process of its own, so that its peak memory is its own. Needs
two cores at most; prints a table and writes JSON.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.transform import executor as transform
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import transform_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.example_gen import executor as example_gen
from components.example_gen.config import DataConfig, InteractionsConfig
from contract import features
from contract.config_types import to_dict, to_json
from model.tfx_functions.preprocessing import PreprocessingConfig

# Events per person and per item of a mid-sized shop.
_EVENTS_PER_USER = 30
_EVENTS_PER_ITEM = 100
_BLOCK = 1_000_000
_FIRST_SECOND = 1_600_000_000
_SECONDS = 365 * 24 * 3600
_HISTORY_LENGTH = 50
_BEAM_ARGS = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]


def write_log(path: str, num_events: int, seed: int = 1) -> None:
    """Writes a CSV log: popular and rare items, busy and idle people, no order."""
    rng = np.random.default_rng(seed)
    num_users = num_events // _EVENTS_PER_USER
    num_items = num_events // _EVENTS_PER_ITEM
    activity = rng.lognormal(sigma=1.0, size=num_users).cumsum()
    popularity = (1.0 / np.arange(1, num_items + 1) ** 0.8).cumsum()
    schema = pa.schema(
        [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())]
    )
    with pa.csv.CSVWriter(path, schema) as writer:
        for begin in range(0, num_events, _BLOCK):
            size = min(_BLOCK, num_events - begin)
            user = np.searchsorted(activity, rng.random(size) * activity[-1])
            item = np.searchsorted(popularity, rng.random(size) * popularity[-1])
            columns = [
                pa.array(user).cast(pa.string()),
                pa.array(item).cast(pa.string()),
                pa.array(_FIRST_SECOND + rng.integers(0, _SECONDS, size)),
            ]
            writer.write(pa.Table.from_arrays(columns, schema=schema))


def run(num_events: int) -> dict[str, Any]:
    """Ingests a synthetic log of ``num_events`` and measures it."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log.csv")
        write_log(log, num_events)
        examples = standard_artifacts.Examples()
        examples.uri = os.path.join(folder, "examples")
        steps = {
            "example_gen": measure(lambda: _example_gen(log, examples)),
            "transform": measure(lambda: _transform(folder, examples)),
        }
        seconds = sum(step["seconds"] for step in steps.values())
        return {
            "events": num_events,
            "megabytes": os.path.getsize(log) / 1e6,
            **steps,
            "seconds": seconds,
            "events_per_second": num_events / seconds,
            "peak_gigabytes": max(step["peak_gigabytes"] for step in steps.values()),
        }


def _context() -> BaseBeamExecutor.Context:
    return BaseBeamExecutor.Context(
        make_beam_pipeline_fn=lambda: beam.Pipeline(argv=_BEAM_ARGS),
        tmp_dir=tempfile.mkdtemp(),
    )


def _example_gen(log: str, examples: standard_artifacts.Examples) -> None:
    config = DataConfig(
        interactions=InteractionsConfig(files=(log,)),
        min_item_interactions=5,
        min_user_interactions=5,
    )
    example_gen.Executor(_context()).Do(
        {},
        {"examples": [examples]},
        {
            "data_config": to_json(config),
            "history_length": _HISTORY_LENGTH,
            "span": "",
            "bad_rows_dir": os.path.join(os.path.dirname(log), "bad"),
        },
    )


def _transform(folder: str, examples: standard_artifacts.Examples) -> None:
    schema = standard_artifacts.Schema()
    schema.uri = os.path.join(folder, "schema")
    os.makedirs(schema.uri)
    kinds = {
        features.USER_ID: schema_pb2.BYTES,
        features.ITEM_ID: schema_pb2.BYTES,
        features.TIMESTAMP: schema_pb2.INT,
        features.NUM_TARGETS: schema_pb2.INT,
        features.NUM_CONTEXT: schema_pb2.INT,
    }
    tfdv.write_schema_text(
        schema_pb2.Schema(feature=[schema_pb2.Feature(name=n, type=t) for n, t in kinds.items()]),
        os.path.join(schema.uri, "schema.pbtxt"),
    )
    graph, transformed = standard_artifacts.TransformGraph(), standard_artifacts.Examples()
    graph.uri, transformed.uri = os.path.join(folder, "graph"), os.path.join(folder, "transformed")
    preprocessing = PreprocessingConfig(
        history_length=_HISTORY_LENGTH, item_features={}, user_features={}
    )
    splits = transform_pb2.SplitsConfig(
        analyze=[features.TRAIN, features.CATALOG], transform=list(features.SPLITS)
    )
    transform.Executor(_context()).Do(
        {"examples": [examples], "schema": [schema]},
        {"transform_graph": [graph], "transformed_examples": [transformed]},
        {
            "preprocessing_fn": "model.tfx_functions.preprocessing.preprocessing_fn",
            "custom_config": json.dumps({"preprocessing": to_dict(preprocessing)}),
            "splits_config": proto_utils.proto_to_json(splits),
            "force_tf_compat_v1": 0,
            "disable_statistics": 1,
        },
    )


def measure(step: Callable[[], None]) -> dict[str, float]:
    """Seconds of ``step``, and the peak resident memory of this process and its children."""
    done = threading.Event()
    peak = 0

    def watch() -> None:
        nonlocal peak
        me = psutil.Process()
        while not done.wait(0.1):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begin = time.monotonic()
    try:
        step()
    finally:
        seconds = time.monotonic() - begin
        done.set()
        watcher.join()
    return {"seconds": seconds, "peak_gigabytes": peak / 1e9}


def main() -> None:
    """Runs the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--json", default="", help="also write the figures here")
    flags = parser.parse_args()
    results = []
    print(
        f"{'events':>12} {'MB':>6} {'ExampleGen s':>13} {'Transform s':>12} {'events/s':>10} "
        f"{'peak GB':>8}"
    )
    for num_events in flags.events:
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
            result = pool.submit(run, num_events).result()
        results.append(result)
        print(
            f"{num_events:>12,} {result['megabytes']:>6.0f} "
            f"{result['example_gen']['seconds']:>13.1f} {result['transform']['seconds']:>12.1f} "
            f"{result['events_per_second']:>10,.0f} {result['peak_gigabytes']:>8.2f}",
            flush=True,
        )
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
