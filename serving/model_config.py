"""Converts the release state into a configuration for stock TF Serving."""

from collections.abc import Collection

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from contract.release import CANARY, STABLE, ReleaseError, ReleaseState, stable_version


def model_server_config(
    state: ReleaseState, versions: Collection[int], *, name: str, base_path: str
) -> str:
    """Returns a ModelServerConfig that serves the stable version and the canary, with labels.

    Args:
      state: The release state.
      versions: The complete versions that exist.
      name: Name of the model in requests.
      base_path: Where TF Serving finds the versions.

    Returns:
      The text form, as ``--model_config_file`` expects it.

    Raises:
      ReleaseError: no version can be stable.
    """
    stable = stable_version(state, versions)
    if stable is None:
        raise ReleaseError("No version can be served; promote one or push another")
    labelled = {STABLE: stable}
    if state.trial in versions and state.trial != stable:
        assert state.trial is not None
        labelled[CANARY] = state.trial
    config = model_server_config_pb2.ModelServerConfig()
    entry = config.model_config_list.config.add(
        name=name, base_path=base_path, model_platform="tensorflow", version_labels=labelled
    )
    entry.model_version_policy.specific.versions.extend(sorted(labelled.values()))
    return text_format.MessageToString(config)
