"""Serves pushed models over TF Serving's REST and gRPC API.

    python -m serving.server --model_base_path output/serving_models/mind

See docs/server.md for the supported parts of the API.
"""

import logging
import os
import sys
from collections.abc import Sequence

from serving import logs, workers
from serving.command_line import parse_args


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    config = parse_args(sys.argv[1:] if argv is None else argv)
    if config.workers > 1:
        logs.configure(with_content=config.log_request_content)
        return workers.run(config)
    # Imported here, because it imports TensorFlow: mistakes on the command line are reported at
    # once, and the supervisor of workers does not need TensorFlow.
    from serving import model_server

    logs.configure(with_content=config.log_request_content)
    return model_server.run(config)


def run() -> None:
    """Runs ``main`` and ends the process at once.

    Everything is closed by then. What remains is TensorFlow's own clean-up, which takes longer than
    stopping the server.
    """
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
