"""TFX's Pusher with an atomic push."""

import os
from typing import Any

from absl import logging
from tfx import types
from tfx import v1 as tfx
from tfx.components.pusher import executor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from contract.release import NOT_PUSHED_BECAUSE, WITHDRAWN_VERSION
from retrieval.push import WithdrawnError, push


class Executor(executor.Executor):
    """Executor of ``AtomicPusher``; it treats blessings and properties as TFX's Pusher does."""

    def Do(  # TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if every blessing allows it.

        Unlike TFX's Pusher, it does not keep a second copy of the model in the artifact, because
        the pushed version already archives it.

        A model that was pushed before and then withdrawn is not pushed again; the artifact's
        custom properties say so.

        Raises:
          NotImplementedError: if the destination is not a file system.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = tfx.proto.PushDestination()
        proto_utils.json_to_proto(
            exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination
        )
        kind = destination.WhichOneof("destination")
        if kind != "filesystem":
            raise NotImplementedError(
                f"AtomicPusher pushes to a file system only; the destination is {kind!r}. Set "
                "push_destination.filesystem.base_directory."
            )
        base_directory = destination.filesystem.base_directory
        try:
            version = push(self.GetModelPath(input_dict), base_directory)
        except WithdrawnError as e:
            # A roll-back is not a fault of this run, so the run ends as if the model had not been
            # blessed.
            logging.warning("Not pushed: %s", e)
            self._MarkNotPushed(pushed)
            pushed.set_string_custom_property(WITHDRAWN_VERSION, e.version)
            pushed.set_string_custom_property(NOT_PUSHED_BECAUSE, str(e))
            return
        self._MarkPushed(
            pushed,
            pushed_destination=os.path.join(base_directory, version),
            pushed_version=version,
        )
        logging.info("Pushed version %s to %s", version, base_directory)
