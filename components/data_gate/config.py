"""Limits of the guard rails on data."""

from pydantic import Field

from contract.config_types import config_dataclass
from contract.guard_rails import GuardRailsBase


@config_dataclass
class DataRailsConfig(GuardRailsBase):
    """How far the newest data may differ from the data before it.

    "Earlier spans" are the seven spans before the newest one in the window; a log that is
    read whole is compared with the data that was last accepted where a rail says so.

    Attributes:
      least_events: Events of the newest span, at least, as a multiple of the earlier span
        with the fewest; of the whole log, as a multiple of the log last accepted.
      most_events: Events of the newest span, at most, as a multiple of the earlier span
        with the most.
      bad_rows: How much larger the share of rows that could not be used may be than in
        any earlier span.
      repeated_events: Share of the newest span's events that the earlier spans hold as
        well.
      early_events: Share of the newest span's events that are older than the newest event
        of all spans before it.
      future_events: Share of the newest span's events that lie in the future.
      new_items: How much larger the share of events on items that no span of the window
        held before may be than in the three spans before; so for all that follow but
        ``busiest_person`` and ``feature_drift``.
      new_people: The same of people whom no span of the window held before.
      busiest_person: Events of the person with the most, as a multiple of the same
        figure in any earlier span.
      item_drift: How much larger the Jensen-Shannon divergence (0 to 1) between the
        newest span's events and those before it, over items by their popularity, may be
        than that of the three spans before.
      activity_drift: The same over people by the number of their events.
      gap_drift: The same over the time between two events of a person.
      feature_drift: Jensen-Shannon divergence of any side or profile feature between this
        run's statistics and those that were last accepted.
      min_earlier_spans: Rails that compare with earlier spans rest until the window
        holds so many.
      min_events: Rails on shares and divergences rest if the newest span has fewer
        events, and ``busiest_person`` if the person has.
      stop: Rails that stop the run; by default all but those that warn.
      warn: Rails that only warn; by default ``activity_drift`` and ``gap_drift``.
      off: Rails that are not looked at.
      full: Rails that warn and ask for a training from nothing, where ``training.warm_start``
        would go on from the model in service.
    """

    warn_by_default = ("activity_drift", "gap_drift")

    least_events: float = Field(default=0.7, ge=0.0)
    most_events: float = Field(default=3.0, gt=0.0)
    bad_rows: float = Field(default=0.005, ge=0.0, le=1.0)
    repeated_events: float = Field(default=0.5, ge=0.0, le=1.0)
    early_events: float = Field(default=0.5, ge=0.0, le=1.0)
    future_events: float = Field(default=0.01, ge=0.0, le=1.0)
    new_items: float = Field(default=0.3, ge=0.0, le=1.0)
    new_people: float = Field(default=0.3, ge=0.0, le=1.0)
    busiest_person: float = Field(default=10.0, ge=1.0)
    item_drift: float = Field(default=0.05, ge=0.0, le=1.0)
    activity_drift: float = Field(default=0.1, ge=0.0, le=1.0)
    gap_drift: float = Field(default=0.1, ge=0.0, le=1.0)
    feature_drift: float = Field(default=0.1, ge=0.0, le=1.0)
    full: tuple[str, ...] = ()
    min_earlier_spans: int = Field(default=2, ge=1)
    min_events: int = Field(default=500, ge=1)

    def asking_full(self) -> tuple[str, ...]:
        """See ``GuardRailsBase``."""
        return self.full
