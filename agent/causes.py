"""The catalogued root causes: the ids of FAILURE_MODES.md by section, as data.

Production shows causes that nobody listed; for those the diagnosis is `unknown`.
"""

SECTIONS: dict[str, tuple[str, ...]] = {
    "memory": (
        "missing-ttl-prefix-leak", "single-bigkey", "small-string-overhead",
        "encoding-conversion", "stream-unbounded", "stream-pel-growth", "slow-pubsub-cob",
        "monitor-left-on", "unread-reply-cob", "query-buffer-bloat", "replica-output-buffer",
        "oversized-backlog", "fragmentation-after-deletes", "rss-not-returned-after-peak",
        "defrag-cpu-burn", "fork-cow-memory", "lua-script-cache", "module-memory",
        "expired-backlog", "organic-growth",
    ),
    "limits": (
        "noeviction-oom", "volatile-policy-no-ttl", "eviction-thrash", "maxmemory-unset",
    ),
    "persistence": (
        "misconf-bgsave-fail", "aof-write-error", "aof-rewrite-loop", "aof-fsync-stall",
    ),
    "latency": (
        "on-command", "hot-key", "bigkey-delete-stall", "thp-or-swap", "busy-script",
    ),
    "replication": (
        "repl-link-broken", "full-sync-loop", "backlog-too-small", "writes-to-replica",
    ),
    "clients": ("maxclients-leak", "blocked-clients", "acl-auth-failures"),
    "cluster": ("slot-skew-hot-shard",),
    "no incident": (
        "cache-full-by-design", "wrong-threshold-false-alarm", "transient-fork-spike",
    ),
}  # fmt: skip
CATALOGUED: frozenset[str] = frozenset(cause for ids in SECTIONS.values() for cause in ids)
CONDITIONS: frozenset[str] = frozenset(SECTIONS["limits"])
"""What a server does once memory is full: contributes when a cause is evidenced."""
NOT_INCIDENTS: frozenset[str] = frozenset(SECTIONS["no incident"])
