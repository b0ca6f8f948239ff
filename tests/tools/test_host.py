"""What the exporters of a host tell, and what nobody is told of."""

from datetime import UTC, datetime

import pytest

from tools.host import Host, HostFacts, told
from tools.ranges import Range, Ranges, increase, per_second
from tools.reading import NotMeasured, number
from tools.summaries import summarize

MIB = 1 << 20
NOW = datetime(2026, 11, 1, tzinfo=UTC)
STEP = 60.0


def one(metric: str, *values: float | None) -> Range:
    """The last value is of now."""
    start = NOW.timestamp() - (len(values) - 1) * STEP
    return Range(metric=metric, start=start, step=STEP, values=list(values))


def part(*series: Range, because: str = "") -> Ranges:
    return Ranges(source="Prometheus", series=list(series), because=because)


def seen(host: Ranges | None = None, container: Ranges | None = None) -> Host:
    found = told(HostFacts(host=host, container=container), NOW)
    assert isinstance(found, Host), found
    return found


def test_nothing_configured_is_not_measured_and_says_what_to_do() -> None:
    found = told(HostFacts(), NOW)
    assert isinstance(found, NotMeasured)
    assert found.failure == "not_configured"
    assert "`host_series` and `container_series`" in found.because
    assert found.remedy


def test_one_part_that_is_not_configured_is_no_zero() -> None:
    found = seen(container=part(one("container_limit_bytes", 5.0)))
    assert isinstance(found.swap_used_bytes, NotMeasured)
    assert found.swap_used_bytes.failure == "not_configured"
    assert "`host_series`" in found.swap_used_bytes.because
    assert found.container_limit_bytes == 5


def test_a_metric_that_is_missing_says_why() -> None:
    found = seen(host=part(one("swap_total_bytes", 8.0), because="3 disks: name one"))
    for value in (found.swap_used_bytes, found.data_disk_bytes):
        assert isinstance(value, NotMeasured)
        assert value.failure == "absent"
        assert value.because == "3 disks: name one"


def test_swap_in_use_rates_and_totals() -> None:
    found = seen(
        host=part(
            one("swap_total_bytes", 100.0, 100.0),
            one("swap_free_bytes", 100.0, 30.0),
            one("swapped_in_pages", *[0.0] * 40, *[600.0] * 15),
            one("oom_kills", None, 0.0, 2 / STEP, 0.0),
        )
    )
    assert (found.swap_used_bytes, found.swapped_in_pages_per_second) == (70, 600)
    assert found.oom_kills == 2
    assert "70 bytes used, 600 pages/s in" in summarize(found)


def test_throttling_is_a_share_of_the_periods_it_ran_in() -> None:
    found = seen(
        container=part(
            one("cpu_periods", None, *[10.0] * 60), one("cpu_throttled_periods", None, *[3.0] * 60)
        )
    )
    assert found.cpu_periods == 10 * 60 * 60
    assert found.cpu_throttled_share == pytest.approx(0.3)
    idle = seen(container=part(one("cpu_periods", 0.0, 0.0), one("cpu_throttled_periods", 0.0, 0)))
    assert isinstance(idle.cpu_throttled_share, NotMeasured)


@pytest.mark.parametrize("limit", [0.0, 9_223_372_036_854_771_712.0])
def test_no_limit_is_none_whatever_the_kernel_writes(limit: float) -> None:
    found = seen(container=part(one("container_limit_bytes", limit)))
    assert isinstance(found.container_limit_bytes, NotMeasured)
    assert number(found.container_limit_bytes) is None


def test_a_counter_that_was_scraped_once_tells_nothing_yet() -> None:
    found = seen(host=part(one("oom_kills", None), one("swap_total_bytes", 8.0)))
    assert isinstance(found.oom_kills, NotMeasured)
    assert "fewer than two samples" in found.oom_kills.because


def test_facts_of_another_time_are_none() -> None:
    old = one("swap_total_bytes", *[1.0] * 2, *[None] * 20)
    found = told(HostFacts(host=part(old)), NOW)
    assert isinstance(found, NotMeasured)
    assert "too old" in found.because
    mixed = seen(host=part(old, one("memory_total_bytes", 7.0)))
    assert isinstance(mixed.swap_total_bytes, NotMeasured)
    assert mixed.memory_total_bytes == 7


def test_whether_huge_pages_are_given_unasked_is_said_to_be_unknown() -> None:
    found = seen(host=part(one("huge_pages_bytes", 3.0)))
    assert "no collector of node_exporter" in found.huge_pages_always.because


def test_counters() -> None:
    assert per_second([None, 10.0, None, 40.0, 5.0], 10) == [None, None, None, 1.5, 0.5]
    assert increase([10.0, None, 40.0, 5.0, 6.0]) == 36
    assert increase([1.0]) is None
