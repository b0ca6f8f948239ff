"""The alert rules we ship: the runbooks' own thresholds, tried by promtool, series by series."""

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.incident import Alert
from agent.runbook import AlertThreshold
from agent.runbook_library import load_library, match
from api.entries import duration

RULES = Path(__file__).parents[2] / "api" / "deploy" / "redis-alerts.yml"
STEP = 30
"""Seconds between two samples."""
AFTERWARDS = 600
"""Seconds after the time a rule waits for: by then a rate over 5 minutes is what it is."""
LIBRARY = load_library()


def still(value: float) -> str:
    return f"{value}+0x200"


def counted(per_second: float) -> str:
    return f"0+{per_second * STEP}x200"


Series = Callable[[float], dict[str, str]]
CASES: dict[str, tuple[str, Series]] = {
    "RedisMemoryHigh": (
        "memory_info.pressure",
        lambda v: {"redis_memory_used_bytes": still(v * 1e9), "redis_memory_max_bytes": still(1e9)},
    ),
    "RedisMemoryCritical": (
        "memory_info.pressure",
        lambda v: {"redis_memory_used_bytes": still(v * 1e9), "redis_memory_max_bytes": still(1e9)},
    ),
    "RedisOutOfMemoryErrors": (
        "error_stats.oom_per_second", lambda v: {'redis_errors_total{err="OOM"}': counted(v)}
    ),
    "RedisMaxmemoryUnset": (
        "memory_info.maxmemory", lambda v: {"redis_memory_max_bytes": still(int(v))}
    ),
    "RedisKeyEviction": (
        "stats.evicted_keys_per_second", lambda v: {"redis_evicted_keys_total": counted(v)}
    ),
    "RedisHitRatioLow": (
        "stats.hit_ratio",
        lambda v: {
            "redis_keyspace_hits_total": counted(v * 1_000),
            "redis_keyspace_misses_total": counted((1 - v) * 1_000),
        },
    ),
    "RedisMemoryFragmentationHigh": (
        "memory_info.allocator_frag_ratio",
        lambda v: {
            "redis_allocator_frag_ratio": still(v), "redis_allocator_frag_bytes": still(1 << 30)
        },
    ),
    "RedisRssKept": (
        "memory_info.allocator_rss_ratio",
        lambda v: {
            "redis_allocator_rss_ratio": still(v), "redis_allocator_rss_bytes": still(1 << 30)
        },
    ),
    "RedisSwapped": (
        "memory_info.mem_fragmentation_ratio",
        lambda v: {
            "redis_mem_fragmentation_ratio": still(v), "redis_memory_used_bytes": still(1 << 30)
        },
    ),
    "RedisExpiredBacklog": (
        "stats.expired_stale_perc", lambda v: {"redis_expired_stale_percentage": still(v)}
    ),
    "RedisScriptCache": (
        "scripts.number_of_cached_scripts", lambda v: {"redis_number_of_cached_scripts": still(v)}
    ),
    "RedisClientOutputBuffer": (
        "clients.output_bytes", lambda v: {"redis_client_recent_max_output_buffer_bytes": still(v)}
    ),
    "RedisClientInputBuffer": (
        "clients.input_bytes", lambda v: {"redis_client_recent_max_input_buffer_bytes": still(v)}
    ),
    "RedisConnectionsRejected": (
        "clients.rejected_connections",
        lambda v: {"redis_rejected_connections_total": counted(v / 100)},
    ),
    "RedisBlockedClients": ("clients.blocked", lambda v: {"redis_blocked_clients": still(v)}),
    "RedisCpuHigh": (
        "stats.cpu_cores",
        lambda v: {
            "redis_cpu_sys_seconds_total": counted(v * 0.25),
            "redis_cpu_user_seconds_total": counted(v * 0.75),
        },
    ),
    "RedisDefragmenting": (
        "memory_info.active_defrag_running", lambda v: {"redis_active_defrag_running": still(v)}
    ),
    "RedisSaveFailed": (
        "persistence.rdb_last_bgsave_status", lambda v: {"redis_rdb_last_bgsave_status": still(v)}
    ),
    "RedisAofWriteFailed": (
        "persistence.aof_last_write_status", lambda v: {"redis_aof_last_write_status": still(v)}
    ),
    "RedisSaveSlow": (
        "persistence.rdb_last_bgsave_time_sec",
        lambda v: {"redis_rdb_last_bgsave_duration_sec": still(v)},
    ),
    "RedisAofFsyncPending": (
        "persistence.aof_pending_bio_fsync", lambda v: {"redis_aof_pending_bio_fsync": still(v)}
    ),
    "RedisAofFsyncSlow": (
        "persistence.aof_delayed_fsync", lambda v: {"redis_aof_delayed_fsync": counted(v / 100)}
    ),
    "RedisForkSlow": (
        "stats.latest_fork_usec", lambda v: {"redis_latest_fork_seconds": still(v / 1e6)}
    ),
    "RedisReplicationBroken": (
        "replication.master_link_status",
        lambda v: {'redis_master_link_up{master_host="m"}': still(v)},
    ),
    "RedisReplicationLag": (
        "replication.replicas.0.lag_bytes",
        lambda v: {
            "redis_master_repl_offset": still(1e9 + v),
            'redis_connected_slave_offset_bytes{slave_ip="a",slave_state="online"}': still(1e9),
            'redis_connected_slave_offset_bytes{slave_ip="b",slave_state="wait_bgsave"}': still(0),
        },
    ),
    "RedisFullSyncs": (
        "stats.sync_full_per_second", lambda v: {"redis_replica_resyncs_full": counted(v / 100)}
    ),
    "RedisWritesFailing": (
        "error_stats.errors.0.per_second",
        lambda v: {'redis_errors_total{err="READONLY"}': counted(v)},
    ),
}  # fmt: skip
"""Rule -> what it is about, in the runbooks' words, and series in which that has a value."""
NO_RULE = {
    "acl_log.total_denials": "no metric",
    "bigkeys.top_by_bytes.0.share_of_dataset": "no metric",
    "clients.monitors": "no metric",
    "cluster.fair_share_of_slots": "no metric",
    "cluster.fullest.0.share_of_keys": "no metric",
    "latency_latest.events.0.longest_milliseconds": "no metric unless the server's monitor is on",
    "memory_info.mem_replication_backlog": "no metric",
    "persistence.current_cow_size": "no metric",
    "scripts.blocked_by": "the exporter cannot ask then either: RedisDown",
    "slowlog.groups.0.longest_microseconds": "no metric of the slowest, only of the last",
    "stats.total_forks_per_second": "no metric",
    "stream_info.streams.0.length": "only for streams the exporter is told of",
    "stream_info.streams.0.pending": "only for streams the exporter is told of",
    "keyspace.expires_share": "wrong for every store that is meant to keep its keys",
}  # fmt: skip
"""Thresholds of runbooks that redis_exporter's metrics cannot tell, and why."""
NO_THRESHOLD = {"RedisDown": "busy-script"}
"""The other way round: nothing to compare with."""


