"""What the host says speaks for a cause where it is known, and where it is not, for nothing."""

from typing import Any

import pytest

from agent.incident import DiagnosisDraft
from agent.ranking import RankedCause, rank
from agent.rules import conclude
from agent.runbook_library import load_library
from agent.signals import SIGNALS, Seen, Signal, detect
from agent.signals.host import OF_THE_HOST
from tests.agent.readings import (
    AT,
    MIB,
    blank,
    config,
    evidence,
    memory,
    persistence,
    refused,
    stats,
)
from tools.host import Host
from tools.reading import Evidence, NotMeasured, Reading

LIBRARY = load_library()
GIB = 1024 * MIB
UNKNOWN = NotMeasured(not_measured="x", because="not configured", failure="not_configured")


def host(**known: Any) -> Host:
    return blank(
        Host, source="Prometheus", until=AT, huge_pages_always=UNKNOWN, **known
    )  # fmt: skip


def fires(name: str, *readings: Reading) -> bool:
    return isinstance(SIGNALS[name](Seen(evidence(*readings))), Signal)


SWAPPING = {
    "memory_total_bytes": 8.0 * GIB, "swap_used_bytes": 2.0 * GIB,
    "swapped_in_pages_per_second": 900.0,
}  # fmt: skip
ELSEWHERE = {"memory_total_bytes": 8.0 * GIB}
"""The server says that its machine has 64 GiB."""
DISK = {"data_disk_bytes": 100.0 * GIB, "data_disk_available_bytes": 0.5 * GIB}


@pytest.mark.parametrize(
    ("name", "readings", "but_not"),
    [
        (
            "host_swaps_in",
            [host(**SWAPPING)],
            [host(**SWAPPING | {"swapped_in_pages_per_second": 9.0})],
        ),
        ("host_swaps_in", [host(**SWAPPING)], [host(**SWAPPING | {"swap_used_bytes": 1.0 * MIB})]),
        (
            "huge_pages_given",
            [memory(GIB, used_memory_rss=GIB), host(huge_pages_bytes=1.0 * GIB)],
            [memory(GIB, used_memory_rss=GIB), host(huge_pages_bytes=9.0 * MIB)],
        ),
        (
            "huge_pages_given",
            [memory(GIB, used_memory_rss=GIB), host(huge_pages_bytes=1.0 * GIB)],
            [
                memory(GIB, used_memory_rss=GIB), host(huge_pages_bytes=1.0 * GIB),
                config(**{"disable-thp": "yes"}),
            ],
        ),
        ("data_disk_full", [memory(GIB), host(**DISK)], [memory(100 * MIB), host(**DISK)]),
        (
            "data_disk_full",
            [memory(GIB), host(**DISK)],
            [memory(9 * GIB), host(**DISK | {"data_disk_available_bytes": 8.0 * GIB})],
        ),
        ("killed_for_memory", [host(container_oom_kills=1.0)], [host(container_oom_kills=0.0)]),
        (
            "killed_for_memory",
            [host(oom_kills=1.0), stats(uptime_in_seconds=600)],
            [host(oom_kills=1.0, container_oom_kills=0.0), stats(uptime_in_seconds=600)],
        ),
        (
            "killed_for_memory",
            [host(oom_kills=1.0), stats(uptime_in_seconds=600)],
            [host(oom_kills=1.0), stats(uptime_in_seconds=60_000)],
        ),
        (
            "cpu_is_throttled",
            [host(cpu_throttled_share=0.5, cpu_periods=9_000.0)],
            [host(cpu_throttled_share=0.2, cpu_periods=9_000.0)],
        ),
        (
            "cpu_is_throttled",
            [host(cpu_throttled_share=0.5, cpu_periods=9_000.0)],
            [host(cpu_throttled_share=0.5, cpu_periods=20.0)],
        ),
        # The container's own limit, whatever INFO knows of the machine.
        (
            "rss_near_memory_limit",
            [
                memory(GIB, host=64 * GIB),
                host(container_limit_bytes=2.0 * GIB, container_working_set_bytes=1.8 * GIB),
            ],
            [
                memory(GIB, host=64 * GIB),
                host(container_limit_bytes=2.0 * GIB, container_working_set_bytes=1.0 * GIB),
            ],
        ),
        (
            "rss_near_memory_limit",
            [
                memory(GIB, host=64 * GIB),
                host(container_limit_bytes=2.0 * GIB, container_working_set_bytes=1.8 * GIB),
            ],
            [
                memory(GIB, 2 * GIB),
                host(container_limit_bytes=2.0 * GIB, container_working_set_bytes=1.8 * GIB),
            ],
        ),
        # Nothing is in swap, says the host: what is not resident is something else.
        (
            "memory_swapped",
            [memory(GIB, used_memory_rss=500 * MIB, mem_clients_normal=0)],
            [
                memory(GIB, used_memory_rss=500 * MIB, mem_clients_normal=0),
                host(swap_used_bytes=0.0),
            ],
        ),
    ],
)  # fmt: skip
def test_a_ratio_and_a_floor(name: str, readings: list[Reading], but_not: list[Reading]) -> None:
    assert fires(name, *readings)
    assert not fires(name, *but_not)


