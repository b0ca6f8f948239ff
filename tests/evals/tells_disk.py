"""Tells of persistence and latency."""

from tests.evals.tells_memory import Tell

TELLS: dict[str, Tell] = {
    "misconf-bgsave-fail": lambda s, _: (
        s["rdb_last_bgsave_status"] == "err" and s["errorstat_MISCONF"]["count"] > 0
    ),
    "aof-write-error": lambda s, _: (
        s["aof_last_write_status"] == "err" and s["errorstat_MISCONF"]["count"] > 0
    ),
    "aof-rewrite-loop": lambda s, _: s["total_forks"] >= 4,
    "aof-fsync-stall": lambda s, _: any(
        event[0] == b"aof-fsync-always" for event in s["client"].latency_latest()
    ),
    "on-command": lambda s, _: any(
        s[f"cmdstat_{name}"]["usec_per_call"] > 300
        for name in ("keys", "smembers", "sort", "eval")
        if f"cmdstat_{name}" in s
    ),
    "hot-key": lambda s, key: s["client"].object("freq", key) > 100,
    "bigkey-delete-stall": lambda s, _: (
        s["cmdstat_del"]["usec_per_call"] > 300 or s["expired_keys"] > 0
    ),
    "thp-or-swap": lambda s, _: s["maxmemory"] == 0,
}
