"""Stored histories, so that a request can name a person instead of sending the history.

For each person, the newest events, ordered by time, and a profile are stored. They may be reported
in any order and more than once: an event is identified by its item and second, and the newer of
two profiles wins. Only events of the same second keep the order in which they arrived.
"""

import bisect
import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from contract.catalogue_changes import nearest_hint, shown
from contract.errors import UserError
from contract.features import ITEM_ID, USER_ID

TIME: Final = "time"
FEATURES: Final = "features"

DEFAULT_DAYS: Final = 90.0
DEFAULT_MAX_EVENTS: Final = 200

_EVENT_FIELDS: Final = (USER_ID, ITEM_ID, TIME)
_PROFILE_FIELDS: Final = (USER_ID, FEATURES, TIME)
_MAX_TEXT: Final = 1000  # characters of an id or a value
_DAY_SECONDS: Final = 86_400


class HistoryError(UserError):
    """An event, a profile or an id that is not valid."""


class Event(NamedTuple):
    """A person used an item.

    Attributes:
      time: Seconds since the epoch.
      item_id: The item's id.
    """

    time: int
    item_id: str


class Profile(NamedTuple):
    """What is known about a person apart from the history.

    Attributes:
      time: When the profile became valid, in seconds since the epoch.
      features: Profile features by name (without the ``user_`` prefix), as given in a request.
    """

    time: int
    features: Mapping[str, str]


NO_PROFILE: Final = Profile(0, {})


@dataclasses.dataclass(frozen=True)
class Retention:
    """How much is kept about a person, and for how long.

    Attributes:
      max_events: Number of events to keep, the newest ones.
      days: Age in days after which events and profiles are neither used nor kept; 0 for no limit.
    """

    max_events: int = DEFAULT_MAX_EVENTS
    days: float = DEFAULT_DAYS

    def oldest(self, now: float) -> int:
        """Returns the earliest time from which events are kept, in seconds since the epoch."""
        return math.ceil(now - self.days * _DAY_SECONDS) if self.days else 0


@dataclasses.dataclass
class Reported:
    """Newly reported events and profile of one person.

    Attributes:
      events: The events, in any order.
      profile: The newest profile; ``NO_PROFILE`` if there is none.
    """

    events: list[Event] = dataclasses.field(default_factory=list)
    profile: Profile = NO_PROFILE


@dataclasses.dataclass(frozen=True)
class Person:
    """Stored events and profile of one person.

    Attributes:
      events: The events, oldest first.
      profile: The profile; ``NO_PROFILE`` if there is none.
    """

    events: tuple[Event, ...] = ()
    profile: Profile = NO_PROFILE

    def __bool__(self) -> bool:
        return bool(self.events or self.profile.features)

    @property
    def oldest(self) -> int:
        """Time of the event or profile that expires first; the person must not be empty."""
        times = [event.time for event in self.events[:1]]
        return min(times + ([self.profile.time] if self.profile.features else []))

    def after(self, reported: Reported, since: int, max_events: int) -> "Person":
        """Returns the person after adding the reported events, one by one, and profile.

        Args:
          reported: The reported events and profile.
          since: Earlier events and profiles are ignored; seconds since the epoch.
          max_events: Number of events to keep, the newest ones.
        """
        events = list(self.events[-max_events:])
        times = [event.time for event in events]
        known = set(events)
        for event in reported.events:
            if event.time < since or event in known:
                continue
            if len(events) == max_events:
                # An event of the oldest second may be one that was dropped earlier.
                if event.time <= times[0]:
                    continue
                del events[0], times[0]
            known.add(event)
            place = bisect.bisect_right(times, event.time)
            events.insert(place, event)
            times.insert(place, event.time)
        is_newer = reported.profile.time >= max(since, self.profile.time, 1)
        profile = reported.profile if is_newer else self.profile
        return Person(tuple(events), profile)

    def since(self, oldest: int) -> "Person":
        """Returns the person without events and a profile older than ``oldest``."""
        first = bisect.bisect_left(self.events, oldest, key=lambda event: event.time)
        profile = self.profile if self.profile.time >= oldest else NO_PROFILE
        return Person(self.events[first:], profile)

    def to_json(self) -> bytes:
        """Returns the person as JSON."""
        times = [event.time for event in self.events]
        items = [event.item_id for event in self.events]
        return orjson.dumps([times, items, self.profile.time, dict(self.profile.features)])

    @classmethod
    def from_json(cls, content: bytes | str) -> "Person":
        """Reads what ``to_json`` wrote."""
        times, items, profile_time, features = orjson.loads(content)
        profile = Profile(profile_time, features) if features else NO_PROFILE
        return cls(tuple(map(Event, times, items)), profile)


