"""What is known of Redis commands by name: which write, which read, and where the key is."""

# Lower case. All of these take a key as their first argument.
WRITES_KEY_FIRST: frozenset[str] = frozenset(
    {
        "append", "bitfield", "blmove", "blpop", "brpop", "brpoplpush", "bzpopmax", "bzpopmin",
        "copy", "decr", "decrby", "del", "expire", "expireat", "geoadd", "geosearchstore",
        "getdel", "getex", "getset", "hdel", "hexpire", "hexpireat", "hgetdel", "hgetex",
        "hincrby", "hincrbyfloat", "hmset", "hpersist", "hpexpire", "hpexpireat", "hset", "hsetex",
        "hsetnx", "incr", "incrby", "incrbyfloat", "linsert", "lmove", "lpop", "lpush", "lpushx",
        "lrem", "lset", "ltrim", "move", "mset", "msetnx", "persist", "pexpire", "pexpireat",
        "pfadd", "pfmerge", "psetex", "rename", "renamenx", "restore", "rpop", "rpoplpush",
        "rpush", "rpushx", "sadd", "sdiffstore", "set", "setbit", "setex", "setnx", "setrange",
        "sinterstore", "smove", "sort", "spop", "srem", "sunionstore", "unlink", "vadd", "vrem",
        "xack", "xadd", "xautoclaim", "xclaim", "xdel", "xsetid", "xtrim", "zadd", "zdiffstore",
        "zincrby", "zinterstore", "zpopmax", "zpopmin", "zrangestore", "zrem", "zremrangebylex",
        "zremrangebyrank", "zremrangebyscore", "zunionstore",
    }
)  # fmt: skip
READS_KEY_FIRST: frozenset[str] = frozenset(
    {
        "bitcount", "bitfield_ro", "bitpos", "dump", "exists", "expiretime", "geodist", "geohash",
        "geopos", "georadius_ro", "georadiusbymember_ro", "geosearch", "get", "getbit",
        "getrange", "hexists", "hget", "hgetall", "hkeys", "hlen", "hmget", "hpttl",
        "hrandfield", "hscan", "hstrlen", "httl", "hvals", "lcs", "lindex", "llen", "lpos",
        "lrange", "mget", "pexpiretime", "pfcount", "pttl", "scard", "sdiff", "sinter",
        "sismember", "smembers", "smismember", "sort_ro", "srandmember", "sscan", "strlen",
        "substr", "sunion", "touch", "ttl", "type", "vsim", "watch", "xlen", "xpending",
        "xrange", "xrevrange", "zcard", "zcount", "zlexcount", "zmscore", "zrandmember",
        "zrange", "zrangebylex", "zrangebyscore", "zrank", "zrevrange", "zrevrangebylex",
        "zrevrangebyscore", "zrevrank", "zscan", "zscore",
    }
)  # fmt: skip
KEY_FIRST = WRITES_KEY_FIRST | READS_KEY_FIRST

WRITES: frozenset[str] = WRITES_KEY_FIRST | {
    "bitop", "blmpop", "bzmpop", "flushall", "flushdb", "georadius", "georadiusbymember", "lmpop",
    "migrate", "swapdb", "xgroup|create", "xgroup|destroy", "xreadgroup", "zmpop",
}  # fmt: skip
READS: frozenset[str] = (READS_KEY_FIRST - {"watch"}) | {
    "keys", "randomkey", "scan", "sintercard", "xread", "zdiff", "zinter", "zintercard", "zunion",
}  # fmt: skip

# Commands whose first argument is a subcommand.
CONTAINERS: frozenset[str] = frozenset(
    {
        "acl", "client", "cluster", "command", "commandlog", "config", "debug", "function",
        "latency", "memory", "module", "object", "pubsub", "script", "slowlog", "xgroup", "xinfo",
    }
)  # fmt: skip
# Of those, the ones whose subcommand is followed by a key.
KEY_AFTER_SUBCOMMAND: frozenset[str] = frozenset({"memory|usage", "object", "xgroup", "xinfo"})
# What an investigation sends, and hardly anybody else: not what loads a server.
DIAGNOSTIC: frozenset[str] = frozenset(
    {
        "acl", "auth", "client", "command", "commandlog", "config", "function", "hello", "info",
        "latency", "memory", "module", "ping", "role", "slowlog", "time", "xinfo",
    }
)  # fmt: skip


def is_diagnostic(command: str) -> bool:
    """Whether a command of commandstats (`config|get`) is one of diagnosis."""
    return command.partition("|")[0] in DIAGNOSTIC
