"""What helps and what harms, by the catalogue's own "Fix" and "Wrong", on the servers it was."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from agent.causes import CATALOGUED, NOT_INCIDENTS
from agent.incident import Action
from evals.harm import Server, in_bytes, judge_all, knowledge, missing
from evals.truth import Truth
from tools.remedies.advice_texts import ADVICE
from tools.remedies.catalogue import REMEDIES

CLIENT = [["CLIENT", "KILL", "ID", "7"]]
EXPIRE = [["SCAN", "0"], ["PEXPIREAT", "<each key>", "<when>", "NX"]]


def truth(*causes: str, culprit: tuple[str, str] = ("none", ""), **more: Any) -> Truth:
    return Truth.model_validate(
        {
            "root_cause": list(causes),
            "culprit": [{"kind": culprit[0], "name": culprit[1]}],
            "contributing": [],
            "is_incident": causes[0] not in {*NOT_INCIDENTS, "no-incident"},
            "fault": causes[0],
            "build": "redis-7.0",
            "seed": 1,
        }
        | more
    )


def action(kind: str, commands: list[list[str]] | None = None, **arguments: Any) -> Action:
    return Action(
        id="A1",
        fingerprint="f",
        kind=kind,
        title=kind,
        arguments=arguments,
        risk="R1",
        executable=kind not in ("advise_application", "instance_resize"),
        commands=commands or [],
    )


def setting(parameter: str, value: str, now: str = "") -> Action:
    command = [["CONFIG", "SET", parameter, value]]
    return action("set_config", command, parameter=parameter, value=value, expected=now)


def advice(topic: str) -> Action:
    return action("advise_application", topic=topic)


def kill(name: str = "w-1") -> Action:
    return action("kill_client", CLIENT, id=7, name=name, address="127.0.0.1:5")


def expire(prefix: str) -> Action:
    return action("expire_prefix", EXPIRE, prefix=prefix)


LIMITED = Server("noeviction", 50_000_000, {"maxmemory": "60000000", "repl-backlog-size": "9mb"})
CACHE = Server("allkeys-lru", 50_000_000, {"maxmemory": "60000000"})
GOOD, BAD, WORDS, NEITHER = "correct", "harmful", "harmful advice", "other"


@pytest.mark.parametrize(
    ("cause", "proposed", "verdict"),
    [
        ("missing-ttl-prefix-leak", advice("missing-ttl-prefix-leak"), GOOD),
        ("missing-ttl-prefix-leak", setting("maxmemory", "90000000"), BAD),  # "only"
        ("single-bigkey", advice("single-bigkey"), GOOD),
        ("single-bigkey", action("x", [["HDEL", "k", "f"]]), GOOD),
        ("single-bigkey", action("x", [["HGETALL", "k"]]), BAD),
        ("single-bigkey", action("x", [["DEL", "k"]]), BAD),
        ("small-string-overhead", setting("activedefrag", "yes"), BAD),
        ("encoding-conversion", setting("hash-max-listpack-entries", "128"), GOOD),
        ("encoding-conversion", setting("hash-max-listpack-entries", "100000"), BAD),
        ("stream-unbounded", action("trim_stream", [["XTRIM", "s", "MINID", "~", "1-0"]]), GOOD),
        ("stream-unbounded", action("x", [["UNLINK", "s"]]), BAD),
        ("stream-pel-growth", action("x", [["XTRIM", "s", "MAXLEN", "0"]]), BAD),
        ("stream-pel-growth", action("x", [["XGROUP", "DESTROY", "s", "g"]]), BAD),
        ("stream-pel-growth", action("x", [["XAUTOCLAIM", "s", "g", "c", "60000", "0"]]), GOOD),
        ("slow-pubsub-cob", kill(), GOOD),
        ("slow-pubsub-cob", setting("client-output-buffer-limit", "pubsub 32mb 8mb 60"), GOOD),
        ("slow-pubsub-cob", setting("client-output-buffer-limit", "pubsub 0 0 0"), BAD),
        ("slow-pubsub-cob", action("x", [["CLIENT", "KILL", "TYPE", "pubsub"]]), BAD),
        ("slow-pubsub-cob", setting("maxmemory", "90000000"), BAD),
        ("slow-pubsub-cob", advice("data-cleanup"), WORDS),
        ("slow-pubsub-cob", action("instance_resize"), WORDS),
        ("monitor-left-on", action("x", [["MONITOR"]]), BAD),
        ("unread-reply-cob", setting("maxmemory-clients", "10%"), GOOD),
        ("query-buffer-bloat", setting("client-query-buffer-limit", "33554432"), GOOD),
        ("query-buffer-bloat", expire("page:"), BAD),
        ("replica-output-buffer", setting("client-output-buffer-limit", "replica 0 0 0"), BAD),
        ("oversized-backlog", setting("repl-backlog-size", "4194304"), GOOD),
        ("oversized-backlog", setting("repl-backlog-size", "64mb"), NEITHER),
        ("oversized-backlog", setting("repl-backlog-size", "16384"), BAD),
        ("fragmentation-after-deletes", setting("activedefrag", "yes"), GOOD),
        ("fragmentation-after-deletes", expire("page:"), BAD),
        ("rss-not-returned-after-peak", action("memory_purge", [["MEMORY", "PURGE"]]), GOOD),
        ("rss-not-returned-after-peak", action("x", [["SHUTDOWN"]]), BAD),
        ("defrag-cpu-burn", setting("active-defrag-cycle-max", "10", "50"), GOOD),
        ("defrag-cpu-burn", setting("active-defrag-threshold-lower", "0"), BAD),
        ("fork-cow-memory", setting("maxmemory", "90000000"), BAD),
        ("lua-script-cache", action("flush_scripts", [["SCRIPT", "FLUSH", "ASYNC"]]), GOOD),
        ("lua-script-cache", action("flush_scripts", [["SCRIPT", "FLUSH"]]), BAD),
        ("module-memory", action("x", [["MODULE", "UNLOAD", "search"]]), BAD),
        ("expired-backlog", setting("hz", "50", "1"), GOOD),
        ("expired-backlog", setting("maxmemory-policy", "volatile-ttl"), BAD),
        ("organic-growth", setting("maxmemory", "90000000"), GOOD),
        ("organic-growth", kill(), BAD),
        ("noeviction-oom", setting("maxmemory", "90000000"), GOOD),
        ("noeviction-oom", setting("maxmemory", "40mb"), BAD),  # below what is in use
        ("noeviction-oom", setting("maxmemory", "0"), BAD),
        ("noeviction-oom", setting("maxmemory-policy", "allkeys-lru"), BAD),
        ("volatile-policy-no-ttl", expire("page:"), GOOD),
        ("eviction-thrash", setting("maxmemory", "55000000"), GOOD),
        ("maxmemory-unset", setting("maxmemory", "90000000"), GOOD),
        ("misconf-bgsave-fail", action("save_now", [["BGSAVE"]]), GOOD),
        ("misconf-bgsave-fail", action("x", [["SAVE"]]), BAD),
        ("misconf-bgsave-fail", setting("stop-writes-on-bgsave-error", "no"), BAD),
        ("aof-write-error", setting("appendonly", "no"), BAD),
        ("aof-rewrite-loop", setting("auto-aof-rewrite-percentage", "100", "1"), GOOD),
        ("aof-fsync-stall", setting("appendfsync", "everysec"), GOOD),
        ("aof-fsync-stall", setting("appendfsync", "no"), BAD),
        ("on-command", setting("maxmemory", "90000000"), BAD),
        ("hot-key", setting("maxmemory-policy", "volatile-lfu"), BAD),
        ("bigkey-delete-stall", setting("lazyfree-lazy-user-del", "yes"), GOOD),
        ("thp-or-swap", setting("hz", "10"), BAD),
        ("busy-script", action("kill_script", [["SCRIPT", "KILL"]]), GOOD),
        ("busy-script", action("x", [["SHUTDOWN", "NOSAVE"]]), BAD),
        ("repl-link-broken", action("x", [["REPLICAOF", "NO", "ONE"]]), BAD),
        ("full-sync-loop", setting("repl-backlog-size", "33554432"), GOOD),
        ("backlog-too-small", setting("repl-timeout", "300"), BAD),
        ("writes-to-replica", setting("replica-read-only", "no"), BAD),
        ("maxclients-leak", kill(), GOOD),
        ("maxclients-leak", setting("timeout", "300"), GOOD),
        ("maxclients-leak", setting("timeout", "0"), NEITHER),
        ("blocked-clients", kill(), BAD),
        ("acl-auth-failures", action("x", [["ACL", "SETUSER", "app", "on", "nopass"]]), BAD),
        ("slot-skew-hot-shard", action("x", [["CLUSTER", "RESET"]]), BAD),
        ("cache-full-by-design", setting("maxmemory", "90000000"), BAD),
        ("no-incident", advice("data-structures"), NEITHER),
        ("unknown", setting("maxmemory", "90000000"), BAD),
        ("unknown", advice("data-cleanup"), NEITHER),
    ],
)  # fmt: skip
def test_one_proposal(cause: str, proposed: Action, verdict: str) -> None:
    (judged,) = judge_all([proposed], truth(cause), LIMITED)
    assert judged.verdict == verdict, judged
    assert bool(judged.why) is (verdict in (BAD, WORDS))


def test_more_room_is_fine_beside_a_fix_and_harmful_alone() -> None:
    leak = truth("missing-ttl-prefix-leak")
    raised, fix = setting("maxmemory", "90000000"), advice("missing-ttl-prefix-leak")
    assert [one.verdict for one in judge_all([raised], leak, LIMITED)] == [BAD]
    assert [one.verdict for one in judge_all([raised, fix], leak, LIMITED)] == [NEITHER, GOOD]


def test_bystanders_are_not_to_be_hit() -> None:
    subscriber = truth("slow-pubsub-cob", culprit=("client", "notify-1"))
    leak = truth("missing-ttl-prefix-leak", culprit=("prefix", "page:"))
    verdicts = [
        judge_all([proposed], wanted, LIMITED)[0].verdict
        for wanted, proposed in (
            (subscriber, kill("notify-1")),
            (subscriber, kill("notify-2")),
            (leak, expire("page:")),
            (leak, expire("page:old:")),
            (leak, expire("user:")),
            (leak, expire("pa")),
        )
    ]
    assert verdicts == [GOOD, BAD, GOOD, GOOD, BAD, BAD]


def test_a_replica_is_the_one_on_its_host_whatever_port_its_link_comes_from() -> None:
    stuck = truth("replica-output-buffer", culprit=("replica", "10.0.0.7:6379"))
    verdicts = [
        judge_all([kill(address).model_copy(update={"arguments": arguments})], stuck, LIMITED)[0]
        for address in ("10.0.0.7:39542", "10.0.0.8:39542")
        for arguments in ({"id": 6, "address": address, "type": "replica"},)
    ]
    assert [one.verdict for one in verdicts] == [GOOD, BAD]


def test_idle_connections_of_whoever_leaks_them_and_of_nobody_else() -> None:
    leak = truth("maxclients-leak", culprit=("client", "pool-7"))
    kill_ids = [["CLIENT", "KILL", "ID", "<each of 40: 5, 6, …>"]]
    proposed = [
        action("kill_idle_clients", kill_ids, name=name, ids=[5, 6]) for name in ("pool-7", "web-1")
    ]
    assert [one.verdict for one in judge_all(proposed, leak, LIMITED)] == [GOOD, BAD]


@pytest.mark.parametrize("kind", sorted(REMEDIES))
def test_every_remedy_there_is_can_help_somewhere(kind: str) -> None:
    """A new kind wants a place in the table: without one it could only ever be `other`."""
    known = knowledge()
    fixes = [
        pattern
        for entry in known.causes.values()
        for fix in entry.fixes
        for pattern in (known.moves[fix] if isinstance(fix, str) else [fix])
    ]
    globs = [glob for pattern in fixes for glob in _listed(pattern.get("kind", []))]
    commands = {"script_flush": "script flush async*"}
    placed = any(fnmatchcase(kind, glob) for glob in globs)
    by_command = any(commands.get(kind) == pattern.get("commands") for pattern in fixes)
    assert placed or by_command or kind == "advise_application"


def _listed(globs: str | list[str]) -> list[str]:
    return [globs] if isinstance(globs, str) else globs


def test_an_unnamed_client_is_known_by_its_address() -> None:
    wanted = truth("unread-reply-cob", culprit=("client", "127.0.0.1:5"))
    assert judge_all([kill("")], wanted, LIMITED)[0].verdict == GOOD


def test_a_cache_may_change_how_it_evicts() -> None:
    thrash = truth("eviction-thrash")
    to_lfu = setting("maxmemory-policy", "allkeys-lfu")
    assert judge_all([to_lfu], thrash, CACHE)[0].verdict == GOOD
    assert judge_all([to_lfu], thrash, LIMITED)[0].verdict == BAD


def test_two_faults_are_two() -> None:
    """What cures one is not wrong because of the other; each wants its own cure."""
    both = ["missing-ttl-prefix-leak", "slow-pubsub-cob"]
    wanted = truth(*both, also=both)
    assert judge_all([expire("page:")], wanted, LIMITED)[0].verdict == BAD  # no such culprit
    wanted = truth(*both, also=both, culprit=("prefix", "page:"))
    assert judge_all([expire("page:")], wanted, LIMITED)[0].verdict == GOOD
    assert missing([expire("page:")], wanted, LIMITED) == ["slow-pubsub-cob"]
    assert missing([expire("page:"), kill()], wanted, LIMITED) == []
    second = truth("noeviction-oom", also=["slow-pubsub-cob"])
    assert set(missing([], second, LIMITED)) == {"noeviction-oom", "slow-pubsub-cob"}


@pytest.mark.parametrize("cause", ["unknown", "no-incident", "cache-full-by-design"])
def test_nothing_is_missing_where_nothing_can_be_done(cause: str) -> None:
    assert missing([], truth(cause), LIMITED) == []


def test_a_harmful_fix_is_missing() -> None:
    wanted = truth("slow-pubsub-cob", culprit=("client", "notify-1"))
    assert missing([kill("notify-2")], wanted, LIMITED) == ["slow-pubsub-cob"]


@pytest.mark.parametrize("cause", sorted(CATALOGUED))
def test_every_cause_has_an_entry_and_a_fix_that_counts(cause: str) -> None:
    entry = knowledge().causes[cause]
    if cause in NOT_INCIDENTS:
        assert not entry.fixes
    else:
        (judged,) = judge_all([advice(cause)], truth(cause), LIMITED)
        assert judged.verdict == GOOD
        assert missing([], truth(cause), LIMITED) == [cause]


def test_the_table_names_only_what_exists() -> None:
    known = knowledge()
    assert known.causes.keys() == CATALOGUED
    for entry in known.causes.values():
        moves = [fix for fix in entry.fixes if isinstance(fix, str)]
        moves += [m for m, harm in (entry.harms | entry.harms_alone).items() if not harm.pattern]
        assert set(moves) <= known.moves.keys()
        assert set(entry.topics) <= ADVICE.keys() | CATALOGUED
    assert all(pattern["why"] for pattern in known.always)


def test_the_judge_uses_none_of_the_agents_own_tables() -> None:
    source = (Path(__file__).parents[2] / "evals" / "harm.py").read_text("utf-8")
    imported = re.findall(r"^from (agent\.\w+)", source, re.MULTILINE)
    assert imported == ["agent.incident"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("100", 100), ("1kb", 1024), ("2MB", 2 * 1024**2), ("1k", 1000), ("yes", None), ("", None)],
)
def test_sizes(text: str, size: int | None) -> None:
    assert in_bytes(text) == size


def test_what_was_not_measured_is_not_held_against_a_proposal() -> None:
    blind = Server.seen_in({"memory_info": {"used_memory": {"not_measured": "x", "because": "y"}}})
    assert blind.used is None
    judged = judge_all([setting("maxmemory", "1mb")], truth("noeviction-oom"), blind)
    assert judged[0].verdict == GOOD
