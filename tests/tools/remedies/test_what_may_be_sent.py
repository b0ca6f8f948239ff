"""The guard of the executor's connection: what a remedy sends, and nothing beside it."""

import pytest

from tools.permissions import CONFIG_PARAMETERS, CONFIG_REMEDIES, READ_WRITE
from tools.remedies.parameters import RULES, largest_maxmemory
from tools.remedies.situation import Situation
from tools.remedies.vitals import MIB, Vitals


def test_exactly_the_parameters_with_a_rule_may_be_set_and_each_is_readable() -> None:
    assert set(RULES) == CONFIG_REMEDIES
    assert set(CONFIG_PARAMETERS) >= CONFIG_REMEDIES


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "SET", "appendonly", "no"),
        ("CONFIG", "SET", b"save", ""),
        ("config", "set", "maxmemory", "1gb", "requirepass", "x"),
        ("CLIENT", "KILL", "TYPE", "pubsub"),
        ("CLIENT", "KILL", "127.0.0.1:1"),
        ("CLIENT", "KILL", "ID", 7, "SKIPME", "no"),
        ("CLIENT", "KILL", "USER", "default"),
        ("SCRIPT", "FLUSH"),
        ("SCRIPT", "FLUSH", "SYNC"),
        ("SCRIPT", "LOAD", "return 1"),
        ("RESTORE", "session:1", 0, b"", "ABSTTL", "REPLACE"),
        ("RESTORE", "session:1", 0, b"", b"replace"),
        ("FUNCTION", "LOAD", "REPLACE", "code"),
        ("FUNCTION", "FLUSH"),
        ("FUNCTION", "RESTORE", b"", "FLUSH"),
        ("XTRIM", "jobs", "MAXLEN", 0),
        ("XTRIM", "jobs", "MAXLEN", "~", 0, "LIMIT", 10),
        ("XTRIM", "jobs", "MINID", "=", "9-0", "LIMIT", 10),
        ("XTRIM", "jobs", "MINID", "~", "9-0"),
        ("XTRIM", "jobs", "MINID", "~", "9-0", "LIMIT", 0),
        ("XTRIM", "jobs", "MINID", "~", "9-0", "LIMIT", 10_001),
        ("XTRIM", "jobs", "MINID", "~", "9-0", "LIMIT", 10, "DELREF"),
        ("XRANGE", "jobs", "-", "+"),
        ("XRANGE", "jobs", "-", "+", "COUNT", 1_001),
        ("XCLAIM", "jobs", "g", "c", 0, "1-0"),
        ("XACK", "jobs", "g", *["1-0"] * 1_100),
        ("XGROUP", "DESTROY", "jobs", "g"),
        ("XGROUP", "DELCONSUMER", "jobs", "g", "c"),
        ("XDEL", "jobs", "1-0"),
        ("LTRIM", "feed", 1, 0),
        ("LRANGE", "feed", 0, -1),
        ("LRANGE", "feed", 0, 1_000),
        ("LRANGE", "feed", -1_001, -1),
        ("LRANGE", "feed", 5, 1),
        ("RPOP", "feed"),
        ("RPOP", "feed", -1),
        ("LPOP", "feed", 1_001),
        ("ZRANGE", "board", 0, -1, "WITHSCORES"),
        ("ZRANGE", "board", 0, 5, "REV"),
        ("ZRANGE", "board", "-inf", "+inf", "BYSCORE"),
        ("ZREM", "board"),
        ("ZADD", "board", 1, "m"),
        ("HSCAN", "h", 0),
        ("HSCAN", "h", 0, "COUNT", 100_000),
        ("HSCAN", "h", 0, "MATCH", "COUNT", "COUNT", 100_000),
        ("HGETALL", "h"),
        ("HDEL", "h", *["f"] * 1_100),
        ("DEL", "session:1"),
        ("FLUSHALL",),
    ],
)
def test_what_no_remedy_sends_is_refused(command: tuple[str | bytes | int, ...]) -> None:
    assert READ_WRITE.refusal(command) is not None


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "SET", "maxmemory", 1),
        ("CLIENT", "KILL", "ID", 7),
        ("PEXPIREAT", b"k", 1, "NX"),
        ("PERSIST", b"k"),
        ("MEMORY", "PURGE"),
        ("SCRIPT", "FLUSH", "ASYNC"),
        ("DUMP", b"k"),
        ("UNLINK", b"k"),
        ("RESTORE", b"REPLACE", 0, b"replace", "ABSTTL"),
        ("FUNCTION", "LOAD", b"code"),
        ("CONFIG", "GET", "save", "appendonly"),
        ("XTRIM", b"jobs", "MINID", "~", "9-0", "LIMIT", 10_000),
        ("XRANGE", b"jobs", "(1-0", "+", "COUNT", 1_000),
        ("XCLAIM", "jobs", "g", "c", 0, *["1-0"] * 500, "TIME", 1, "RETRYCOUNT", 2, "JUSTID"),
        ("LRANGE", b"MATCH", -1_000, -1),
        ("ZRANGE", "board", 0, 999, "WITHSCORES"),
        ("HSCAN", "h", 0, "MATCH", "COUNT", "COUNT", 1_000, "NOVALUES"),
        ("SSCAN", "s", 7, "COUNT", 10),
        ("HDEL", "h", b"COUNT"),
    ],
)
def test_what_remedies_send_is_allowed(command: tuple[str | bytes | int, ...]) -> None:
    assert READ_WRITE.refusal(command) is None


def test_in_a_container_host_memory_is_nobodys_limit() -> None:
    """A limit of the host's size would have the kernel kill the server."""
    fields = {"used_memory": str(MIB), "used_memory_rss": str(MIB), "process_id": "1"}
    vitals = Vitals(fields | {"total_system_memory": str(64 * 1024 * MIB)})
    assert largest_maxmemory(vitals, None) is None
    assert largest_maxmemory(vitals, 1024 * MIB) == 1024 * MIB * 4 // 5
    (fits,) = RULES["maxmemory"].checks(Situation("maxmemory", str(MIB), str(9 * MIB), vitals))[1:]
    assert fits.holds is None
    assert "memory_limit" in fits.because
