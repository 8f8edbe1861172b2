"""The description of one ingestion, which its Beam stages share."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from components.example_gen.config import DataConfig
from components.example_gen.forgotten import Forgotten
from components.example_gen.shards import shard_name, write_tfrecord
from components.example_gen.span_store import StoredFile

# (bucket, (number of the file, number of the part in it, packed table))
Part = tuple[int, tuple[int, int, bytes]]
# Tags of the outputs that stages have besides their main output.
BAD, REPORT, ITEMS, TIMES = "bad", "report", "items", "times"


@dataclass(frozen=True)
class Ingestion:
    """What one ingestion reads and writes.

    Attributes:
      data_config: Columns, filters and split.
      history_length: The model's history length, by which chunks of long sequences overlap.
      files: Resolved paths of each table.
      forgotten: People and items that are left out.
      stored: The stored events of each interaction file, in the order of ``files``; empty
        if the run reads no window of spans.
      num_shards: Number of hash buckets of people and of items, and of files per split.
      now: Seconds since 1970; later events are counted as events in the future.
      split_uris: Directory of each split.
      temp_uri: Directory for unfinished files, on the same file system.
      bad_rows_prefix: Path of the files with bad rows, without shard and extension.
    """

    data_config: DataConfig
    history_length: int
    files: dict[str, list[str]]
    forgotten: Forgotten
    stored: tuple[StoredFile, ...]
    num_shards: int
    now: int
    split_uris: dict[str, str]
    temp_uri: str
    bad_rows_prefix: str

    @property
    def first_newest_file(self) -> int:
        """The number of the first interaction file of the newest span."""
        return next(
            (n for n, file in enumerate(self.stored) if file.span == self.stored[-1].span), 0
        )

    def write_shard(self, split: str, shard: int, examples: Iterable[bytes]) -> None:
        """Writes one file of a split."""
        path = os.path.join(self.split_uris[split], shard_name(shard, self.num_shards))
        write_tfrecord(path, examples, self.temp_uri)
