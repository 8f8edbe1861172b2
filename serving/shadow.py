r"""Sends a server's sampled requests to a candidate, and compares it with the served version.

Reads the newest requests that a server sampled (--request_log_sample) and sends them to both
versions on this machine. Prints how far their answers agree, how long they took, and how the
requests differ from the data that the candidate was trained on.

Example:
  python -m serving.shadow --requests samples \
      --served output/serving_models/mind/1795704432 \
      --candidate output/serving_models/mind/1795706000 --min_overlap 0.3

Exit codes: 0 done; 1 the mean overlap is below --min_overlap; 2 wrong usage, or the requests or a
version cannot be read
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from contract import manifest
from contract.config_types import strict_json
from serving.errors import ServingError
from serving.replay import Comparison, LoadedVersion, Pair, compare, least_alike, replay
from serving.request_sample import RequestSample, SampleError, read_samples
from serving.skew import Skew, read_trained, skew

EXIT_BELOW = 1
EXIT_USAGE = 2

_NUM_SHOWN = 5  # requests, and items of a list


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.shadow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--requests", type=Path, required=True, metavar="DIR", help="a server's request_log_dir"
    )
    version: dict[str, Any] = {"type": Path, "required": True, "metavar": "VERSION_DIR"}
    parser.add_argument("--served", **version, help="directory of the served version")
    parser.add_argument("--candidate", **version, help="directory of the candidate version")
    parser.add_argument(
        "--model", default="", help="model whose requests are used, if the server has several"
    )
    parser.add_argument(
        "--limit", type=_positive, default=1000, help="most requests to use (default: %(default)s)"
    )
    parser.add_argument(
        "--examples",
        metavar="DIR",
        help="split of raw examples to compare the requests with (default: the one that the "
        "candidate's manifest names, if it is there)",
    )
    parser.add_argument(
        "--min_overlap", type=float, metavar="X", help="exit with 1 if the mean overlap is below"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compares the versions and prints the result; returns the exit code."""
    flags = _parser().parse_args(argv)
    versions: list[LoadedVersion] = []
    try:
        samples, num_damaged = read_samples(flags.requests, flags.limit, flags.model)
        facts = _manifest_of(flags.candidate)
        examples, note = _example_files(flags.examples, facts)
        max_history = facts.get(manifest.CONFIG, {}).get("model", {}).get("history_length")
        for path in (flags.served, flags.candidate):
            versions.append(LoadedVersion(path))
        served, candidate = versions
        pairs = replay(samples, served, candidate)
        found = compare(pairs)
        differences = skew(samples, read_trained(candidate, examples, max_history))
        _print_requests(samples, num_damaged, served, candidate)
        _print_comparison(found)
        _print_least_alike(least_alike(pairs, _NUM_SHOWN), served, candidate)
        _print_skew(differences, note)
        if flags.json:
            figures = {
                "comparison": dataclasses.asdict(found),
                "skew": dataclasses.asdict(differences),
            }
            flags.json.write_text(strict_json(figures, indent=2) + "\n")
    except (SampleError, ServingError, OSError) as e:
        print(e, file=sys.stderr)
        return EXIT_USAGE
    finally:
        for version in versions:
            version.close()
    if flags.min_overlap is not None and found.overlap < flags.min_overlap:
        print(f"\nThe mean overlap, {found.overlap:.3f}, is below {flags.min_overlap:g}.")
        return EXIT_BELOW
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of 1 or more, got {text}")
    return number


def _example_files(directory: str | None, facts: Mapping[str, Any]) -> tuple[list[str], str]:
    """Returns the files of examples, and why there are none.

    Raises:
      SampleError: the named directory contains no examples.
    """
    named = directory or facts.get(manifest.EXAMPLES)
    files = [str(path) for path in tf.io.gfile.glob(f"{named}/*.gz")] if named else []
    if directory and not files:
        raise SampleError(
            f"--examples: expected TFRecord files (*.gz) of one split, such as Split-eval, in "
            f"{directory}; there are none"
        )
    where = f"the examples in {named}, which it names, are not there" if named else "it names none"
    note = "" if files else f"History lengths and inputs in training are unknown: {where}."
    return files, note


def _manifest_of(version: Path) -> dict[str, Any]:
    """Returns the manifest; empty if there is none, since other tools also write versions."""
    try:
        return manifest.from_json((version / manifest.MANIFEST_PATH).read_text())
    except (OSError, ValueError):
        return {}


