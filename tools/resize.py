"""How big the instance should be: sizing with its arithmetic shown. Never executed."""

from tools.reading import Measured, Reading


class InstanceSize(Reading):
    """One size of the catalogue (`tools/instance_sizes.yaml`: source and date there)."""

    provider: str
    name: str
    memory_bytes: int
    source: str


class SizingStep(Reading):
    """One line of the arithmetic, e.g. `copy-on-write reserve = 25 % of peak`."""

    name: str
    bytes: int
    how: str


class InstanceResize(Reading):
    """The smallest instances that fit this server's peak, growth and reserves."""

    peak_bytes: int
    growth_bytes_per_day: Measured[float]
    """From the two samples' rate: an extrapolation, marked as such; NotMeasured without growth."""
    steps: list[SizingStep]
    needed_bytes: int
    """Instance memory needed."""
    target_utilization: float
    recommended_maxmemory: int
    current_limit: Measured[int]
    limit_source: str
    fits: list[InstanceSize]
    """Smallest that fits, one per provider; empty if none does: shard."""
    artefact: str
    """What a person can use: the provider commands with a placeholder for the instance's name."""
    grows: bool
    """needed_bytes exceeds the current limit."""
