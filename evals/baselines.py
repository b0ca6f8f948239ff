"""Answers that take no thought, for scale: if one comes close, the suite is too easy. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.incident import Culprit, CulpritKind
from evals.rates import rate_of
from evals.result import Result, same_culprit

MIB = 1024 * 1024
HEALTHY, UNKNOWN = "no-incident", "unknown"
Answer = tuple[str, Culprit]
"""Root cause and culprit."""
Readings = Mapping[str, Mapping[str, Any]]
_NOBODY = Culprit()


def baselines(results: Sequence[Result]) -> dict[str, float]:
    """Top-1 of each baseline."""
    return {name: detail["top1"] for name, detail in baseline_details(results).items()}


def baseline_details(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Top-1, culprit and false positives of each baseline, with intervals."""
    causes = Counter(cause for result in results for cause in result.truth.root_cause)
    # By name where two are as common, so that the order of the suite does not matter.
    most_common = min(causes, key=lambda cause: (-causes[cause], cause), default="")
    answers: dict[str, Callable[[Result], Answer]] = {
        "most_common": lambda _: (most_common, _NOBODY),
        "always_healthy": lambda _: (HEALTHY, _NOBODY),
        "always_unknown": lambda _: (UNKNOWN, _NOBODY),
        "threshold_rule": lambda result: threshold_page(result.readings),
    }
    return {name: _scored(answer, results) for name, answer in answers.items()}


def _scored(answer: Callable[[Result], Answer], results: Sequence[Result]) -> dict[str, Any]:
    answered = [(result.truth, *answer(result)) for result in results]
    rates = {
        "top1": rate_of(cause in truth.root_cause for truth, cause, _ in answered),
        "culprit": rate_of(
            same_culprit(who, truth.culprit) for truth, _, who in answered if truth.culprit
        ),
        "false_positive_rate": rate_of(
            cause != HEALTHY for truth, cause, _ in answered if not truth.is_incident
        ),
    }
    return {name: rate[0] for name, rate in rates.items()} | {
        "intervals": {name: list(rate) for name, rate in rates.items()}
    }


# -- the page of thresholds -----------------------------------------------------------------


def threshold_rule(readings: Readings) -> str:
    """What a page of thresholds would say."""
    return threshold_page(readings)[0]


def threshold_page(readings: Readings) -> Answer:
    """The first of the usual alerts (INFO and CLIENT LIST, no scan) that would fire.

    Thresholds are those of common Redis alert collections (awesome-prometheus-alerts, the mixins
    of redis_exporter): one number each, in the order in which a person would believe them.
    """
    for alert in (_persistence, _errors, _links, _clients, _memory, _load, _limits):
        if (found := alert(readings)) is not None:
            return found
    return HEALTHY, _NOBODY


def _persistence(readings: Readings) -> Answer | None:
    seen = readings.get("persistence", {})
    if seen.get("rdb_last_bgsave_status") == "err":
        return "misconf-bgsave-fail", Culprit(kind="config", name="dir")
    if seen.get("aof_last_write_status") == "err":
        return "aof-write-error", Culprit(kind="config", name="dir")
    if _number(seen, "aof_delayed_fsync") > 0:
        return "aof-fsync-stall", Culprit(kind="config", name="appendfsync")
    if _number(seen, "aof_rewrites") >= 5:
        name = "auto-aof-rewrite-percentage"
        return "aof-rewrite-loop", Culprit(kind="config", name=name)
    return None


_ERRORS = {
    "READONLY": "writes-to-replica",
    "BUSY": "busy-script",
    "NOPERM": "acl-auth-failures",
    "WRONGPASS": "acl-auth-failures",
    "NOAUTH": "acl-auth-failures",
}


def _errors(readings: Readings) -> Answer | None:
    for row in _rows(readings, "error_stats", "errors"):
        if row.get("code") in _ERRORS and _number(row, "per_second") > 0:
            return _ERRORS[str(row["code"])], _NOBODY
    return None


def _links(readings: Readings) -> Answer | None:
    stats, link = readings.get("stats", {}), readings.get("replication", {})
    if link.get("master_link_status") == "down":
        return "repl-link-broken", Culprit(kind="replica", name=str(link.get("master_host") or ""))
    if _number(stats, "sync_full_per_second") > 0 or _number(stats, "sync_full") >= 5:
        return "full-sync-loop", Culprit(kind="config", name="client-output-buffer-limit")
    if _number(stats, "sync_partial_err") >= 2:
        return "backlog-too-small", Culprit(kind="config", name="repl-backlog-size")
    return None


