"""One of the processes of a server with several; ``serving.workers`` starts it.

Its standard input is one line of JSON that says what to do. After it nothing comes but the
end, when the supervisor is gone.
"""

import logging
import os
import sys
from pathlib import Path

import prometheus_client
from prometheus_client.values import MultiProcessValue

from contract.config_types import from_json
from serving import logs
from serving.worker_board import Board, Worker
from serving.workers import BOARD_FILE, CANNOT_SERVE, Orders


def main() -> int:
    """Reads the orders and serves."""
    orders = from_json(Orders, sys.stdin.buffer.readline().decode())
    config, number, folder = orders.config, orders.worker, Path(orders.folder)
    # By number and not by process, as prometheus_client has it: a worker that is started again
    # goes on counting where it was, and files do not become more.
    prometheus_client.values.ValueClass = MultiProcessValue(lambda: number)
    worker = Worker(
        number=number,
        board=Board(folder / BOARD_FILE, config.workers),
        folder=folder,
        lifeline=sys.stdin.fileno(),
        listens_first=orders.listens_first,
    )
    # Here, because metrics are made as the line above says.
    from serving import model_server

    logs.configure(with_content=config.log_request_content, worker=number)
    return CANNOT_SERVE if model_server.run(config, worker) else 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)
