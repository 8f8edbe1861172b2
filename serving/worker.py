"""One process of a server with several; ``serving.workers`` starts it.

Its standard input has one line of JSON with its orders. After that, the input stays open without
data until the supervisor is gone.
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
    # Identify workers by number and not by process, which is prometheus_client's default: a
    # restarted worker then continues its counters, and the number of files does not grow.
    prometheus_client.values.ValueClass = MultiProcessValue(lambda: number)
    worker = Worker(
        number=number,
        board=Board(folder / BOARD_FILE, config.workers),
        folder=folder,
        lifeline=sys.stdin.fileno(),
        listens_first=orders.listens_first,
    )
    # Imported here, because the metrics must be created after the line above.
    from serving import model_server

    logs.configure(with_content=config.log_request_content, worker=number)
    return CANNOT_SERVE if model_server.run(config, worker) else 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)
