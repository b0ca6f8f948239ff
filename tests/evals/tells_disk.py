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
}