_BUFFERS = {
    "pubsub": "slow-pubsub-cob",
    "monitor": "monitor-left-on",
    "replica": "replica-output-buffer",
    "normal": "unread-reply-cob",
}


def _clients(readings: Readings) -> Answer | None:
    seen = readings.get("clients", {})
    rejected = _number(seen, "rejected_connections") or _number(
        readings.get("stats", {}), "rejected_connections"
    )
    if rejected > 0:
        most = next(iter(_rows(readings, "clients", "by_name")), {})
        return "maxclients-leak", Culprit(kind="client", name=str(most.get("key", "")))
    if _number(seen, "monitors") > 0:
        rows = [r for r in _rows(readings, "clients", "largest") if r.get("type") == "monitor"]
        return "monitor-left-on", _who(rows[0] if rows else {})
    for row in _rows(readings, "clients", "largest"):
        if _number(row, "output_bytes") > 10 * MIB:
            kind = str(row.get("type"))
            return _BUFFERS.get(kind, "unread-reply-cob"), _who(row)
        if _number(row, "input_bytes") > 10 * MIB:
            return "query-buffer-bloat", _who(row)
    if _number(seen, "blocked") > 20:
        return "blocked-clients", _NOBODY
    return None


def _who(row: Mapping[str, Any]) -> Culprit:
    kind: CulpritKind = "replica" if row.get("type") == "replica" else "client"
    name = str(row.get("label", ""))
    return Culprit(kind=kind, name=name) if name else _NOBODY


def _memory(readings: Readings) -> Answer | None:
    seen = readings.get("memory_info", {})
    if _number(seen, "active_defrag_running") > 0:
        return "defrag-cpu-burn", Culprit(kind="config", name="active-defrag-cycle-max")
    if _number(seen, "allocator_frag_ratio") > 1.5 and _number(seen, "allocator_frag_bytes") > MIB:
        return "fragmentation-after-deletes", _NOBODY
    if _number(seen, "allocator_rss_ratio") > 1.5 and _number(seen, "allocator_rss_bytes") > MIB:
        return "rss-not-returned-after-peak", _NOBODY
    if _number(seen, "mem_replication_backlog") > 0.3 * (_number(seen, "limit") or 1e99):
        return "oversized-backlog", Culprit(kind="config", name="repl-backlog-size")
    if _number(seen, "number_of_cached_scripts") > 500:
        return "lua-script-cache", _NOBODY
    if _number(readings.get("persistence", {}), "current_cow_size") > 0.3 * (
        _number(seen, "used_memory") or 1e99
    ):
        return "fork-cow-memory", _NOBODY
    if _number(readings.get("stats", {}), "expired_stale_perc") > 10:
        return "expired-backlog", Culprit(kind="config", name="hz")
    return None


def _load(readings: Readings) -> Answer | None:
    for row in _rows(readings, "slowlog", "entries"):
        command = str(row.get("command", "")).lower()
        if command in ("del", "unlink"):
            return "bigkey-delete-stall", Culprit(kind="key", name=str(row.get("key", "")))
        if command not in ("", "config", "debug"):
            return "on-command", Culprit(kind="client", name=str(row.get("client_name", "")))
    if _number(readings.get("stats", {}), "cpu_cores") > 0.8:
        return "hot-key", _NOBODY
    return None


def _limits(readings: Readings) -> Answer | None:
    memory = readings.get("memory_info", {})
    policy = str(memory.get("maxmemory_policy", ""))
    if _number(readings.get("stats", {}), "evicted_keys") > 0:
        return "eviction-thrash", Culprit(kind="config", name="maxmemory")
    if _number(memory, "pressure") >= 0.85:
        if memory.get("maxmemory") == 0:
            return "maxmemory-unset", Culprit(kind="config", name="maxmemory")
        cause = "volatile-policy-no-ttl" if policy.startswith("volatile") else "noeviction-oom"
        return cause, Culprit(kind="config", name="maxmemory-policy")
    return None


def _rows(readings: Readings, tool: str, table: str) -> list[Mapping[str, Any]]:
    rows = readings.get(tool, {}).get(table, [])
    return rows if isinstance(rows, list) else []


def _number(reading: Mapping[str, Any], name: str) -> float:
    """0 for what was not measured: a page of thresholds knows no better."""
    value = reading.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
