"""Alerts that monitoring systems send: the symptom in their words, never a cause."""

SUMMARIES: dict[str, str] = {
    "RedisMemoryHigh": "Redis memory is above 85 % of its limit",
    "RedisOutOfMemoryErrors": "writes to Redis fail with OOM",
    "RedisLatencyHigh": "p99 of Redis commands is above 50 ms for 5 minutes",
    "RedisEvictions": "Redis evicts keys",
    "RedisRssHigh": "resident memory of Redis is above 85 % of the container's limit",
    "RedisFragmentationHigh": "Redis memory fragmentation ratio is above 1.5",
    "RedisCpuHigh": "Redis uses more than 90 % of a core for 5 minutes",
    "RedisWritesFailing": "more than 5 % of the commands to Redis are answered with errors",
    "RedisSaveFailed": "the last background save of Redis failed",
    "RedisDiskIoHigh": "disk writes on the Redis host are above 50 MB/s for 10 minutes",
    "RedisForksOften": "Redis forks more than once a minute",
    "RedisReplicationBroken": "a Redis replica has lost its primary",
    "RedisReplicaLag": "a Redis replica is far behind its primary",
    "RedisFullSyncs": "Redis replicas resynchronise fully again and again",
    "RedisConnectionsRejected": "Redis refuses new connections",
    "RedisTooManyConnections": "Redis has more than 90 % of its connection slots in use",
    "RedisBlockedClients": "more than 10 Redis clients are blocked",
    "RedisErrorsHigh": "Redis answers with errors",
    "RedisClusterNodeHot": "one node of the Redis cluster has far more load than the others",
    "RedisDown": "the Redis exporter cannot reach its target",
}
"""Alert name -> its summary."""
