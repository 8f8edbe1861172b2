"""Requests that store and erase histories, and the answers to them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from contract.features import ITEM_ID, USER_ID
from contract.histories import FEATURES, TIME, Event, Profile
from contract.server_methods import KEY

# Fields of a request; those of an event and of a profile are in ``contract.histories``.
EVENTS: Final = "events"
PROFILES: Final = "profiles"
USER_IDS: Final = "user_ids"

# Fields of the answers.
NEW_EVENTS: Final = "new_events"
REPEATED: Final = "repeated"
ERASED: Final = "erased"


@dataclasses.dataclass(frozen=True)
class EventsAdded:
    """The answer to a request that stores events and profiles.

    Attributes:
      new_events: Number of events that were not stored before and are kept.
      repeated: Whether a request with the same key was carried out before.
    """

    new_events: int
    repeated: bool

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "EventsAdded":
        """Reads an answer; over gRPC, every number is a float."""
        return cls(int(fields[NEW_EVENTS]), bool(fields[REPEATED]))


def event_fields(
    events: Mapping[str, Sequence[Event]], profiles: Mapping[str, Profile], key: str
) -> dict[str, Any]:
    """Returns the request that stores events and profiles.

    Args:
      events: Events by the person's id.
      profiles: Profiles by the person's id.
      key: Makes it safe to send the request again; empty for no key.
    """
    listed = [
        {USER_ID: user_id, ITEM_ID: event.item_id, TIME: event.time}
        for user_id, of_person in events.items()
        for event in of_person
    ]
    profiled = [
        {USER_ID: user_id, TIME: profile.time, FEATURES: dict(profile.features)}
        for user_id, profile in profiles.items()
    ]
    given = {EVENTS: listed, PROFILES: profiled, KEY: key}
    return {name: value for name, value in given.items() if value}


def erase_fields(user_ids: Sequence[str]) -> dict[str, Any]:
    """Returns the request that erases people."""
    return {USER_IDS: list(user_ids)}