@functools.cache
def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def thresholds() -> Iterator[tuple[str, AlertThreshold]]:
    for book in LIBRARY.runbooks:
        for threshold in book.front.alerts:
            yield book.id, threshold


def asked_for(alert: str) -> AlertThreshold:
    """What the rule's runbook says of the same, with the same severity."""
    rule, (when, _) = rules()[alert], CASES[alert]
    (found,) = [
        threshold
        for book, threshold in thresholds()
        if book == rule["annotations"]["runbook"]
        and (threshold.when, threshold.severity) == (when, rule["labels"]["severity"])
    ]
    return found


def test_every_threshold_of_a_runbook_has_a_rule_or_a_reason() -> None:
    told = {when for when, _ in CASES.values()}
    asked = {threshold.when for _, threshold in thresholds()}
    assert asked - told == set(NO_RULE)
    assert told - asked == set()
    assert set(rules()) == set(CASES) | set(NO_THRESHOLD)


def test_no_critical_alert_comes_later_than_a_runbook_asks() -> None:
    """Of one measure, the lowest critical threshold of all runbooks is the rule's."""
    lowest: dict[str, float] = {}
    for _, threshold in thresholds():
        if threshold.severity == "critical" and threshold.above is not None:
            known = lowest.get(threshold.when, threshold.above)
            lowest[threshold.when] = min(known, threshold.above)
    for alert, (when, _) in CASES.items():
        if rules()[alert]["labels"]["severity"] == "critical" and when in lowest:
            assert asked_for(alert).above == lowest[when], alert


@pytest.mark.parametrize("alert", [*CASES, *NO_THRESHOLD])
def test_an_alert_finds_its_runbook(alert: str) -> None:
    rule = rules()[alert]
    fired = Alert(
        source="alertmanager", name=alert, fingerprint="f", starts_at=datetime.now(UTC),
        labels=rule["labels"], annotations=rule["annotations"],
    )  # fmt: skip
    assert rule["annotations"]["runbook"] in [found.id for found in match(LIBRARY, [fired])]


def test_rules_fire_past_the_runbooks_threshold_and_not_before_their_time(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here (Debian package prometheus)")
    content = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{STEP}s",
        "tests": [tried(alert, series) for alert, (_, series) in CASES.items()],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4_000:]


def tried(alert: str, series: Series) -> dict[str, Any]:
    """One server just beyond the threshold and one just short of it."""
    asked = asked_for(alert)
    waits = int(duration(asked.for_).total_seconds())
    ill, well = around(asked)
    moments = [(waits + AFTERWARDS, ["ill"])]
    if waits:
        moments.append((waits - STEP, []))
    return {
        "interval": f"{STEP}s",
        "input_series": [
            {"series": on(name, server), "values": values}
            for server, value in (("ill", ill), ("well", well))
            for name, values in series(value).items()
        ],
        "promql_expr_test": [
            {
                "expr": f'count by (instance) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{seconds}s",
                "exp_samples": [
                    {"labels": f'{{instance="{server}"}}', "value": 1} for server in firing
                ],
            }
            for seconds, firing in moments
        ],
    }


def around(asked: AlertThreshold) -> tuple[float, float]:
    """Just beyond the threshold and just short of it; a state that is bad is 0, a good one 1."""
    if asked.equals is not None:
        return 0, 1
    if asked.below is not None:
        return asked.below * 0.98, asked.below * 1.02
    assert asked.above is not None
    return (asked.above * 1.02, asked.above * 0.98) if asked.above else (1, 0)


def on(series: str, server: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{instance="{server}"{"," if labels else ""}{labels}}}'
