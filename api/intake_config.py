"""How much the intake of alerts takes, as the configuration says it: the entry `intake`."""

from pydantic import Field

from api.entries import Entry


class IntakeEntry(Entry):
    """Beyond these, senders are asked to come again later; nothing is lost."""

    per_second: float = Field(default=200.0, gt=0, le=100_000)
    """Alerts of one source (one token), in the long run."""
    burst: int = Field(default=5_000, ge=1, le=1_000_000)
    """Alerts that a source may send at once after it has been quiet."""
    queue: int = Field(default=1_000, ge=1, le=100_000)
    """Incidents that wait for a worker, before alerts that would open another are shed."""
