"""Options of requests to a pushed model, and their encoding as the model's inputs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from typing_extensions import TypedDict, Unpack

from contract.features import HISTORY, HISTORY_TIME, USER_ID, USER_PREFIX
from contract.signatures import (
    ALLOW_CATEGORIES,
    ALLOW_PREFIX,
    DEFAULT_DIVERSITY,
    DEFAULT_EXCLUDE_HISTORY,
    DENY_CATEGORIES,
    DENY_PREFIX,
    DIVERSITY,
    EXCLUDE,
    EXCLUDE_HISTORY,
    MAX_PREFIX,
    MIN_PREFIX,
    PADDING,
    UNKNOWN_TIME,
    K,
)

_T = TypeVar("_T", str, int)


class RequestOptions(TypedDict, total=False):
    """Options of a request for recommendations, all of which are optional.

    Attributes:
      exclude: For each person, ids of items that must not be returned; none by default.
      exclude_history: Whether to leave out the items of the history, as by default.
      history_times: For each history, the times of its items in seconds since the epoch,
        with 0 where the time is unknown; all unknown by default.
      profiles: For each person, profile features by name (without the ``user_``
        prefix); all unknown by default.
      diversity: From 0 (rank by score alone, the default) to 1, one value for all people
        or one for each: how much an item gains for every item ranked before it that has
        another category.
      allow_categories: For each person, categories of which an item must have at least
        one; an empty list, the default, allows all items.
      deny_categories: For each person, categories of which an item must have none.
      allow_values: For each person, by the name of a side feature in ``index.filters``,
        values of which an item must have at least one; an empty list allows all items.
      deny_values: For each person, by side feature name, values of which an item must
        have none.
      ranges: For each person, by the name of a numeric side feature, the smallest and the
        largest number allowed, both inclusive; None means no limit.
    """

    exclude: Sequence[Sequence[str]]
    exclude_history: bool
    history_times: Sequence[Sequence[int]]
    profiles: Sequence[Mapping[str, str]]
    diversity: float | Sequence[float]
    allow_categories: Sequence[Sequence[str]]
    deny_categories: Sequence[Sequence[str]]
    allow_values: Sequence[Mapping[str, Sequence[str]]]
    deny_values: Sequence[Mapping[str, Sequence[str]]]
    ranges: Sequence[Mapping[str, tuple[float | None, float | None]]]


def request_inputs(
    known_inputs: Collection[str],
    histories: Sequence[Sequence[str]],
    k: int,
    **options: Unpack[RequestOptions],
) -> dict[str, Any]:
    """Returns a value for every input of ``serving_default``, including unused options.

    TF Serving's REST API has no defaults, so that every input must be sent.

    Args:
      known_inputs: Names of the inputs that the model's signature has.
      histories: Each person's item ids, oldest first. Histories may differ in length.
      k: Number of items to return for each person.
      **options: See ``RequestOptions``.

    Returns:
      Nested lists, numbers or arrays by input name.

    Raises:
      TypeError: if an option does not exist.
      ValueError: if an option does not have one entry for each history, or needs an
        input that the model does not have.
    """
    unknown_options = sorted(set(options) - set(RequestOptions.__annotations__))
    if unknown_options:
        raise TypeError(
            f"there is no option {', '.join(unknown_options)}; the options are"
            f" {', '.join(sorted(RequestOptions.__annotations__))}"
        )
    _check_lengths(histories, options)
    none: Sequence[Sequence[str]] = [[]] * len(histories)
    times = options.get("history_times") or [[UNKNOWN_TIME]] * len(histories)
    profiles = options.get("profiles") or [{}] * len(histories)
    diversity = options.get(DIVERSITY, DEFAULT_DIVERSITY)
    inputs: dict[str, Any] = {
        HISTORY: _padded(histories, PADDING),
        # An array, because the gRPC client would turn a list into int32.
        HISTORY_TIME: np.array(_padded(times, UNKNOWN_TIME), np.int64),
        K: k,
        EXCLUDE: _padded(options.get(EXCLUDE) or none, PADDING),
        EXCLUDE_HISTORY: options.get(EXCLUDE_HISTORY, DEFAULT_EXCLUDE_HISTORY),
        DIVERSITY: np.asarray(diversity, float).tolist(),
        ALLOW_CATEGORIES: _padded(options.get(ALLOW_CATEGORIES) or none, PADDING),
        DENY_CATEGORIES: _padded(options.get(DENY_CATEGORIES) or none, PADDING),
    }
    for name in known_inputs:
        if name.startswith(USER_PREFIX):
            feature = name.removeprefix(USER_PREFIX)
            inputs[name] = [profile.get(feature, PADDING) for profile in profiles]
    inputs |= _filter_inputs(known_inputs, len(histories), options)
    unknown = sorted(_asked_for(options) - set(known_inputs))
    if unknown:
        raise ValueError(
            f"the model has no inputs {', '.join(unknown)}; it has"
            f" {', '.join(sorted(known_inputs))}"
        )
    return {name: value for name, value in inputs.items() if name in known_inputs}


def inputs_by_id(
    known_inputs: Collection[str],
    user_ids: Sequence[str],
    k: int,
    **options: Unpack[RequestOptions],
) -> dict[str, Any]:
    """Works as ``request_inputs``, for people whose histories the server stores.

    Histories and profile features come from the server's store. But if any entry of
    ``profiles`` has a profile feature, the request's values of this feature are used for all
    people.

    Args:
      known_inputs: Names of the inputs that the model's signature has.
      user_ids: Ids of the people.
      k: Number of items to return for each person.
      **options: See ``RequestOptions``, without ``history_times``.

    Raises:
      TypeError: if an option does not exist, or is ``history_times``.
      ValueError: in the cases of ``request_inputs``, or if the model has a profile feature
        "id", because its input has the same name as the ids of people.
    """
    if "history_times" in options:
        raise TypeError("history_times go with histories, which the server looks up here")
    if USER_ID in known_inputs:
        raise ValueError(
            f"the model has a profile feature {USER_ID.removeprefix(USER_PREFIX)!r}, whose input"
            f" is {USER_ID}, so that people cannot be named by id; send histories"
        )
    inputs = request_inputs(known_inputs, [[]] * len(user_ids), k, **options)
    given = {USER_PREFIX + name for profile in options.get("profiles") or () for name in profile}
    looked_up = {HISTORY, HISTORY_TIME}
    looked_up |= {name for name in inputs if name.startswith(USER_PREFIX)} - given
    rest = {name: value for name, value in inputs.items() if name not in looked_up}
    return {USER_ID: list(user_ids), **rest}


def _filter_inputs(
    known_inputs: Collection[str], rows: int, options: RequestOptions
) -> dict[str, Any]:
    """Returns the inputs for the side features that the model filters by."""
    nothing: Sequence[Mapping[str, Any]] = [{}] * rows
    inputs: dict[str, Any] = {}
    for prefix, wishes in (
        (ALLOW_PREFIX, options.get("allow_values") or nothing),
        (DENY_PREFIX, options.get("deny_values") or nothing),
    ):
        for name in known_inputs:
            if name.startswith(prefix) and name not in (ALLOW_CATEGORIES, DENY_CATEGORIES):
                feature = name.removeprefix(prefix)
                inputs[name] = _padded([wish.get(feature, ()) for wish in wishes], PADDING)
    ranges = options.get("ranges") or nothing
    for end, prefix in enumerate((MIN_PREFIX, MAX_PREFIX)):
        for name in known_inputs:
            if name.startswith(prefix):
                feature = name.removeprefix(prefix)
                bounds = [wish.get(feature, (None, None))[end] for wish in ranges]
                inputs[name] = [PADDING if bound is None else repr(bound) for bound in bounds]
    return inputs


def listed_categories(options: RequestOptions) -> set[str]:
    """Returns the categories that ``options`` allow or deny."""
    lists = [*options.get(ALLOW_CATEGORIES, ()), *options.get(DENY_CATEGORIES, ())]
    return {name for names in lists for name in names if name != PADDING}


def _check_lengths(histories: Sequence[Sequence[str]], options: RequestOptions) -> None:
    by_person: dict[str, Sequence[Any]] = {
        EXCLUDE: options.get(EXCLUDE, ()),
        "history_times": options.get("history_times", ()),
        "profiles": options.get("profiles", ()),
        ALLOW_CATEGORIES: options.get(ALLOW_CATEGORIES, ()),
        DENY_CATEGORIES: options.get(DENY_CATEGORIES, ()),
        "allow_values": options.get("allow_values", ()),
        "deny_values": options.get("deny_values", ()),
        "ranges": options.get("ranges", ()),
    }
    for name, rows in by_person.items():
        if len(rows) not in (0, len(histories)):
            raise ValueError(
                f"{name} must have one entry per history ({len(histories)}) or none, got"
                f" {len(rows)}"
            )
    for times, history in zip(by_person["history_times"], histories, strict=False):
        if len(times) != len(history):
            raise ValueError(
                f"history_times must have one time per item of the history ({len(history)}), got"
                f" {len(times)}"
            )


def _asked_for(options: RequestOptions) -> set[str]:
    """Returns the inputs without which ``options`` would have no effect."""
    profiles = options.get("profiles", ())
    asked = {USER_PREFIX + feature for profile in profiles for feature in profile}
    asked |= {
        prefix + feature
        for prefix, wishes in (
            (ALLOW_PREFIX, options.get("allow_values", ())),
            (DENY_PREFIX, options.get("deny_values", ())),
            (MIN_PREFIX, options.get("ranges", ())),
        )
        for wish in wishes
        for feature in wish
    }
    if any(options.get(ALLOW_CATEGORIES, ())):
        asked.add(ALLOW_CATEGORIES)
    if any(options.get(DENY_CATEGORIES, ())):
        asked.add(DENY_CATEGORIES)
    if options.get("history_times"):
        asked.add(HISTORY_TIME)
    if np.any(options.get(DIVERSITY, DEFAULT_DIVERSITY)):
        asked.add(DIVERSITY)
    return asked


def _padded(rows: Sequence[Sequence[_T]], padding: _T) -> list[list[_T]]:
    """Returns rows of equal length, at least 1, because tensors are not ragged."""
    width = max((len(row) for row in rows), default=0) or 1
    return [list(row) + [padding] * (width - len(row)) for row in rows]
