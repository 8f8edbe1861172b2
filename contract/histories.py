"""What is kept of people, so that a request can name a person in place of the history.

A person has the newest events, ordered by time, and a profile. It does not matter in which order
they are reported, nor how often: an event is an item at a second, and of two profiles the newer
one counts. Only events of the same second keep the order in which they came.
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
    """An event, a profile or an id that cannot be taken as it is written."""


class Event(NamedTuple):
    """A person used an item.

    Attributes:
      time: Seconds since the epoch.
      item_id: The item.
    """

    time: int
    item_id: str


class Profile(NamedTuple):
    """What is known of a person beside the history.

    Attributes:
      time: Since when, in seconds since the epoch.
      features: Profile features by name (without the ``user_`` prefix), as a request gives them.
    """

    time: int
    features: Mapping[str, str]


NO_PROFILE: Final = Profile(0, {})


@dataclasses.dataclass(frozen=True)
class Retention:
    """How much is kept of a person, and for how long.

    Attributes:
      max_events: The newest so many events.
      days: Older events and profiles are neither answered with nor kept; 0 is no limit.
    """

    max_events: int = DEFAULT_MAX_EVENTS
    days: float = DEFAULT_DAYS

    def oldest(self, now: float) -> int:
        """Returns the first second of which events are kept."""
        return math.ceil(now - self.days * _DAY_SECONDS) if self.days else 0


@dataclasses.dataclass
class Reported:
    """What is reported of one person.

    Attributes:
      events: In any order.
      profile: The newest one; ``NO_PROFILE`` if there is none.
    """

    events: list[Event] = dataclasses.field(default_factory=list)
    profile: Profile = NO_PROFILE


@dataclasses.dataclass(frozen=True)
class Person:
    """What is kept of one person.

    Attributes:
      events: Oldest first.
      profile: ``NO_PROFILE`` if there is none.
    """

    events: tuple[Event, ...] = ()
    profile: Profile = NO_PROFILE

    def __bool__(self) -> bool:
        return bool(self.events or self.profile.features)

    @property
    def oldest(self) -> int:
        """Time of what will expire first; only if something is kept."""
        times = [event.time for event in self.events[:1]]
        return min(times + ([self.profile.time] if self.profile.features else []))

    def after(self, reported: Reported, since: int, max_events: int) -> "Person":
        """Returns the person with what was reported, one event after the other.

        Args:
          reported: What was reported.
          since: The first second that counts.
          max_events: The newest so many events are kept.
        """
        events = list(self.events[-max_events:])
        times = [event.time for event in events]
        known = set(events)
        for event in reported.events:
            if event.time < since or event in known:
                continue
            if len(events) == max_events:
                # One of the same second may have been known and given up before.
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
        """Returns the person without what is older than ``oldest``."""
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
      events: JSON objects: ``user_id``, ``item_id`` and ``time`` in seconds since the epoch, of
        which fractions are cut off.
      profiles: JSON objects: ``user_id``, all of the person's ``features`` from then on, and
        ``time``, which is now if it is left out.
      features: Names of the model's profile features.
      now: Seconds since the epoch.

    Returns:
      What is reported, by the person's id.

    Raises:
      HistoryError: one of them is no such object; nothing is to be taken then.
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
    """Returns the id of a person.

    Raises:
      HistoryError: it is no string, empty, or too long.
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
    # A clock may be wrong by hours; an event of next year would never expire.
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
