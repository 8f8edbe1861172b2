"""A log in which every person has a few planted interests."""

import csv
from pathlib import Path

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
