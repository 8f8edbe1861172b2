"""Compiles the pipeline of ``local_runner.py`` for Kubeflow, and submits it.

  python kubeflow_runner.py --image REGISTRY/NAME@sha256:...          compile
  python kubeflow_runner.py --image ... --submit --host http://...    and run
  python kubeflow_runner.py --image ... --submit --host http://... \
      --recurring "0 0 3 * * *" --param 'span=[[CurrentTime.20060102]]'

Compiling needs no network. The file runs on Kubeflow Pipelines 2 (``--target
kfp``) or Vertex AI (``--target vertex``); docs/kubeflow.md says more.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from pipeline.flags import DEFAULT_CONFIG, add_config_flags

EXIT_FAILED = 1
EXIT_USAGE = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_flags(parser)
    parser.add_argument("--image", required=True, help="image of all steps, REGISTRY/NAME@DIGEST")
    parser.add_argument("--target", choices=["kfp", "vertex"], default="kfp")
    parser.add_argument(
        "--pipeline_root", default="", help="root of all artifacts: s3://, gs:// or minio://"
    )
    parser.add_argument("--output", help="YAML file to write (default: NAME.yaml)")

    submit = parser.add_argument_group("submitting")
    submit.add_argument("--submit", action="store_true", help="upload the compiled file and run it")
    submit.add_argument("--host", help="URL of the Kubeflow Pipelines API (default: in-cluster)")
    submit.add_argument("--namespace", help="namespace of the run, on a multi-user installation")
    submit.add_argument("--experiment", default="Default")
    submit.add_argument("--run_name", default="", help="default: NAME and the time")
    submit.add_argument("--service_account", help="Kubernetes service account of the steps")
    submit.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="parameter of the run"
    )
    submit.add_argument("--token_file", help="file with a bearer token (default: $KFP_TOKEN)")
    submit.add_argument("--ca_cert", help="certificate authority of the host")
    submit.add_argument("--recurring", metavar="CRON", help="schedule: six fields, seconds first")
    submit.add_argument("--watch", action="store_true", help="wait for the run to end")
    submit.add_argument("--watch_timeout", type=int, default=24 * 3600, metavar="SECONDS")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compiles and submits the pipeline; returns the exit code."""
    flags = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import model  # noqa: F401  (selects Keras 2 before TFX imports TensorFlow)
    from pipeline import config as config_lib
    from pipeline.kubeflow import spec as spec_lib
    from pipeline.kubeflow import submit as submit_lib

    if flags.submit and flags.target != "kfp":
        print(
            "--submit: expected --target kfp; submit the file to Vertex AI with its own tools.",
            file=sys.stderr,
        )
        return EXIT_USAGE
    try:
        if flags.submit:
            submit_lib.check_image(flags.image)
        config = config_lib.load(flags.config or os.path.relpath(DEFAULT_CONFIG), flags.overrides)
        from pipeline.kubeflow.compile import compile_pipeline

        compiled = compile_pipeline(config, flags.image, flags.target, flags.pipeline_root)
        # Checked before the file is written, so that a wrong --param leaves nothing behind.
        values = spec_lib.parse_parameters(spec_lib.parse(compiled.to_yaml()), flags.param)
        output = compiled.write(flags.output or f"{config.name}.yaml")
    except (config_lib.ConfigError, spec_lib.SpecError, submit_lib.SubmitError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    print(f"Compiled {config.name!r} for {flags.target} to {output}")
    if not flags.submit:
        return 0
    try:
        return submit_lib.submit(
            output,
            config.name,
            values,
            submit_lib.Destination(
                host=flags.host,
                namespace=flags.namespace,
                token_file=flags.token_file,
                ca_cert=flags.ca_cert,
            ),
            submit_lib.RunOptions(
                experiment=flags.experiment,
                run_name=flags.run_name,
                service_account=flags.service_account,
                recurring=flags.recurring,
                watch=flags.watch,
                watch_timeout_seconds=flags.watch_timeout,
            ),
        )
    except submit_lib.SubmitError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
