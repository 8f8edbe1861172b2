"""Serving a pushed model: server, client and demo page."""

import os

# A server gives its memory back when it unloads a version. The pool of tensors that ``model``
# chooses for training would keep it, and requests are not answered faster with it.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "false")

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

# TensorFlow writes values of requests to its own log unescaped, line breaks included. Anyone with
# access to that log could read them, and a client could forge log lines. The level is therefore set
# here and is not a default that the environment can override. Failures still reach the server's
# log, as exceptions.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# gRPC logs every failed TLS handshake, and a client can cause any number of them.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
