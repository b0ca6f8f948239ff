"""instance_resize: arithmetic that adds up, sizes that fit, an artefact a person can use."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evals.servers import Server
from tools.opening import open_for_reading
from tools.reading import NotMeasured
from tools.resize import (
    COPY_ON_WRITE,
    LARGEST_FRAGMENTATION,
    TARGET,
    InstanceResize,
    InstanceResizeArguments,
    instance_resize,
    size_up,
)
from tools.samples import LEAST_GROWTH, Samples, growth_noise
from tools.sizes import read_catalogue

MIB = 1 << 20
GIB = 1 << 30
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def info(**fields: object) -> dict[str, str]:
    known: dict[str, object] = {
        "run_id": "r", "uptime_in_seconds": 100, "used_memory": GIB, "used_memory_peak": GIB,
        "maxmemory": 2 * GIB, "mem_fragmentation_ratio": "1.10", "mem_not_counted_for_evict": 0,
        "mem_replication_backlog": 10 * MIB, "mem_clients_slaves": 0, "mem_clients_normal": 0,
        "rdb_last_cow_size": 0, "total_system_memory": 16 * GIB,
    } | fields  # fmt: skip
    return {name: str(value) for name, value in known.items()}


def sized(last: dict[str, str], first: dict[str, str] | None = None, **args: Any) -> InstanceResize:
    samples = Samples(first or last, last, 5.0)
    found = size_up(samples, InstanceResizeArguments(**args), read_catalogue(), NOW)
    assert isinstance(found, InstanceResize)
    return found


def step(found: InstanceResize, name: str) -> int:
    return next(step.bytes for step in found.steps if step.name == name)


def test_every_step_of_a_known_case() -> None:
    """1 GiB peak, 10 MiB of buffers, ratio 1.1, no growth: (1 + .01 + .1 + .25) / .7."""
    found = sized(info())
    assert {each.name: each.bytes for each in found.steps} == {
        "peak": GIB,
        "growth": 0,
        "replication and client buffers": 10 * MIB,
        "fragmentation": round(GIB * 0.10),
        "copy-on-write reserve": GIB // 4,
        "room to spare": step(found, "room to spare"),
    }
    total = GIB + 10 * MIB + round(GIB * 0.10) + GIB // 4
    assert found.needed_bytes == pytest.approx(max(total / TARGET, 2 * GIB + 0.35 * GIB), abs=2)
    assert found.grows
    assert isinstance(found.growth_bytes_per_day, NotMeasured)
    assert [fit.provider for fit in found.fits] == [
        "ElastiCache", "MemoryDB", "Memorystore", "Azure Cache", "Azure Managed Redis",
        "Redis Cloud", "plain VM",
    ]  # fmt: skip
    assert found.fits[0].name == "cache.t4g.medium"


def test_growth_is_extrapolated_over_the_horizon_and_capped() -> None:
    slow = sized(
        info(used_memory=GIB + 5 * MIB, used_memory_peak=900 * GIB), info(), horizon_days=10
    )
    assert slow.growth_bytes_per_day == pytest.approx(86_400 * MIB)
    assert step(slow, "growth") == 864_000 * MIB
    how = next(each.how for each in slow.steps if each.name == "growth")
    assert "extrapolated from two samples" in how
    assert "10 days" in how
    wild = sized(info(used_memory=GIB + 50 * MIB), info(), horizon_days=30)
    assert step(wild, "growth") == wild.peak_bytes


@pytest.mark.parametrize("limit", [0, 2 * GIB, 100 * GIB])
def test_what_our_own_looks_move_is_not_extrapolated(limit: int) -> None:
    """Some hundred KiB of buffers in five seconds would be hundreds of MiB in a month."""
    noise = round(growth_noise(limit or 16 * GIB))
    below, beyond = (
        sized(info(used_memory=GIB + grown, maxmemory=limit), info(maxmemory=limit))
        for grown in (noise - 5, noise + 5)
    )
    assert isinstance(below.growth_bytes_per_day, NotMeasured)
    assert "none beyond noise" in below.growth_bytes_per_day.because
    assert step(below, "growth") == 0
    assert step(beyond, "growth") == GIB
    assert noise >= LEAST_GROWTH


def test_large_fragmentation_and_small_servers() -> None:
    found = sized(info(mem_fragmentation_ratio="4.0"))
    assert step(found, "fragmentation") == round(GIB * (LARGEST_FRAGMENTATION - 1))
    small = sized(info(mem_fragmentation_ratio="15.0", used_memory=MIB, used_memory_peak=MIB))
    assert step(small, "fragmentation") == 0


def test_the_last_save_counts_where_it_copied_more() -> None:
    assert step(sized(info(rdb_last_cow_size=GIB // 2)), "copy-on-write reserve") == GIB // 2
    assert step(sized(info(rdb_last_cow_size=9 * GIB)), "copy-on-write reserve") == GIB


def test_nothing_has_to_grow_where_there_is_room() -> None:
    found = sized(info(used_memory=100 * MIB, used_memory_peak=100 * MIB, maxmemory=8 * GIB))
    assert found.recommended_maxmemory == 8 * GIB, "never below what is configured"
    roomy = sized(info(used_memory=GIB, maxmemory=0), memory_limit=8 * GIB)
    assert not roomy.grows
    assert roomy.limit_source == "configured memory limit"
    assert roomy.artefact.startswith("# The present limit holds")


def test_what_fits_nowhere_is_sharded() -> None:
    found = sized(info(used_memory=2_000 * GIB, used_memory_peak=2_000 * GIB))
    assert found.fits == []
    assert "shard" in found.artefact


def test_without_a_peak_nothing_is_sized() -> None:
    last = info()
    del last["used_memory_peak"]
    found = size_up(Samples(last, last, 5.0), InstanceResizeArguments(), read_catalogue(), NOW)
    assert isinstance(found, NotMeasured)


sizes = st.integers(1, 1 << 40)


@given(peak=sizes, used=sizes, limit=st.one_of(st.just(0), sizes), ratio=st.floats(0.1, 50))
def test_the_arithmetic_always_adds_up(peak: int, used: int, limit: int, ratio: float) -> None:
    found = sized(
        info(
            used_memory_peak=peak,
            used_memory=used,
            maxmemory=limit,
            mem_fragmentation_ratio=f"{ratio:.2f}",
        )
    )
    assert sum(each.bytes for each in found.steps) == found.needed_bytes
    assert all(each.bytes >= 0 for each in found.steps)
    reserve = step(found, "fragmentation") + step(found, "copy-on-write reserve")
    assert found.recommended_maxmemory + reserve <= found.needed_bytes + 1
    assert found.recommended_maxmemory >= max(limit, peak)
    assert found.needed_bytes >= peak * (1 + COPY_ON_WRITE)
    assert all(fit.memory_bytes >= found.needed_bytes for fit in found.fits)
    assert len({fit.provider for fit in found.fits}) == len(found.fits)


def test_the_catalogue_is_plausible_and_ships_with_the_package() -> None:
    catalogue = read_catalogue()
    assert not isinstance(catalogue, NotMeasured)
    known = {
        (each.provider, size.name): size.memory_bytes
        for each in catalogue.providers
        for size in each.sizes
    }
    assert known["ElastiCache", "cache.t4g.micro"] == GIB // 2
    assert known["ElastiCache", "cache.r7g.large"] / GIB == pytest.approx(13.07, abs=0.01)
    for each in catalogue.providers:
        ordered = [size.memory_bytes for size in each.sizes]
        assert ordered == sorted(ordered)
        assert each.source.startswith("https://")


def test_a_team_brings_its_own_sizes(tmp_path: Path) -> None:
    own = tmp_path / "sizes.yaml"
    row = {"name": "huge", "memory_bytes": 64 * GIB}
    own.write_text(
        yaml.safe_dump(
            {"date": "2026-01-01", "providers": [
                {"provider": "our rack", "source": "the wiki", "sizes": [row]}]}
        )
    )  # fmt: skip
    samples = Samples(info(), info(), 5.0)
    found = size_up(samples, InstanceResizeArguments(), read_catalogue(str(own)), NOW)
    assert isinstance(found, InstanceResize)
    assert [(fit.provider, fit.name) for fit in found.fits] == [("our rack", "huge")]


@pytest.mark.parametrize("content", ["secret: 1", "- [", "providers: []", "a" * 300_000, "\x00"])
def test_a_wrong_file_is_said_and_never_quoted(tmp_path: Path, content: str) -> None:
    own = tmp_path / "sizes.yaml"
    own.write_text(content)
    found = read_catalogue(str(own))
    assert isinstance(found, NotMeasured)
    assert "secret" not in found.because
    assert isinstance(read_catalogue("/etc/passwd"), NotMeasured)
    assert isinstance(read_catalogue(str(tmp_path / "none.yaml")), NotMeasured)


async def test_a_real_server_that_fills_up(build: str, start_server: Callable[..., Server]) -> None:
    server = start_server(build, "--maxmemory", "100mb")
    admin = redis.Redis(port=server.port)
    pipe = admin.pipeline(transaction=False)
    for i in range(800):
        pipe.set(f"k:{i}", "x" * 100_000)
    pipe.execute()
    connection = await open_for_reading(server.url)
    try:
        found = await instance_resize(connection, InstanceResizeArguments(seconds=1))
    finally:
        await connection.close()
    assert isinstance(found, InstanceResize)
    assert found.current_limit == 100 * MIB
    assert found.limit_source == "maxmemory"
    assert found.grows
    assert found.recommended_maxmemory > 100 * MIB
    assert found.fits[0].name == "cache.t4g.micro"
    for word in (
        "aws elasticache",
        "gcloud redis",
        "kubectl",
        "azurerm",
        "Terraform",
        "NAME",
        "maxmemory ",
    ):
        assert word in found.artefact
    assert len(found.artefact) < 6_000
