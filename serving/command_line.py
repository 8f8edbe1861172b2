"""The command line of the server: one flag per field of its configuration."""

import argparse
import dataclasses
from collections.abc import Sequence

import pydantic

from contract.config_types import from_dict, to_dict
from contract.redis_connection import RedisLocationError, check_location
from serving.config import BatchingConfig, ServerConfig
from serving.loopback import is_loopback


def parse_args(argv: Sequence[str]) -> ServerConfig:
    """Reads the command line: one flag per field of the configuration.

    Raises:
      SystemExit: if the flags do not make a valid configuration.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serving.server",
        description="Serves pushed models over TF Serving's REST and gRPC API.",
    )
    for cls, prefix in ((ServerConfig, ""), (BatchingConfig, "batching_")):
        descriptions = _descriptions(cls)
        defaults = to_dict(cls())
        for field in dataclasses.fields(cls):
            if field.name == "batching":
                continue
            kind = type(defaults[field.name])
            parser.add_argument(
                f"--{prefix}{field.name}",
                default=argparse.SUPPRESS,
                action=argparse.BooleanOptionalAction if kind is bool else "store",
                **(
                    {}
                    if kind is bool
                    else {"type": lambda s: s.split(","), "metavar": "NAME,..."}
                    if kind is list
                    else {"type": kind}
                ),
                help=f"{descriptions[field.name]} (default: {defaults[field.name]!r})".replace(
                    "%", "%%"
                ),
            )
    values = vars(parser.parse_args(argv))
    batching = {
        key.removeprefix("batching_"): values.pop(key)
        for key in [key for key in values if key.startswith("batching_")]
    }
    try:
        config = from_dict(ServerConfig, {**values, "batching": batching})
    except pydantic.ValidationError as e:
        problems = "; ".join(
            f"--{'_'.join(map(str, p['loc']))}: {p['msg']}, got {p['input']!r}" for p in e.errors()
        )
        parser.error(problems)
    if bool(config.model_base_path) == bool(config.model_config_file):
        parser.error("give either --model_base_path or --model_config_file")
    if bool(config.tls_certificate) != bool(config.tls_key):
        parser.error("--tls_certificate and --tls_key must be given together")
    if config.tls_client_ca and not config.tls_certificate:
        parser.error("--tls_client_ca needs --tls_certificate")
    if config.request_log_sample and not config.request_log_dir:
        parser.error("--request_log_sample needs --request_log_dir")
    if config.allow_reload and config.workers > 1:
        parser.error(
            "--allow_reload needs --workers 1: a reload would reach one worker only. Change the"
            " file of --model_config_file and restart the server"
        )
    is_guarded = config.live_catalogue_token_file or config.auth_token_file
    if config.live_catalogue and not is_guarded and not is_loopback(config.host):
        parser.error(
            "--live_catalogue on a host other than the loopback needs"
            " --live_catalogue_token_file or --auth_token_file: otherwise anyone who reaches the"
            " server could change what it recommends"
        )
    stores = {"--live_catalogue": config.live_catalogue, "--history_store": config.history_store}
    for flag, location in stores.items():
        try:
            check_location(location)
        except RedisLocationError as e:
            parser.error(f"{flag}: {e}")
    if config.history_store and not config.auth_token_file and not is_loopback(config.host):
        parser.error(
            "--history_store on a host other than the loopback needs --auth_token_file: otherwise"
            " anyone who reaches the server could ask for the recommendations of any person"
        )
    return config


def _descriptions(cls: type) -> dict[str, str]:
    """Returns the help texts of the fields of a configuration class, by name."""
    fields = pydantic.TypeAdapter(cls).json_schema()["properties"]
    return {name: field.get("description", "") for name, field in fields.items()}
