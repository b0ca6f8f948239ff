"""What each of the two identities may send: the guard in our client and the server's ACL rules.

One table for both, so that `redis-oncall acl` grants what the tools use and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from tools.bounded_commands import BOUNDED, form_refused

# Commands (or command|subcommand, in ACL spelling) of the read-only diagnosis identity.
# All are read-only, and none returns a value stored in a key.
READ_COMMANDS: frozenset[str] = frozenset(
    {
        "ping", "info", "dbsize", "role", "time", "scan", "type", "ttl", "pttl", "expiretime",
        "pexpiretime", "strlen", "hlen", "llen", "scard", "zcard", "xlen", "xpending",
        "randomkey", "object|encoding", "object|idletime", "object|freq", "memory|usage",
        "memory|stats", "memory|doctor", "memory|malloc-stats", "config|get", "client|list",
        "client|id", "client|info", "client|setname", "client|no-touch", "client|no-evict",
        "slowlog|get", "slowlog|len", "commandlog|get", "commandlog|len", "latency|latest",
        "latency|histogram", "latency|doctor", "latency|history", "xinfo|groups",
        "xinfo|consumers", "script|exists", "function|stats", "function|list", "acl|log",
        "acl|whoami", "module|list", "cluster|info", "cluster|nodes", "cluster|slots",
        "cluster|shards", "cluster|countkeysinslot", "cluster|slot-stats", "command|info",
        "hotkeys|get",
    }
)  # fmt: skip

# What the executor's identity may send besides READ_COMMANDS: what remedies send, nothing else.
WRITE_COMMANDS: frozenset[str] = frozenset(
    {
        "config|set", "client|kill", "memory|purge", "pexpireat", "persist", "script|flush",
        # What is removed is kept first, and removed only if it is as it was kept.
        "dump", "watch", "unwatch", "multi", "exec", "unlink", "restore",
        "function|dump", "function|load", "function|delete",
        "function|kill", "script|kill", "bgsave", "config|rewrite",
        # Streams, and collections in steps: what is removed is read first, to be kept.
        "xtrim", "xrange", "xack", "xclaim", "lrange", "lpop", "rpop", "lpush", "rpush", "hscan",
        "hmget", "hdel", "hsetnx", "hpexpiretime", "hpexpireat", "sscan", "srem", "sadd", "zrange",
        "zrem", "zadd",
    }
)  # fmt: skip

# CONFIG GET asks for these parameters only. Passwords are not among them and never will be:
# Redis cannot restrict CONFIG GET by parameter, so this list is the restriction.
CONFIG_PARAMETERS: tuple[str, ...] = (
    "maxmemory", "maxmemory-policy", "maxmemory-samples", "maxmemory-clients", "maxclients",
    "timeout", "tcp-keepalive", "hz", "dynamic-hz", "active-expire-effort", "activedefrag",
    "active-defrag-ignore-bytes", "active-defrag-threshold-lower",
    "active-defrag-threshold-upper", "active-defrag-cycle-min", "active-defrag-cycle-max",
    "client-output-buffer-limit", "client-query-buffer-limit", "proto-max-bulk-len",
    "repl-backlog-size", "repl-backlog-ttl", "repl-timeout", "repl-diskless-sync",
    "replica-read-only", "replica-serve-stale-data", "replica-ignore-maxmemory",
    "min-replicas-to-write", "appendonly", "appendfsync", "auto-aof-rewrite-percentage",
    "auto-aof-rewrite-min-size", "no-appendfsync-on-rewrite", "save",
    "stop-writes-on-bgsave-error", "rdbcompression", "databases", "slowlog-log-slower-than",
    "slowlog-max-len", "commandlog-execution-slower-than", "commandlog-slow-execution-max-len",
    "latency-monitor-threshold", "latency-tracking", "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire", "lazyfree-lazy-server-del", "lazyfree-lazy-user-del",
    "lazyfree-lazy-user-flush", "hash-max-listpack-entries", "hash-max-listpack-value",
    "hash-max-ziplist-entries", "hash-max-ziplist-value", "list-max-listpack-size",
    "list-max-ziplist-size", "set-max-intset-entries", "set-max-listpack-entries",
    "set-max-listpack-value", "zset-max-listpack-entries", "zset-max-listpack-value",
    "zset-max-ziplist-entries", "zset-max-ziplist-value", "stream-node-max-bytes",
    "stream-node-max-entries", "lfu-log-factor", "lfu-decay-time", "io-threads", "disable-thp",
    "oom-score-adj", "busy-reply-threshold", "lua-time-limit", "cluster-enabled",
)  # fmt: skip

# CONFIG SET changes these only: those that `tools/remedies/parameters.py` has a rule for. Never
# `save`, `appendonly` or `replica-read-only`, which are read.
CONFIG_REMEDIES: frozenset[str] = frozenset(
    {
        "maxmemory", "maxmemory-policy", "maxmemory-clients", "client-output-buffer-limit",
        "activedefrag", "appendfsync",
        "repl-backlog-size", "client-query-buffer-limit", "hz", "active-expire-effort",
        "active-defrag-cycle-max", "active-defrag-threshold-lower", "active-defrag-ignore-bytes",
        "auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size", "timeout",
        "hash-max-listpack-entries", "hash-max-ziplist-entries", "zset-max-listpack-entries",
        "zset-max-ziplist-entries", "hash-max-listpack-value", "hash-max-ziplist-value",
        "zset-max-listpack-value", "zset-max-ziplist-value", "set-max-listpack-entries",
        "set-max-intset-entries", "lazyfree-lazy-expire",
        "lazyfree-lazy-eviction", "lazyfree-lazy-server-del", "lazyfree-lazy-user-del",
    }
)  # fmt: skip

OVERWRITING = {"restore": 4, "function|load": 2}
"""Commands that take REPLACE, and the place of the first word that may be it."""

_CONTAINERS = frozenset(
    name.partition("|")[0] for name in READ_COMMANDS | WRITE_COMMANDS if "|" in name
)
CONFIG_SETTABLE = frozenset(CONFIG_PARAMETERS)


def takes_subcommand(first: object) -> bool:
    """Whether a command's next word is part of its name."""
    return _word(first) in _CONTAINERS


