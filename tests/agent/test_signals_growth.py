"""Growth over days, where somebody keeps them: the limit within a day, and more than a cycle."""

from agent.signals import SIGNALS, Seen, Signal
from tests.agent.readings import AT, MIB, blank, evidence, memory, stats
from tools.growth import Trend
from tools.metric_history import MetricHistory
from tools.reading import NotMeasured, Reading

HOUR = 3_600.0
HALF = memory(50 * MIB, 100 * MIB)
STILL = stats(used_memory_first=50 * MIB, used_memory_last=50 * MIB, used_memory_per_second=0.0)
LEAKING = STILL.model_copy(update={"keys_without_expiry_per_second": 1_000.0})


def grown(full: float, per_day: float = 5.0 * MIB, low: float | None = None) -> MetricHistory:
    """Memory as it was over ten days; the limit is met in `full` seconds."""
    trend = Trend(
        source="Prometheus", samples=480, days=10.0, bytes_per_day=per_day, breaks=0,
        low_bytes_per_day=per_day if low is None else low, high_bytes_per_day=2 * per_day,
        season="day", level_bytes=50.0 * MIB,
    )  # fmt: skip
    return blank(
        MetricHistory, source="Prometheus", since=AT, until=AT, growth=trend, seconds_to_full=full
    )


def fired(name: str, *readings: Reading) -> Signal | NotMeasured | None:
    return SIGNALS[name](Seen(evidence(*readings)))


def test_days_of_growth_count_where_the_seconds_of_a_look_stand_still() -> None:
    found = fired("memory_grows", HALF, STILL, grown(20 * HOUR))
    assert isinstance(found, Signal)
    assert {fact.evidence for fact in found.claim.facts} == {"E3"}
    assert isinstance(fired("memory_grows", HALF, grown(20 * HOUR)), Signal), "no second sample"


def test_growth_that_takes_longer_than_a_day_may_be_none_or_is_tiny_is_none() -> None:
    assert fired("memory_grows", HALF, STILL, grown(30 * HOUR)) is None
    assert fired("memory_grows", HALF, STILL, grown(20 * HOUR, low=-1.0)) is None
    assert fired("memory_grows", HALF, STILL, grown(20 * HOUR, per_day=1_000.0)) is None


def test_without_history_two_samples_decide_as_before() -> None:
    assert fired("memory_grows", HALF, STILL) is None
    assert isinstance(fired("memory_grows", HALF), NotMeasured)
    unknown = grown(1.0).model_copy(
        update={"growth": NotMeasured(not_measured="trend", because="two days only")}
    )
    assert isinstance(fired("memory_grows", HALF, unknown), NotMeasured)


def test_keys_that_pile_up_are_told_with_the_growth_that_was_seen() -> None:
    found = fired("keys_without_expiry_accumulate", HALF, LEAKING, grown(20 * HOUR))
    assert isinstance(found, Signal)
    names = {fact.name for fact in found.claim.facts}
    assert all(f"{{{name}}}" in found.claim.text for name in names)
    assert {"rate", "grown_rate", "grown_full"} <= names
    assert fired("keys_without_expiry_accumulate", HALF, LEAKING, grown(30 * HOUR)) is None
