"""LastPushedModel: provides the model in service as the Evaluator's baseline."""

import os

from absl import logging
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model
from tfx.utils import io_utils, path_utils

from retrieval.versions import complete_versions, newest_version


@component
def LastPushedModel(
    fallback_model: InputArtifact[Model],
    model: OutputArtifact[Model],
    push_destination: Parameter[str],
    version: Parameter[str],
    run_key: Parameter[str],
    source_digest: Parameter[str],
) -> None:
    """Copies a pushed version, or the fallback model, to its output.

    It takes the place of TFX's Resolver, which open-source Kubeflow Pipelines does not support.
    It takes the model in service rather than the last one that a run has blessed.

    Args:
      fallback_model: The input, a Model to copy as long as nothing has been pushed.
      model: The output, a Model. Its custom property ``version`` is the name of the pushed
        version; it is empty if the output is the fallback.
      push_destination: Directory with one directory per version.
      version: The version to copy. If empty, it is the version in service that another run
        has pushed (``retrieval.versions.newest_version``) when this component runs.
      run_key: Key of this run, whose own versions are ignored.
      source_digest: Digest of the code behind this component, so that edited code
        misses the cache.

    Raises:
      ValueError: if the given version does not exist or is not complete.
      ReleaseError: if the release state is damaged or has a later format.
    """
    if not version:
        version = newest_version(push_destination, run_key)
    elif version not in (complete := complete_versions(push_destination)):
        raise ValueError(
            f"Baseline version {version!r} is not a complete version in {push_destination}; "
            f"expected one of {complete}. Name one of them, or none for the newest."
        )
    if version:
        source = os.path.join(push_destination, version)
    else:
        source = path_utils.serving_model_path(fallback_model.uri)
    io_utils.copy_dir(source, path_utils.serving_model_dir(model.uri))
    model.set_string_custom_property("version", version)
    logging.info("Baseline: %s", source)
