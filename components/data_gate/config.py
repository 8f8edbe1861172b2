"""Limits of the guard rails on data."""

from pydantic import Field

from contract.config_types import config_dataclass
from contract.guard_rails import GuardRailsBase


@config_dataclass
class DataRailsConfig(GuardRailsBase):
    """Limits for how far the newest data may differ from earlier data.

    "Earlier spans" are the seven spans before the newest one in the window. A log that is read
    without a window has no spans; for it ``future_events`` applies to the whole log, and
    ``least_events`` and ``bad_rows`` compare it with the log that was accepted last.

    Attributes:
      least_events: Smallest allowed number of events in the newest span, as a multiple of the
        earlier span with the fewest; without a window, as a multiple of the log accepted last.
      most_events: Largest allowed number of events in the newest span, as a multiple of the
        earlier span with the most.
      bad_rows: How much larger the share of unusable rows may be than the largest share in an
        earlier span.
      repeated_events: Largest allowed share of the newest span's events that are also in
        earlier spans.
      early_events: Largest allowed share of the newest span's events that are older than the
        newest event of all spans before it.
      future_events: Largest allowed share of the newest span's events that lie in the future.
      new_items: How much larger the share of events on items that no earlier span of the
        window contains may be than the largest such share in the three spans before.
      new_people: How much larger the share of people whom no earlier span of the window
        contains may be than the largest such share in the three spans before.
      busiest_person: Largest allowed number of events of one person, as a multiple of the
        largest such number in an earlier span.
      item_drift: How much larger the Jensen-Shannon divergence (0 to 1) of the newest span's
        events from those before it, over items by their popularity, may be than the largest
        such divergence of the three spans before.
      activity_drift: The same for the divergence over people by the number of their events.
      gap_drift: The same for the divergence over the time between two events of a person.
      feature_drift: Largest allowed Jensen-Shannon divergence of any side or profile feature
        between this run's statistics and those accepted last.
      min_earlier_spans: Rails that compare figures with those of earlier spans are skipped
        until the window contains this many earlier spans.
      min_events: Rails on shares and divergences are skipped if the newest span has fewer
        events than this, and ``busiest_person`` if the person has fewer.
      stop: Rails that stop the run; by default all except those that warn.
      warn: Rails that only warn; by default ``activity_drift`` and ``gap_drift``.
      off: Rails that are not checked.
      full: Rails that warn and ask for training from scratch, if ``training.warm_start`` would
        otherwise continue from the model in service.
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