def _print_requests(
    samples: Sequence[RequestSample],
    num_damaged: int,
    served: LoadedVersion,
    candidate: LoadedVersion,
) -> None:
    print(
        f"Requests   {len(samples):,} of {samples[-1].model}, from {samples[0].time} to "
        f"{samples[-1].time}"
    )
    if num_damaged:
        print(f"           {num_damaged:,} lines could not be read and are left out")
    print(f"Served     {served.path}")
    print(f"Candidate  {candidate.path}")


def _print_comparison(found: Comparison) -> None:
    quantiles = "   ".join(f"{name} {v:.3f}" for name, v in found.overlap_quantiles.items())
    print(f"\nOverlap    mean {found.overlap:.3f}   {quantiles}   ({found.compared:,} requests)")
    print(f"           {found.both_empty:.1%} got no item from either version\n")
    served, candidate = found.served, found.candidate
    print(f"{'Requests that':16}      served   candidate")
    for name, one, other in (
        ("got no item", f"{served.empty:.1%}", f"{candidate.empty:.1%}"),
        ("were refused", f"{served.failed:.1%}", f"{candidate.failed:.1%}"),
        ("took (p50)", f"{served.p50_ms:.2f} ms", f"{candidate.p50_ms:.2f} ms"),
        ("took (p99)", f"{served.p99_ms:.2f} ms", f"{candidate.p99_ms:.2f} ms"),
    ):
        print(f"{name:16}{one:>12}{other:>12}")
    for label, figures in (("served version", served), ("new version", candidate)):
        if figures.first_error:
            print(f"The {label} refused requests, the first of them with: {figures.first_error}")


def _print_least_alike(
    pairs: Sequence[Pair], served: LoadedVersion, candidate: LoadedVersion
) -> None:
    print("\nLeast alike")
    for number, pair in enumerate(pairs, 1):
        history = pair.sample.history
        asked = _shown(candidate.titles(history[-_NUM_SHOWN:])) if history else "no history"
        more = f" and {len(history) - _NUM_SHOWN} before" if len(history) > _NUM_SHOWN else ""
        print(f"{number}. overlap {pair.overlap:.3f}, after {asked}{more}")
        for label, version, items, others in (
            ("served", served, pair.served.items, pair.candidate.items),
            ("new", candidate, pair.candidate.items, pair.served.items),
        ):
            own = [item for item in items if item not in others]
            more = f" and {len(own) - _NUM_SHOWN} more" if len(own) > _NUM_SHOWN else ""
            print(f"   only {label:6}  {_shown(version.titles(own[:_NUM_SHOWN]))}{more}")


def _print_skew(found: Skew, note: str) -> None:
    print(f"\n{'Requests and training':34}{'training':>10}{'requests':>10}{'divergence':>12}")
    trained, asked = found.trained_lengths, found.asked_lengths
    rows = [
        ("items that the model does not know", "", _percent(found.unknown_items), ""),
        ("requests without a known item", "", _percent(found.cold), ""),
        (
            "history length, median",
            _number(trained and trained[0]),
            _number(asked[0]),
            _divergence(found.length_divergence),
        ),
        (
            "history length, 90th percentile",
            _number(trained and trained[1]),
            _number(asked[1]),
            "",
        ),
        (
            "items of the popular buckets",
            _percent(_upper_half(found.trained_popularity)),
            _percent(_upper_half(found.asked_popularity)),
            _divergence(found.popularity_divergence),
        ),
    ]
    for name, (of_examples, of_requests) in found.inputs.items():
        rows.append((f"{name} given", _percent(of_examples), _percent(of_requests), ""))
    for label, *cells in rows:
        print(f"{label:34}{cells[0]:>10}{cells[1]:>10}{cells[2]:>12}")
    if note:
        print(note)
    print("Stands out:" if found.findings else "Nothing stands out.")
    for finding in found.findings:
        print(f"- {finding}")


def _shown(texts: Sequence[str]) -> str:
    text = " | ".join(texts) or "nothing"
    return text.encode(errors="replace").decode()  # ids may not be UTF-8


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _divergence(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _upper_half(shares: Sequence[float] | None) -> float | None:
    return None if shares is None else sum(shares[: len(shares) // 2])


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")  # its messages about loaders are for developers
    sys.exit(main())
