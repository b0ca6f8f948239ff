"""`bench scan` on small keyspaces: what it counts. How fast anything is, no test can say."""

import ctypes.util
import shutil

import pytest

from evals import servers
from evals.bench import scan
from evals.bench.options import Options

pytestmark = [
    pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli (redis-tools)"),
    pytest.mark.soak,
]


async def test_every_byte_that_redis_cli_counts_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(scan, "BEGIN_SECONDS", 0.3)
    told: list[str] = []
    found = await scan.bench_scan(Options(runs=1, keys=5_000), told.append)
    builds = [build for build in scan.BUILDS if servers.binary(build) is not None]
    if ctypes.util.find_library("jemalloc") and "valkey-9.1" in builds:
        builds.append("valkey-9.1-jemalloc")
    assert [run["build"] for run in found["runs"]] == builds
    for run in found["runs"]:
        assert run["keys"] == 5_001
        assert run["bytes"] == run["bytes_by_memkeys"] > 1_000_000
        assert run["gentle_p99_over_idle"] > 0
        for mode in ("sizes", "all"):
            assert f"{mode}_faster_than_memkeys_{run['build']}" in found["ratios"]
    assert "redis-cli" in found["machine"]
    assert len(told) >= 4 * len(builds)


async def test_without_redis_cli_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(LookupError, match="redis-cli"):
        await scan.bench_scan(Options(), lambda _: None)