NOBODY: Final = Person()


def parse_reports(
    events: Iterable[Any], profiles: Iterable[Any], features: Collection[str], now: float
) -> dict[str, Reported]:
    """Reads the events and profiles of a request.

    Args:
      events: JSON objects with ``user_id``, ``item_id`` and ``time``, in seconds since the epoch;
        fractions of a second are dropped.
      profiles: JSON objects with ``user_id``, all of the person's ``features``, and the ``time``
        from which they are valid; the default is ``now``.
      features: Names of the model's profile features.
      now: Current time in seconds since the epoch.

    Returns:
      The reported events and profile by the person's id.

    Raises:
      HistoryError: if one of the objects is not valid. The whole request is then refused.
    """
    reports: dict[str, Reported] = {}
    for event in events:
        _check_fields("An event", event, _EVENT_FIELDS)
        user_id = parse_user_id(event.get(USER_ID))
        item_id = _text("The item_id of an event", event.get(ITEM_ID))
        seconds = _seconds(event.get(TIME), now)
        reports.setdefault(user_id, Reported()).events.append(Event(seconds, item_id))
    for profile in profiles:
        _check_fields("A profile", profile, _PROFILE_FIELDS)
        user_id = parse_user_id(profile.get(USER_ID))
        seconds = _seconds(profile.get(TIME, now), now)
        report = reports.setdefault(user_id, Reported())
        if seconds >= report.profile.time:
            report.profile = Profile(seconds, _features(profile.get(FEATURES), features))
    return reports


def parse_user_id(value: Any) -> str:
    """Checks and returns the id of a person.

    Raises:
      HistoryError: if the id is not a string, is empty or is too long.
    """
    return _text("A user_id", value)


def _check_fields(what: str, value: Any, fields: Sequence[str]) -> None:
    if not isinstance(value, Mapping):
        raise HistoryError(
            f"{what} must be a JSON object with {', '.join(fields)}, got {shown(value)}"
        )
    for name in value:
        if name not in fields:
            raise HistoryError(
                f"{what} has no field {name!r}{nearest_hint(name, fields)}; the fields are"
                f" {', '.join(fields)}"
            )


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise HistoryError(
            f"{what} must be a string of 1 to {_MAX_TEXT} characters, got {shown(value)}"
        )
    return value


def _seconds(value: Any, now: float) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Clocks may be off by hours, but an event dated far in the future would hardly ever expire.
    if not is_number or not 1 <= value <= now + _DAY_SECONDS:
        raise HistoryError(
            f"{TIME} must be a number of seconds since 1970, not milliseconds, and at most a day"
            f" ahead of the server's clock ({now:.0f}); got {shown(value)}"
        )
    return int(value)


def _features(value: Any, known: Collection[str]) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise HistoryError(
            f"{FEATURES} of a profile must be a JSON object of strings by feature, got"
            f" {shown(value)}"
        )
    for name, text in value.items():
        if name not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise HistoryError(
                f"The model has no profile feature {name!r}{nearest_hint(name, known)}; {has}"
            )
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            raise HistoryError(
                f"Profile feature {name!r} must be a string of at most {_MAX_TEXT} characters"
                f" (numbers as text), got {shown(text)}"
            )
    return {name: text for name, text in value.items() if text}
