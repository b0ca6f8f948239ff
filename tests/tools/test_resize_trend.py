"""Sizing from what was kept over days, the two ways to more room, and the sum in words."""

from typing import Any

import pytest

from tests.tools.test_growth import NOW, history
from tests.tools.test_resize import GIB, MIB, info, step
from tools.arithmetic import WIDTH, arithmetic, full_in
from tools.growth import History
from tools.reading import NotMeasured
from tools.resize import InstanceResize, InstanceResizeArguments, size_up
from tools.samples import Samples
from tools.scaling import Way
from tools.sizes import read_catalogue


def sized(
    last: dict[str, str], kept: History | None, first: dict[str, str] | None = None, **args: Any
) -> InstanceResize:
    given = InstanceResizeArguments(history=kept, **args)
    found = size_up(Samples(first or last, last, 5.0), given, read_catalogue(), NOW)
    assert isinstance(found, InstanceResize)
    return found


def grown(per_day: float, days: int = 10, level: float = 900) -> History:
    """A day's ups and downs of 50 MiB, and growth beside."""
    return history(
        [
            (level + per_day * hour / 24 + (50 if hour % 24 > 12 else 0)) * MIB
            for hour in range(days * 24)
        ]
    )


def test_ten_days_of_samples_decide_and_not_the_last_five_seconds() -> None:
    spike = info(used_memory=GIB + 40 * MIB)
    found = sized(spike, grown(10), info(), horizon_days=20)
    assert found.growth_from == "trend"
    assert found.growth_bytes_per_day == pytest.approx(10 * MIB)
    assert step(found, "growth") == pytest.approx(200 * MIB, rel=0.01)
    left = 2 * GIB - GIB - 49.6 * MIB
    assert found.seconds_to_full == pytest.approx(left / (10 * MIB) * 86_400, rel=0.05)
    assert "days" in full_in(found)


def test_ups_and_downs_are_not_bought_memory_for() -> None:
    found = sized(info(used_memory=900 * MIB), grown(0))
    assert (found.growth_from, step(found, "growth")) == ("trend", 0)
    assert isinstance(found.seconds_to_full, NotMeasured)
    assert "not met in 10 years" in full_in(found)


def test_without_enough_days_two_samples_are_a_guess_and_called_one() -> None:
    found = sized(info(used_memory=GIB + 40 * MIB), grown(10, days=3), info())
    assert found.growth_from == "two samples"
    how = next(each.how for each in found.steps if each.name == "growth")
    assert how.startswith("a guess, extrapolated from two samples")
    assert "5 are needed to tell growth from a daily cycle" in how
    assert isinstance(found.seconds_to_full_soonest, NotMeasured)
    assert full_in(found).endswith("a guess.")


def test_the_peak_of_before_a_restart_counts() -> None:
    found = sized(info(used_memory=MIB, used_memory_peak=MIB), grown(0, level=1_500))
    assert found.peak_bytes == 1_550 * MIB


def test_a_full_server_is_full_now() -> None:
    found = sized(info(used_memory=2 * GIB, used_memory_peak=2 * GIB), grown(10, level=1_900))
    assert found.seconds_to_full == 0


def ways(last: dict[str, str], first: dict[str, str] | None = None) -> list[Way]:
    return sized(last, None, first).ways


def cpu(seconds: float) -> dict[str, object]:
    return {
        "used_cpu_user_main_thread": f"{seconds / 2}",
        "used_cpu_sys_main_thread": f"{seconds / 2}",
    }


SERVER = {
    "connected_clients": 42, "connected_slaves": 0, "cluster_enabled": 0,
    "db0": "keys=1000,expires=0,avg_ttl=0", "db3": "keys=8,expires=0,avg_ttl=0",
}  # fmt: skip


def test_a_server_with_an_idle_thread_is_scaled_up() -> None:
    up, out = ways(info(**SERVER, **cpu(10.4)), info(**cpu(10.0)))
    assert (up.way, up.better, out.better, out.because) == ("scale up", True, False, [])
    assert "42 clients reconnect" in up.touches[0]
    assert "no replica now" in up.touches[1]
    assert any("db3" in touched for touched in out.touches)
    assert "512.0 MiB and 504 keys move" in " ".join(out.touches)


def test_a_larger_instance_does_not_make_one_thread_faster() -> None:
    out, up = ways(info(**SERVER, **cpu(14.9)), info(**cpu(10.0)))
    assert (out.way, out.better, up.better) == ("shard out", True, False)
    assert "98% of a core" in out.because[0]


def test_what_no_provider_sells_and_what_forks_for_seconds_is_sharded() -> None:
    huge = {"used_memory": 2_000 * GIB, "used_memory_peak": 2_000 * GIB}
    (out, _) = ways(info(**huge, latest_fork_usec=20_000_000))
    assert out.better
    assert "the largest of the catalogue, r7g.16xlarge" in out.because[0]
    assert "every client waits" in out.because[1]
    assert any(touched.startswith("78 shards") for touched in out.touches)


def test_of_a_cluster_and_of_what_is_not_reported_nothing_is_made_up() -> None:
    out = ways(info(cluster_enabled=1))[1]
    assert "clients stay as they are" in out.touches[-1]
    up = ways(info())[0]
    assert up.touches == []


def test_the_sum_can_be_read_on_a_narrow_terminal_and_adds_up() -> None:
    found = sized(info(**SERVER), grown(10))
    lines = arithmetic(found)
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    for words in (
        "1,049.6 MiB  peak: used_memory_peak",
        "Full in",
        "scale up (better)",
        "needed in all",
    ):
        assert words in text, words


def test_samples_are_not_part_of_what_is_kept_or_offered() -> None:
    given = InstanceResizeArguments(history=grown(1))
    assert "history" not in given.model_dump()
    assert "history" not in InstanceResizeArguments.model_json_schema()["properties"]