@pytest.mark.parametrize(
    ("name", "known", "of_the_server"),
    [
        ("host_swaps_in", SWAPPING, []),
        ("huge_pages_given", {"huge_pages_bytes": 2.0 * GIB}, []),
        ("data_disk_full", DISK, []),
        ("killed_for_memory", {"oom_kills": 1.0}, [stats(uptime_in_seconds=600)]),
    ],
)
def test_what_another_machine_tells_is_not_measured(
    name: str, known: dict[str, Any], of_the_server: list[Reading]
) -> None:
    """A node_exporter that somebody named in its place."""
    own = memory(GIB, host=8 * GIB)
    assert fires(name, own, host(**ELSEWHERE | known), *of_the_server)
    found = SIGNALS[name](Seen(evidence(memory(GIB), host(**ELSEWHERE | known), *of_the_server)))
    assert isinstance(found, NotMeasured)
    assert "a machine with 8.0 GiB of memory, and the server's has 64.0 GiB" in found.because


def test_the_empty_swap_of_another_machine_hides_nothing() -> None:
    swapped = memory(GIB, used_memory_rss=500 * MIB, mem_clients_normal=0)
    assert fires("memory_swapped", swapped, host(swap_used_bytes=0.0, **ELSEWHERE))
    assert not fires("memory_swapped", swapped, host(swap_used_bytes=0.0))


@pytest.mark.parametrize("name", sorted(OF_THE_HOST))
def test_without_the_host_each_is_not_measured(name: str) -> None:
    assert isinstance(SIGNALS[name](Seen(evidence(memory(GIB), stats()))), NotMeasured)


FAILED: tuple[Reading, ...] = (
    memory(GIB), stats(), persistence(rdb_last_bgsave_status="err"),
)  # fmt: skip


def judged(*of_the_host: Evidence) -> tuple[DiagnosisDraft, RankedCause]:
    signals = detect([*evidence(*FAILED), *of_the_host])
    ranked = rank(signals, LIBRARY)
    (chosen,) = [one for one in ranked if one.cause == "misconf-bgsave-fail"]
    return conclude(signals, ranked, {}), chosen


def told(**known: Any) -> Evidence:
    return evidence(*FAILED, host(**known))[-1]


def test_a_full_disk_speaks_for_the_snapshot_that_failed() -> None:
    diagnosis, _ = judged(told(**DISK))
    assert diagnosis.root_cause == "misconf-bgsave-fail"
    assert any("less than the" in claim.text for claim in diagnosis.claims)


def test_what_the_host_could_say_is_never_scored_where_it_says_nothing() -> None:
    """Not configured, unreachable, or all well: the same confidence; and it is said."""
    room = {"data_disk_bytes": 100.0 * GIB, "data_disk_available_bytes": 90.0 * GIB}
    (without, one), (refusing, two), (well, three) = (
        judged(), judged(*refused("host")), judged(told(**room))
    )  # fmt: skip
    assert one.score == two.score == three.score
    assert one.confidence == two.confidence == three.confidence
    assert without.confidence == refusing.confidence == well.confidence
    assert any("NOPERM" in line for line in refusing.not_measured)
    assert any(line.startswith("host: ") for line in without.not_measured)
    assert not any("NOPERM" in line or "host: " in line for line in well.not_measured)
