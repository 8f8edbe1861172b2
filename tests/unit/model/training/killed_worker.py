"""A training that kills its own process after a given step."""

import dataclasses
import json
import os
import signal
import sys

import model  # noqa: F401  (selects Keras 2)
from model.network.mind import MindModel
from model.training.loop import Progress, fit
from tests.unit.model.conftest import make_toy_data
from tests.unit.model.training.test_loop import MODEL, TRAINING


def main(directory: str, step: str, changes: str) -> None:
    config = dataclasses.replace(TRAINING, **json.loads(changes))
    data = make_toy_data()

    def kill(progress: Progress) -> None:
        if progress.step >= int(step):
            # Nothing of Python runs any more: no exception, no exit handler, no flush.
            os.kill(os.getpid(), signal.SIGKILL)

    mind = MindModel(MODEL, config, data.catalogue)
    validation = data.validation(MODEL.history_length)
    fit(mind, data.dataset(), validation, config, directory, on_progress=kill)


if __name__ == "__main__":
    main(*sys.argv[1:])
