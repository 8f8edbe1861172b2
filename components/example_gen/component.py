"""InteractionExampleGen: turns interaction logs into one sequence per person."""

from typing import ClassVar

from tfx import types
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.example_gen import executor
from components.example_gen.config import DataConfig
from contract.config_types import to_json


class InteractionExampleGenSpec(ComponentSpec):
    """Specification of ``InteractionExampleGen``."""

    PARAMETERS: ClassVar = {
        executor.DATA_CONFIG_KEY: ExecutionParameter(type=str),
        executor.HISTORY_LENGTH_KEY: ExecutionParameter(type=int),
        executor.WITH_REST_KEY: ExecutionParameter(type=int),
        executor.SPAN_KEY: ExecutionParameter(type=str),
        executor.BAD_ROWS_DIR_KEY: ExecutionParameter(type=str),
        executor.SPAN_STORE_KEY: ExecutionParameter(type=str),
        executor.READING_DIGEST_KEY: ExecutionParameter(type=str),
        "input_fingerprint": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {}
    OUTPUTS: ClassVar = {executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples)}


class InteractionExampleGen(BaseBeamComponent):
    """Reads interaction logs, items and profiles, and writes examples.

    It has no inputs. Output: ``examples`` (Examples) with the splits train, eval, test
    and catalog, and also rest if ``with_rest`` is set. The root directory of the output
    contains ``ingest_report.json``. ``docs/data.md`` describes the examples and the report.
    """

    SPEC_CLASS = InteractionExampleGenSpec
    EXECUTOR_SPEC = BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        data_config: DataConfig,
        history_length: int,
        bad_rows_dir: str,
        span_store: str = "",
        span: str = "",
        input_fingerprint: str = "",
        reading_digest: str = "",
        source_digest: str = "",
        with_rest: bool = False,
    ):
        """Wires the component.

        Args:
          data_config: Files, columns, filters and split.
          history_length: The model's history length T, by which chunks of long
            sequences overlap.
          bad_rows_dir: Directory outside the artifact where unusable rows are kept,
            even if the run fails because of them.
          span_store: Directory outside the artifact where the parsed events of a
            window's spans are kept; needed only with ``data_config.window``.
          span: Replaces ``{SPAN}`` in file names; with a window it is the newest span.
          input_fingerprint: ``inputs.fingerprint`` of the input. The component does
            not read it; it is part of the cache key, so that changed files are read again.
          reading_digest: Digest of the code that reads a span's files. A span that was
            read by other code is read again.
          source_digest: Digest of the code behind this component, so that
            edited code misses the cache.
          with_rest: Also write the split rest, which has all events that train leaves
            out, for training on all events.
        """
        super().__init__(
            spec=InteractionExampleGenSpec(
                data_config=to_json(data_config),
                history_length=history_length,
                with_rest=int(with_rest),
                span=span,
                bad_rows_dir=bad_rows_dir,
                span_store=span_store,
                reading_digest=reading_digest,
                input_fingerprint=input_fingerprint,
                source_digest=source_digest,
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )
