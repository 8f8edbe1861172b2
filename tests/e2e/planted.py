"""A log in which every person has a few planted interests."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

NUM_TOPICS = 8
ITEMS_PER_TOPIC = 25
TOPICS_PER_PERSON = 2
EVENTS_PER_PERSON = 30


def item_id(topic: int, item: int) -> str:
    """Id of one item; the text before the colon is its topic."""
    return f"topic {topic}:{item:03d}"


def topic_of(item: str) -> str:
    """Topic of an item id."""
    return item.split(":")[0]


def write_log(path: Path, people: int, seed: int = 1) -> None:
    """Writes a CSV with columns who, what, when.

    Each person draws two topics and alternates between them at random; within
    a topic items are drawn at random, so all that can be learnt is the topics.
    """
    rng = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "what", "when"])
        for person in range(people):
            topics = rng.choice(NUM_TOPICS, TOPICS_PER_PERSON, replace=False)
            for event in range(EVENTS_PER_PERSON):
                item = item_id(rng.choice(topics), rng.integers(ITEMS_PER_TOPIC))
                writer.writerow([f"{person:05d}", item, 1_600_000_000 + event * 60])


def write_days(folder: Path, days: Sequence[str], people: int) -> None:
    """Writes ``folder/DAY/log.csv``: the log of ``write_log`` in equal parts, by time."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole.csv"
    write_log(whole, people)
    header, *rows = whole.read_text(encoding="utf-8").splitlines()
    rows.sort(key=lambda row: int(row.split(",")[-1]))
    for number, day in enumerate(days):
        part = rows[len(rows) * number // len(days) : len(rows) * (number + 1) // len(days)]
        (folder / day).mkdir()
        (folder / day / "log.csv").write_text("\n".join([header, *part]) + "\n", encoding="utf-8")


def settings_of_days(folder: Path) -> dict[str, Any]:
    """Configuration of a short training on each of the days in ``folder``, by dotted key."""
    return {
        "data.interactions.files": [f"{folder}/{{SPAN}}/log.csv"],
        "data.interactions.user_column": "who",
        "data.interactions.item_column": "what",
        "data.interactions.timestamp_column": "when",
        "data.window": {"spans": 2},
        "data.split": {"protocol": "newest_span", "eval_fraction": 0.4},
        "training.max_steps": 60,
        "training.eval_every_steps": 20,
        "training.checkpoint_every_steps": 20,
        "training.batch_size": 128,
        "training.num_negatives": 64,
        "training.warm_start": {"steps": 40},
        "model.embedding_dim": 16,
        "evaluation.exclude_history": False,
        "evaluation.max_drop_from_pushed": 1.0,
        "evaluation.min_lift_over_popularity": -1.0,
        "index.num_queries": 50,
        # Two spans are too few to know what is usual.
        "guard_rails.data.min_earlier_spans": 5,
        "guard_rails.model.warn": ["worse_than_pushed", "distinct_lists"],
    }


def flags_of_days(folder: Path) -> list[str]:
    """``settings_of_days`` as flags of ``local_runner.py``."""
    settings = settings_of_days(folder)
    files = settings.pop("data.interactions.files")
    return [
        "--interactions",
        *files,
        *(f"--set={key}={json.dumps(value)}" for key, value in settings.items()),
    ]
