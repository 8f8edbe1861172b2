"""Serving a pushed model: server, client and demo page."""

import os

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

# TensorFlow's own log repeats values of requests as they are, line breaks included: whoever
# sends them could read them there and forge lines. So this is set, and not a default that the
# environment could change. What fails reaches the server's log as an exception.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# gRPC writes a line for every TLS handshake that fails, as many as somebody cares to cause.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