def acl_name(command: Sequence[object]) -> str:
    """`CONFIG GET maxmemory` -> `config|get`, as ACL rules spell it."""
    first = _word(command[0])
    return f"{first}|{_word(command[1])}" if first in _CONTAINERS and len(command) > 1 else first


@lru_cache(1024)
def _word(part: object) -> str:
    return (part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)).lower()


@dataclass(frozen=True)
class Permission:
    """What one identity may send."""

    name: str
    commands: frozenset[str]
    _unguarded: frozenset[object] = field(init=False, repr=False, compare=False)
    """As tools write them: `TYPE`, (`MEMORY`, `USAGE`). Any form of them may be sent."""

    def __post_init__(self) -> None:
        plain = [tuple(name.upper().split("|")) for name in self.commands - _GUARDS.keys()]
        names: list[object] = [words if len(words) > 1 else words[0] for words in plain]
        object.__setattr__(self, "_unguarded", frozenset(names))

    def refused(self, commands: Sequence[Sequence[object]]) -> tuple[int, str] | None:
        """Which of them may not be sent, and why: the first; None: all may."""
        # A look at a million keys asks this as often.
        plain = self._unguarded
        for place, command in enumerate(commands):
            if command[0] in plain or tuple(command[:2]) in plain:
                continue
            if (refusal := self.refusal(command)) is not None:
                return place, refusal
        return None

    def refusal(self, command: Sequence[object]) -> str | None:
        """Why this command may not be sent, or None."""
        name = acl_name(command)
        if name not in self.commands:
            return f"'{name}' is not on the {self.name} list of redis-oncall"
        guard = _GUARDS.get(name)
        return guard(name, command) if guard is not None else None


def _log_reset(_name: str, command: Sequence[object]) -> str | None:
    if any(_word(part) == "reset" for part in command[2:]):
        return "ACL LOG RESET is not allowed"  # no ACL rule can tell it from reading the log
    return None


def _kill_of_others(_name: str, command: Sequence[object]) -> str | None:
    if len(command) != 4 or _word(command[2]) != "id":
        return "CLIENT KILL other than by ID is not allowed: it hits bystanders"
    return None


def _slow_flush(_name: str, command: Sequence[object]) -> str | None:
    if [_word(part) for part in command[2:]] != ["async"]:
        return "SCRIPT FLUSH other than ASYNC is not allowed: it stalls every client"
    return None


def _overwriting(name: str, command: Sequence[object]) -> str | None:
    if "replace" in map(_word, command[OVERWRITING[name] :]):
        return f"{name.replace('|', ' ').upper()} with REPLACE is not allowed: it overwrites"
    return None


def _refused_parameter(name: str, command: Sequence[object]) -> str | None:
    get = name == "config|get"
    asked, allowed = (command[2:], CONFIG_SETTABLE) if get else (command[2::2], CONFIG_REMEDIES)
    for parameter in map(_word, asked):
        if parameter not in allowed:
            return f"{name.replace('|', ' ').upper()} of '{parameter}' is not allowed"
    return None


_GUARDS: dict[str, Callable[[str, Sequence[object]], str | None]] = {
    **dict.fromkeys(BOUNDED, form_refused),
    **dict.fromkeys(OVERWRITING, _overwriting),
    **dict.fromkeys(("config|get", "config|set"), _refused_parameter),
    "acl|log": _log_reset,
    "client|kill": _kill_of_others,
    "script|flush": _slow_flush,
}
"""Of commands that may be sent in some forms only; each has one."""

READ_ONLY = Permission("read-only", READ_COMMANDS)
READ_WRITE = Permission("remedy", READ_COMMANDS | WRITE_COMMANDS)
