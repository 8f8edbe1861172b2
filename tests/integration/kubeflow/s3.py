"""An S3 server on loopback, for tests; needs the ``s3`` extra and moto."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_SERVER = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
BUCKET = "bucket"


@contextlib.contextmanager
def server() -> Iterator[dict[str, str]]:
    """Starts the server with an empty bucket; gives the environment of its clients.

    Clients have to be other processes: TensorFlow's S3 file system holds Python's lock
    while it waits, and aborts when its process ends in the ordinary way.
    """
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PYTHONPATH": str(_ROOT),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "S3_ENDPOINT": endpoint,
        "AWS_ENDPOINT_URL": endpoint,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(port=port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ).create_bucket(Bucket=BUCKET)
        yield environment
    finally:
        process.terminate()
        process.wait()
