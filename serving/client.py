"""Client of a pushed model: this project's server or TF Serving itself.

python -m serving.client --history 50,181 -k 10 --titles

with Client("http://127.0.0.1:8501") as client:
    for recommendation in client.recommend([["50", "181"]], k=10)[0]:
        ...
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from serving.transports import (
    AsyncRestTransport,
    AsyncTransport,
    ClientError,
    Outputs,
    RestTransport,
    Signatures,
    Target,
    Transport,
)

# Signatures of the bundle and what they are called with (docs/serving.md).
_RECOMMEND = "serving_default"
_TITLES = "item_titles"
_DIVERSITY = "diversity"
_CATEGORY_LISTS = ("allow_categories", "deny_categories")
_PROFILE_PREFIX = "user_"
_TIMES = "history_time"
_NOTHING = ""  # padding of a history, and an unknown profile value

_T = TypeVar("_T", str, int)

DEFAULT_URL = "http://127.0.0.1:8501"
DEFAULT_K = 10


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
      item_id: The catalogue's id.
      score: Largest dot product with an interest; the item's count in train
        if it is recommended for its popularity.
      interest: Which of the person's interests found it; -1 for popularity.
    """

    item_id: str
    score: float
    interest: int


class Client:
    """Synchronous client; may be shared by threads.

    Every input of the signature is always sent, since TF Serving's REST API
    knows no defaults. Which inputs there are is asked once per client.

    Args:
      url: ``http://``, ``https://``, ``grpc://`` or ``grpcs://`` host:port.
      model: Model name.
      options: Further fields of ``Target``: version, label, timeout_seconds,
        ca_certificate.
    """

    def __init__(self, url: str = DEFAULT_URL, model: str = "mind", **options: Any):
        self._transport = _transport(Target(url, model, **options))
        self._signatures: Signatures | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes connections."""
        self._transport.close()

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = DEFAULT_K,
        *,
        exclude: Sequence[Sequence[str]] = (),
        exclude_history: bool = True,
        history_times: Sequence[Sequence[int]] = (),
        profiles: Sequence[Mapping[str, str]] = (),
        diversity: float | Sequence[float] = 0.0,
        allow_categories: Sequence[Sequence[str]] = (),
        deny_categories: Sequence[Sequence[str]] = (),
        **options: Any,
    ) -> list[list[Recommendation]]:
        """Recommends items for people, in one request.

        Args:
          histories: Each person's item ids, oldest first; of any lengths.
          k: Items wanted per person.
          exclude: Each person's ids never to be returned; none if empty.
          exclude_history: Whether to leave out what is in the history.
          history_times: When each history's items were, in seconds since the epoch
            (0 where unknown); unknown if empty.
          profiles: Each person's profile features by name (without the
            ``user_`` prefix); unknown if empty.
          diversity: From 0 (by score alone) to 1, for all or each person: how
            much an item gains for every one before it of another category.
          allow_categories: Each person's categories of which an item must have
            one; all if empty.
          deny_categories: Each person's categories of which an item must have
            none.
          options: Further inputs of the signature, sent as they are.

        Returns:
          Each person's items, best first; fewer than ``k`` only where fewer
          exist.

        Raises:
          ClientError: the server refused, or cannot be reached.
          ValueError: the model has no such input, for example no categories.
        """
        if self._signatures is None:
            self._signatures = self._transport.signatures()
        wishes = _Wishes(
            exclude,
            exclude_history,
            history_times,
            profiles,
            diversity,
            allow_categories,
            deny_categories,
        )
        inputs = _recommend_inputs(self._signatures, histories, k, wishes, options)
        return _recommendations(self._transport.predict(_RECOMMEND, inputs))

    def titles(self, item_ids: Sequence[str]) -> list[str]:
        """Titles of items; empty where the catalogue has none."""
        return self.predict(_TITLES, {"items": list(item_ids)})["titles"].tolist()

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> Outputs:
        """Runs any signature.

        Args:
          signature: Its name, such as ``user_interests``.
          inputs: Arrays or nested lists by input name.

        Returns:
          Arrays by output name; strings are ``object`` arrays of ``str``.

        Raises:
          ClientError: the server refused, or cannot be reached.
        """
        return self._transport.predict(signature, inputs)


class AsyncClient:
    """Asynchronous client: ``Client``'s methods, awaited. Make it on its loop."""

    def __init__(self, url: str = DEFAULT_URL, model: str = "mind", **options: Any):
        self._transport = _async_transport(Target(url, model, **options))
        self._signatures: Signatures | None = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes connections."""
        await self._transport.close()

    async def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = DEFAULT_K,
        *,
        exclude: Sequence[Sequence[str]] = (),
        exclude_history: bool = True,
        history_times: Sequence[Sequence[int]] = (),
        profiles: Sequence[Mapping[str, str]] = (),
        diversity: float | Sequence[float] = 0.0,
        allow_categories: Sequence[Sequence[str]] = (),
        deny_categories: Sequence[Sequence[str]] = (),
        **options: Any,
    ) -> list[list[Recommendation]]:
        """See ``Client.recommend``."""
        if self._signatures is None:
            self._signatures = await self._transport.signatures()
        wishes = _Wishes(
            exclude,
            exclude_history,
            history_times,
            profiles,
            diversity,
            allow_categories,
            deny_categories,
        )
        inputs = _recommend_inputs(self._signatures, histories, k, wishes, options)
        return _recommendations(await self._transport.predict(_RECOMMEND, inputs))

    async def titles(self, item_ids: Sequence[str]) -> list[str]:
        """See ``Client.titles``."""
        outputs = await self.predict(_TITLES, {"items": list(item_ids)})
        return outputs["titles"].tolist()

    async def predict(self, signature: str, inputs: Mapping[str, Any]) -> Outputs:
        """See ``Client.predict``."""
        return await self._transport.predict(signature, inputs)


def _transport(target: Target) -> Transport:
    if target.url.startswith(("http://", "https://")):
        return RestTransport(target)
    if target.url.startswith(("grpc://", "grpcs://")):
        # Imported here: the stubs import TensorFlow, which takes seconds.
        from serving.grpc_transports import GrpcTransport

        return GrpcTransport(target)
    raise _bad_url(target.url)


def _async_transport(target: Target) -> AsyncTransport:
    if target.url.startswith(("http://", "https://")):
        return AsyncRestTransport(target)
    if target.url.startswith(("grpc://", "grpcs://")):
        from serving.grpc_transports import AsyncGrpcTransport

        return AsyncGrpcTransport(target)
    raise _bad_url(target.url)


def _bad_url(url: str) -> ValueError:
    return ValueError(
        f"url must start with http://, https://, grpc:// or grpcs://, got {url!r};"
        f" for example {DEFAULT_URL}"
    )


class _Wishes(NamedTuple):
    """What a request may say beside histories and k; see ``Client.recommend``."""

    exclude: Sequence[Sequence[str]]
    exclude_history: bool
    history_times: Sequence[Sequence[int]]
    profiles: Sequence[Mapping[str, str]]
    diversity: float | Sequence[float]
    allow_categories: Sequence[Sequence[str]]
    deny_categories: Sequence[Sequence[str]]


def _recommend_inputs(
    signatures: Signatures,
    histories: Sequence[Sequence[str]],
    k: int,
    wishes: _Wishes,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """All inputs of the signature that the server has."""
    if _RECOMMEND not in signatures:
        raise ClientError("NOT_FOUND", f"the model has no signature {_RECOMMEND!r}")
    for name in ("exclude", "history_times", "profiles", *_CATEGORY_LISTS):
        if len(rows := getattr(wishes, name)) not in (0, len(histories)):
            raise ValueError(
                f"{name} must have one entry per history ({len(histories)}) or none, got"
                f" {len(rows)}"
            )
    # No times at all, or one row of them per history.
    for times, history in zip(wishes.history_times, histories, strict=False):
        if len(times) != len(history):
            raise ValueError(
                f"history_times must have one time per item of the history ({len(history)}), got"
                f" {len(times)}"
            )
    known = signatures[_RECOMMEND].inputs
    nothing: Sequence[Sequence[str]] = [[]] * len(histories)
    inputs: dict[str, Any] = {
        "history": _padded(histories, _NOTHING),
        _TIMES: np.array(_padded(wishes.history_times or [[0]] * len(histories), 0), np.int64),
        "k": k,
        "exclude": _padded(wishes.exclude or nothing, _NOTHING),
        "exclude_history": wishes.exclude_history,
        _DIVERSITY: np.asarray(wishes.diversity, float).tolist(),
        **{name: _padded(getattr(wishes, name) or nothing, _NOTHING) for name in _CATEGORY_LISTS},
    }
    for name in known:
        if name.startswith(_PROFILE_PREFIX):
            feature = name.removeprefix(_PROFILE_PREFIX)
            inputs[name] = [profile.get(feature, _NOTHING) for profile in wishes.profiles] or [
                _NOTHING
            ] * len(histories)
    given = {_PROFILE_PREFIX + feature for profile in wishes.profiles for feature in profile}
    given |= {name for name in _CATEGORY_LISTS if any(getattr(wishes, name))}
    if wishes.history_times:
        given.add(_TIMES)
    if np.any(wishes.diversity):
        given.add(_DIVERSITY)
    unknown = sorted((given | set(options)) - known)
    if unknown:
        raise ValueError(
            f"the model has no inputs {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return {name: value for name, value in inputs.items() if name in known} | dict(options)


def _padded(rows: Sequence[Sequence[_T]], nothing: _T) -> list[list[_T]]:
    """Rows of equal length, at least 1: tensors are not ragged."""
    width = max((len(row) for row in rows), default=0) or 1
    return [list(row) + [nothing] * (width - len(row)) for row in rows]


def _recommendations(outputs: Outputs) -> list[list[Recommendation]]:
    columns = (outputs["item_ids"], outputs["scores"], outputs["interest_index"])
    return [
        [
            Recommendation(item, float(score), int(interest))
            for item, score, interest in zip(*row, strict=True)
            if item  # rows with fewer than k end in padding
        ]
        for row in zip(*(np.asarray(column).tolist() for column in columns), strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: prints the recommendations for one history."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client", description="Recommends items for one history."
    )
    parser.add_argument("--history", default="", help="item ids, oldest first, separated by commas")
    parser.add_argument(
        "--history_times",
        default="",
        metavar="SECONDS",
        help="when these were, in seconds since the epoch, separated by commas",
    )
    parser.add_argument("-k", type=int, default=DEFAULT_K, help="items wanted")
    parser.add_argument("--titles", action="store_true", help="also print titles")
    parser.add_argument("--exclude", default="", help="item ids never to be returned")
    parser.add_argument(
        "--include_history", action="store_true", help="also return items of the history"
    )
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a profile feature; may be repeated",
    )
    parser.add_argument(
        "--diversity", type=float, default=0.0, help="0 (by score alone) to 1: mix categories"
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
    parser.add_argument(
        "--url", default=DEFAULT_URL, help="http://, https://, grpc:// or grpcs:// host:port"
    )
    parser.add_argument("--model", default="mind", help="model name")
    parser.add_argument("--version", type=int, help="version number; the newest by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    if not all("=" in pair for pair in args.profile):
        parser.error(f"--profile must be NAME=VALUE, got {args.profile}")
    history, exclude = _split(args.history), _split(args.exclude)
    try:
        times = [int(text) for text in _split(args.history_times)]
        with Client(args.url, args.model, version=args.version) as client:
            (found,) = client.recommend(
                [history],
                args.k,
                exclude=[exclude],
                exclude_history=not args.include_history,
                history_times=[times] if times else [],
                profiles=[dict(pair.split("=", 1) for pair in args.profile)],
                diversity=args.diversity,
                allow_categories=[_split(args.allow_categories)],
                deny_categories=[_split(args.deny_categories)],
            )
            names = [*history, *(item.item_id for item in found)]
            titles = dict(zip(names, client.titles(names), strict=True)) if args.titles else {}
    except (ClientError, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    if args.json:
        rows = [dataclasses.asdict(item) for item in found]
        if args.titles:
            rows = [{**row, "title": titles[row["item_id"]]} for row in rows]
        print(json.dumps(rows, indent=2))
        return 0
    for item_id in history if args.titles else ():
        print(f"history  {item_id}  {titles[item_id] or '(unknown item)'}")
    header = f"{'rank':>4}  {'item':<16} {'score':>9}  interest"
    print(f"{header:<43} title" if args.titles else header)
    for rank, item in enumerate(found, start=1):
        interest = "popular" if item.interest < 0 else str(item.interest)
        line = f"{rank:>4}  {item.item_id:<16} {item.score:>9.4f}  {interest:<10}"
        print(f"{line} {titles.get(item.item_id, '')}".rstrip())
    return 0


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    sys.exit(main())
