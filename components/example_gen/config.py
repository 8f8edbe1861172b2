"""Configuration of the data: files, columns, filters and split."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from components.example_gen.span_names import names_span
from contract.config_types import config_dataclass

# The feature that gives an item's categories unless the configuration names another one.
DEFAULT_CATEGORY_FEATURE = "category"


def _usable_name(name: str) -> str:
    if not name.isidentifier() or name == "id":
        raise ValueError(
            f"{name!r} cannot name a feature: expected letters, digits and underscores, "
            "and not 'id', which would collide with the id itself"
        )
    return name


FeatureName = Annotated[str, AfterValidator(_usable_name)]


@config_dataclass
class FeatureConfig:
    """One side feature of an item or profile feature of a person.

    Attributes:
      column: Its column in the file.
      kind: ``categorical`` (one embedding per value) or ``numeric`` (cut into
        quantile buckets, which are then treated as categorical values).
      separator: Splits one cell into several values; if empty, a cell is one value.
        Columns that contain lists (Parquet, JSON) need no separator.
      num_buckets: Number of quantile buckets of a numeric feature.
    """

    column: str
    kind: Literal["categorical", "numeric"] = "categorical"
    separator: str = ""
    num_buckets: int = Field(default=10, ge=2, le=1000)


@config_dataclass
class TableConfig:
    """Files of one table.

    Attributes:
      files: Paths or globs; compressed files such as ``.gz`` are decompressed. ``{SPAN}`` is
        replaced by the run's span, and ``{YYYY}``, ``{MM}`` and ``{DD}`` by the parts of its
        date; for ``{VERSION}`` the files with the highest number are read.
        ``package:DISTRIBUTION/PATH`` is a data file of an installed distribution.
      format: ``csv``, ``parquet`` or ``jsonl``; ``auto`` decides by the file name.
      delimiter: Delimiter of a CSV file; it may have several characters (``::``).
      quoting: Whether cells of a CSV file may be in double quotes and then contain
        delimiters and line breaks. Only for delimiters of one character.
      encoding: Character encoding of a CSV file.
      column_names: Column names of a CSV file that has no header line.
    """

    files: tuple[str, ...] = Field(min_length=1)
    format: Literal["auto", "csv", "parquet", "jsonl"] = "auto"
    delimiter: str = Field(default=",", min_length=1, max_length=8)
    quoting: bool = True
    encoding: str = "utf-8"
    column_names: tuple[str, ...] = ()


@config_dataclass
class InteractionsConfig(TableConfig):
    """The interaction log: one row per event.

    Attributes:
      user_column: Column of the person's id.
      item_column: Column of the item's id.
      timestamp_column: Column of the event's time.
      timestamp_unit: Unit of numeric times. ``iso`` parses ISO 8601 text; times without
        a zone are UTC. Parquet date and timestamp columns do not need a unit.
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
      title_column: Column with the titles that people see; empty if there is none.
      features: Side features by name.
      category_feature: The categorical feature whose values are an item's
        categories, by which requests diversify and filter. If empty, it is the
        feature named ``category``, if there is one.
    """

    id_column: str = "item_id"
    title_column: str = ""
    features: dict[FeatureName, FeatureConfig] = Field(default_factory=dict)
    category_feature: str = ""

    def __post_init__(self) -> None:
        name = self.category_feature
        if name and (name not in self.features or self.features[name].kind != "categorical"):
            categorical = sorted(n for n, f in self.features.items() if f.kind == "categorical")
            raise ValueError(
                f"category_feature must name a categorical feature, one of {categorical}; got "
                f"{name!r}. Add it to `features`, or leave category_feature out"
            )

    @property
    def category(self) -> str:
        """The name of the feature that contains the categories; empty if there is none."""
        if self.category_feature:
            return self.category_feature
        default = self.features.get(DEFAULT_CATEGORY_FEATURE)
        return DEFAULT_CATEGORY_FEATURE if default and default.kind == "categorical" else ""


@config_dataclass
class UsersConfig(TableConfig):
    """People's profiles: one row per person.

    Attributes:
      id_column: Column of the person's id.
      features: Profile features by name.
    """

    id_column: str = "user_id"
    features: dict[FeatureName, FeatureConfig] = Field(default_factory=dict)


@config_dataclass
class SplitConfig:
    """How events are divided into train, eval and test.

    Attributes:
      protocol: ``leave_last`` (for each person the last ``num_targets`` events go to
        test and those before them to eval), ``user`` (disjoint people; the last
        ``target_fraction`` of an eval or test person's events are targets), ``time``
        (global cuts in time; events after a cut are targets) or ``newest_span`` (events
        of the window's newest span are targets: those of some people for eval, those of
        the others for test). ``docs/data.md`` defines each protocol exactly.
      num_targets: Number of targets per person with ``leave_last``.
      eval_fraction: Share of people (``user``, ``newest_span``) or of events
        (``time``) in eval.
      test_fraction: The same for test; with ``newest_span`` all other people are in test.
      target_fraction: Share of a person's events that are targets (``user``).
      seed: Seed for assigning people with ``user`` and ``newest_span``.
    """

    protocol: Literal["leave_last", "user", "time", "newest_span"] = "leave_last"
    num_targets: int = Field(default=1, ge=1)
    eval_fraction: float = Field(default=0.1, gt=0.0, lt=0.5)
    test_fraction: float = Field(default=0.1, gt=0.0, lt=0.5)
    target_fraction: float = Field(default=0.2, gt=0.0, lt=1.0)
    seed: int = 1230


@config_dataclass
class WindowConfig:
    """How far back in the log a run reads.

    Attributes:
      spans: Number of spans that a run reads, including the newest.
      gaps: What happens if a span in the window has no files: ``fail`` stops the
        run, ``count`` reports the span and reads the others.
    """

    spans: int = Field(ge=2, le=100_000)
    gaps: Literal["fail", "count"] = "fail"


@config_dataclass
class DataConfig:
    """Everything that ExampleGen needs to know.

    Attributes:
      interactions: The interaction log.
      items: The item catalogue; without it the catalogue consists of the items in train.
      users: People's profiles.
      window: Read a window of spans of the log instead of all its files. The parsed events
        of each span are kept, and later runs read only new and changed files.
      license: License of the data, for the model card; it has no other effect.
      min_item_interactions: Items with fewer events are dropped. This is the first filter.
      min_user_interactions: People with fewer remaining events are dropped.
      max_user_interactions: Of people with more events, only this many of the newest are kept.
        Otherwise a program that logs as one person could weigh as much as thousands.
      drop_duplicates: Drop repeated (user, item, timestamp) rows.
      split: The split protocol.
      max_bad_row_fraction: Largest share of bad rows with which the run continues.
      max_sequence_length: Length of the longest sequence in one row. Longer train sequences
        are cut into overlapping chunks; of longer histories, the newest part is kept.
      forgotten: Path of a list of people and items that are never read, which
        ``python -m pipeline.forget`` writes. If empty, local runs use the list in their
        output directory, if there is one; on Kubeflow there is none.
      num_shards: Number of files per split, and of hash buckets of people: one bucket at a
        time is sorted in memory. 0 gives one per 16 MiB of input.
    """

    interactions: InteractionsConfig
    items: ItemsConfig | None = None
    users: UsersConfig | None = None
    window: WindowConfig | None = None
    license: str = ""
    min_item_interactions: int = Field(default=1, ge=1)
    min_user_interactions: int = Field(default=3, ge=2)
    max_user_interactions: int = Field(default=10_000, ge=2)
    drop_duplicates: bool = True
    split: SplitConfig = SplitConfig()
    max_bad_row_fraction: float = Field(default=0.01, ge=0.0, le=1.0)
    max_sequence_length: int = Field(default=1_000, ge=2)
    forgotten: str = ""
    num_shards: int = Field(default=0, ge=0, le=10_000)

    def __post_init__(self) -> None:
        if self.max_user_interactions < self.min_user_interactions:
            raise ValueError(
                f"max_user_interactions ({self.max_user_interactions}) is below "
                f"min_user_interactions ({self.min_user_interactions}): nobody would be left"
            )
        without = [path for path in self.interactions.files if not names_span(path)]
        if self.window is not None and without:
            raise ValueError(
                "window needs {SPAN} in every path of interactions.files, or {YYYY}, {MM} and "
                f"{{DD}}; {without[0]!r} has none"
            )
        if self.split.protocol == "newest_span" and self.window is None:
            raise ValueError(
                "split.protocol newest_span needs data.window, which says where the spans begin"
            )
