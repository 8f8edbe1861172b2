"""Configuration of the data: files, columns, filters and split."""

from typing import Literal

from pydantic import Field

from model.config_types import config_dataclass


@config_dataclass
class FeatureConfig:
    """One side feature of an item or profile feature of a person.

    Attributes:
      column: Its column in the file.
      kind: ``categorical`` (one embedding per value) or ``numeric`` (cut into
        quantile buckets, then as categorical).
      separator: Splits one cell into several values; empty is one value.
      num_buckets: Quantile buckets of a numeric feature.
    """

    column: str
    kind: Literal["categorical", "numeric"] = "categorical"
    separator: str = ""
    num_buckets: int = Field(10, ge=2, le=1000)


@config_dataclass
class TableConfig:
    """Files of one table.

    Attributes:
      files: Paths or globs; ``.gz`` is decompressed; ``{SPAN}`` is replaced by
        the run's span; ``package:DISTRIBUTION/PATH`` names a data file that an
        installed distribution ships.
      format: ``csv``, ``parquet`` or ``jsonl``; ``auto`` goes by the name.
      delimiter: Of a CSV file.
    """

    files: tuple[str, ...] = Field(min_length=1)
    format: Literal["auto", "csv", "parquet", "jsonl"] = "auto"
    delimiter: str = Field(",", min_length=1, max_length=1)


@config_dataclass
class InteractionsConfig(TableConfig):
    """The interaction log: one row per event.

    Attributes:
      user_column: Column of the person's id.
      item_column: Column of the item's id.
      timestamp_column: Column of the event's time.
      timestamp_unit: Unit of a numeric time; ``iso`` parses text.
    """

    user_column: str = "user_id"
    item_column: str = "item_id"
    timestamp_column: str = "timestamp"
    timestamp_unit: Literal["s", "ms", "us", "iso"] = "s"


@config_dataclass
class ItemsConfig(TableConfig):
    """The item catalogue: one row per item.

    Attributes:
      id_column: Column of the item's id.
      title_column: Column shown to people; empty if there is none.
      features: Side features by name.
    """

    id_column: str = "item_id"
    title_column: str = ""
    features: dict[str, FeatureConfig] = Field(default_factory=dict)


@config_dataclass
class UsersConfig(TableConfig):
    """People's profiles: one row per person.

    Attributes:
      id_column: Column of the person's id.
      features: Profile features by name.
    """

    id_column: str = "user_id"
    features: dict[str, FeatureConfig] = Field(default_factory=dict)


@config_dataclass
class SplitConfig:
    """How events become train, eval and test.

    Attributes:
      protocol: ``leave_last`` (per person: last ``num_targets`` to test, those
        before to eval), ``user`` (disjoint people; the last ``target_fraction``
        of an eval or test person's events are targets) or ``time`` (global cuts:
        events after the cut are targets).
      num_targets: Targets per person under ``leave_last``.
      eval_fraction: Share of people (``user``) or of events (``time``) in eval.
      test_fraction: The same for test.
      target_fraction: Share of a person's events that are targets (``user``).
      seed: Of the assignment of people under ``user``.
    """

    protocol: Literal["leave_last", "user", "time"] = "leave_last"
    num_targets: int = Field(1, ge=1)
    eval_fraction: float = Field(0.1, gt=0.0, lt=0.5)
    test_fraction: float = Field(0.1, gt=0.0, lt=0.5)
    target_fraction: float = Field(0.2, gt=0.0, lt=1.0)
    seed: int = 1230


@config_dataclass
class DataConfig:
    """Everything that ExampleGen needs to know.

    Attributes:
      interactions: The interaction log.
      items: The item catalogue; without it the catalogue is what train holds.
      users: People's profiles.
      min_item_interactions: Items with fewer events are dropped (first).
      min_user_interactions: People with fewer remaining events are dropped.
      drop_duplicates: Drop repeated (user, item, timestamp) rows.
      split: The split protocol.
      max_bad_row_fraction: A larger share of bad rows fails the run.
      num_shards: Files per split; also the number of user-hash buckets.
    """

    interactions: InteractionsConfig
    items: ItemsConfig | None = None
    users: UsersConfig | None = None
    min_item_interactions: int = Field(1, ge=1)
    min_user_interactions: int = Field(3, ge=2)
    drop_duplicates: bool = True
    split: SplitConfig = SplitConfig()
    max_bad_row_fraction: float = Field(0.01, ge=0.0, le=1.0)
    num_shards: int = Field(1, ge=1, le=10_000)
