"""TLS settings of both ports, including which clients they admit."""

import ssl
from pathlib import Path

import grpc

from serving.config import ServerConfig


def rest_context(config: ServerConfig) -> ssl.SSLContext | None:
    """Returns the TLS context of the REST port; None if the configuration has no certificate.

    Raises:
      OSError: a file cannot be read.
    """
    if not config.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Authenticated encryption only, like gRPC's own default; TLS 1.3 has no other suites.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.load_cert_chain(config.tls_certificate, config.tls_key)
    if config.tls_client_ca:
        context.load_verify_locations(config.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def grpc_credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """Returns the TLS credentials of the gRPC port; None if the configuration has no certificate.

    Raises:
      OSError: a file cannot be read.
    """
    if not config.tls_certificate:
        return None
    return grpc.ssl_server_credentials(
        [(Path(config.tls_key).read_bytes(), Path(config.tls_certificate).read_bytes())],
        Path(config.tls_client_ca).read_bytes() if config.tls_client_ca else None,
        require_client_auth=bool(config.tls_client_ca),
    )
