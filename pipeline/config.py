"""The whole run's configuration: YAML, flags and overrides to one object."""

import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import Field

from components.example_gen.config import DataConfig
from components.index_builder.config import IndexConfig
from model.config import ModelConfig, TrainingConfig
from model.config_types import config_dataclass, from_dict
from model.presets import PRESETS


class ConfigError(ValueError):
    """A configuration that cannot be used; its message is for the user."""


@config_dataclass
class EvaluationConfig:
    """What a model must reach to be blessed.

    Attributes:
      primary_metric: Metric of both thresholds.
      min_lift_over_popularity: The candidate's metric minus popularity's, on
        the same people, must be above this.
      max_drop_from_pushed: How far below the last pushed model the metric may
        be and still be blessed.
      exclude_history: Rank without the items that the person already has.
      cutoffs: N of Recall@N, HitRate@N and NDCG@N.
      item_knn: Also evaluate an item-kNN baseline.
      confidence_intervals: Bootstrap them.
    """

    primary_metric: typing.Literal["recall", "ndcg", "hit_rate"] = "recall"
    primary_cutoff: int = Field(50, ge=1)
    min_lift_over_popularity: float = 0.0
    max_drop_from_pushed: float = Field(0.01, ge=0.0)
    exclude_history: bool = True
    cutoffs: tuple[int, ...] = Field((10, 20, 50), min_length=1)
    item_knn: bool = True
    confidence_intervals: bool = True


@config_dataclass
class PushConfig:
    """Where a blessed model goes.

    Attributes:
      destination: Directory that the server watches; empty is
        ``OUTPUT_DIR/serving_models/NAME``.
    """

    destination: str = ""


@config_dataclass
class RunConfig:
    """One run of the pipeline.

    Attributes:
      name: Pipeline and served model name.
      output_dir: Root of everything a local run writes.
      schema: Path of a curated schema (text proto); empty infers one.
      preset: ``strong`` or ``paper``: defaults of ``model`` and ``training``.
      data: Files, columns, filters, split.
      model: The network.
      training: Loss, optimiser, schedule.
      evaluation: Thresholds of the blessing.
      index: How the catalogue is searched.
      push: Where a blessed model goes.
    """

    name: str = Field("mind", pattern=r"^[a-z0-9][a-z0-9-]*$")
    output_dir: str = "output"
    schema: str = ""
    preset: typing.Literal["strong", "paper"] = "strong"
    data: DataConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    index: IndexConfig = IndexConfig()
    push: PushConfig = PushConfig()
