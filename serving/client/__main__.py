"""Prints the recommendations for one history.

python -m serving.client --history 50,181 -k 10 --titles
"""

import argparse
import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Sequence

from contract.features import TITLE
from contract.requests import RequestOptions
from contract.signatures import DEFAULT_DIVERSITY, DEFAULT_K, NO_INTEREST, interest_number
from serving.client.categories import UnknownCategoryWarning
from serving.client.client import DEFAULT_URL, Client, Recommendation
from serving.config import DEFAULT_MODEL_NAME
from serving.transports import ClientError

# Any user of the machine could read a token among the arguments.
TOKEN_VARIABLE = "MIND_SERVING_TOKEN"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: prints the recommendations for one history."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client", description="Recommends items for one history."
    )
    parser.add_argument("--history", default="", help="item ids, oldest first, separated by commas")
    parser.add_argument(
        "--user_id",
        default="",
        help="person whose history the server keeps (--history_store), instead of --history",
    )
    parser.add_argument(
        "--history_times",
        default="",
        metavar="SECONDS",
        help="times of the history's items, in seconds since the epoch, separated by commas",
    )
    parser.add_argument("-k", type=int, default=DEFAULT_K, help="items wanted")
    parser.add_argument("--titles", action="store_true", help="print titles as well")
    parser.add_argument(
        "--exclude", default="", help="item ids that must not be returned, separated by commas"
    )
    parser.add_argument(
        "--include_history", action="store_true", help="allow items of the history to be returned"
    )
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="profile feature; may be repeated",
    )
    parser.add_argument(
        "--diversity",
        type=float,
        default=DEFAULT_DIVERSITY,
        help="from 0 (rank by score alone) to 1 (mix categories)",
    )
    parser.add_argument(
        "--allow_categories",
        default="",
        metavar="NAMES",
        help="items must have one of these, separated by commas",
    )
    parser.add_argument(
        "--deny_categories", default="", metavar="NAMES", help="items must have none of these"
    )
    for flag, what in (("allow", "items must have one of these values"),
                       ("deny", "items must have none of these values")):  # fmt: skip
        parser.add_argument(
            f"--{flag}",
            action="append",
            default=[],
            metavar="NAME=VALUES",
            help=f"{what} of a feature that index.filters names, separated by commas; may be"
            " repeated",
        )
    parser.add_argument(
        "--range",
        action="append",
        default=[],
        metavar="NAME=MIN..MAX",
        help="inclusive bounds of a numeric feature that index.filters names; either bound may be"
        " left out; may be repeated",
    )
    parser.add_argument(
        "--url", default=DEFAULT_URL, help="http://, https://, grpc:// or grpcs:// host:port"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL_NAME, help="model name")
    parser.add_argument(
        "--token_file",
        default="",
        metavar="FILE",
        help=f"file with the bearer token to send; without it, the variable {TOKEN_VARIABLE}, if"
        " set, holds the token itself",
    )
    parser.add_argument(
        "--ca_certificate",
        default="",
        metavar="FILE",
        help="PEM file of trusted certificate authorities; default: those of the system",
    )
    parser.add_argument("--version", type=int, help="version number; the newest by default")
    parser.add_argument(
        "--json", action="store_true", help="print JSON; interests are then numbered from 0"
    )
    args = parser.parse_args(argv)
    if not all("=" in pair for pair in args.profile):
        parser.error(f"--profile must be NAME=VALUE, got {args.profile}")
    history = _split(args.history)
    if args.user_id and (history or args.history_times):
        parser.error("give --history or --user_id, not both")
    for name in ("allow", "deny", "range"):
        if not all("=" in pair for pair in getattr(args, name)):
            parser.error(f"--{name} must be NAME=..., got {getattr(args, name)}")
    try:
        options = _options(args)
        with (
            Client(
                args.url,
                args.model,
                version=args.version,
                ca_certificate=args.ca_certificate,
                token_file=args.token_file,
                token=os.environ.get(TOKEN_VARIABLE, ""),
            ) as client,
            warnings.catch_warnings(),
        ):
            # A person has typed the name: an error is better than an answer that ignores the list.
            warnings.simplefilter("error", UnknownCategoryWarning)
            (found,) = (
                client.recommend_by_id([args.user_id], args.k, **options)
                if args.user_id
                else client.recommend([history], args.k, **options)
            )
            ids = [*history, *(item.item_id for item in found)]
            titles = dict(zip(ids, client.titles(ids), strict=True)) if args.titles else {}
    except (ClientError, UnknownCategoryWarning, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    if args.json:
        rows = [
            {**dataclasses.asdict(item), **({TITLE: titles[item.item_id]} if args.titles else {})}
            for item in found
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for item_id in history if args.titles else ():
        print(f"history  {item_id}  {titles[item_id] or '(unknown item)'}")
    header = f"{'rank':>4}  {'item':<16} {'score':>9}  interest"
    print(f"{header:<43} title" if args.titles else header)
    for rank, item in enumerate(found, start=1):
        line = f"{rank:>4}  {item.item_id:<16} {item.score:>9.4f}  {_interest(item):<10}"
        print(f"{line} {titles.get(item.item_id, '')}".rstrip())
    return 0


def _options(args: argparse.Namespace) -> RequestOptions:
    times = [int(text) for text in _split(args.history_times)]
    of_history = RequestOptions(history_times=[times]) if times else RequestOptions()
    return RequestOptions(
        **of_history,
        exclude=[_split(args.exclude)],
        exclude_history=not args.include_history,
        profiles=[dict(pair.split("=", 1) for pair in args.profile)],
        diversity=args.diversity,
        allow_categories=[_split(args.allow_categories)],
        deny_categories=[_split(args.deny_categories)],
        allow_values=[{name: _split(text) for name, text in _pairs(args.allow)}],
        deny_values=[{name: _split(text) for name, text in _pairs(args.deny)}],
        ranges=[{name: _range(name, text) for name, text in _pairs(args.range)}],
    )


def _pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (text.partition("=") for text in texts)]


def _range(name: str, text: str) -> tuple[float | None, float | None]:
    least, dots, most = text.partition("..")
    try:
        if not dots:
            raise ValueError
        return (float(least) if least else None, float(most) if most else None)
    except ValueError:
        raise ValueError(
            f"--range {name}={text}: expected MIN..MAX, such as 5..20, 5.. or ..20"
        ) from None


def _interest(item: Recommendation) -> str:
    if item.interest == NO_INTEREST:
        return "popular"
    return str(interest_number(item.interest))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    sys.exit(main())
