"""Who may be blamed, and which spelling was meant."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.culprits import culprit_mismatches
from agent.incident import Culprit
from tests.agent.desk import piece, some_evidence

CLIENTS = {
    "by_name": [{"key": "worker-7", "memory": 1}],
    "by_command": [{"key": "get", "memory": 1}],
    "largest": [
        {"label": "10.0.0.9:1234", "address": "10.0.0.9:1234", "name": "", "command": "blpop"}
    ],
}
ACL = {
    "entries": [
        {"username": "mallory", "object": "flushall", "reason": "command"},
        {"username": "mallory", "object": "vault:1", "reason": "key"},
    ]
}
STREAMS = {"streams": [{"key": "jobs", "groups": [{"name": "indexer"}]}]}
FOUND = {
    "top_by_bytes": [{"key": "feed", "type": "stream"}, {"key": "cart", "type": "hash"}],
    "types": [{"type": "hash"}],
}
EVIDENCE = [
    *some_evidence(),
    piece(5, "clients", CLIENTS),
    piece(6, "acl_log", ACL),
    piece(7, "stream_info", STREAMS),
    piece(8, "bigkeys", FOUND),
    piece(9, "replication", {"primary": "10.0.0.1:6379", "master_host": "10.0.0.1"}),
]


def wrong(kind: Any, name: str) -> str:
    return "; ".join(culprit_mismatches(Culprit(kind=kind, name=name), EVIDENCE))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("key", "user:42:"),
        ("key", "vault:1"),
        ("key", "feed"),
        ("prefix", "session:"),
        ("prefix", "96"),
        ("client", "worker-7"),
        ("client", "10.0.0.9:1234"),
        ("client", "mallory"),
        ("stream", "jobs"),
        ("stream", "feed"),
        ("config", "maxmemory"),
        ("config", "maxmemory-policy"),
        ("host", "127.0.0.1:6379"),
        ("host", "127.0.0.1:6379 (master)"),
        ("host", "cache-1"),
        ("host", "10.0.0.1:6379"),
        ("replica", "10.0.0.1"),
        ("none", ""),
    ],
)
def test_who_is_named_in_evidence_may_be_blamed(kind: str, name: str) -> None:
    assert wrong(kind, name) == ""


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("prefix", "session", "as a prefix; did you mean the prefix 'session:'?"),
        ("prefix", "session:*", "did you mean the prefix 'session:'?"),
        ("prefix", "Session:", "did you mean the prefix 'session:'?"),
        ("prefix", "sessionn:", "did you mean the prefix 'session:'?"),
        ("key", "session:", "as a key; did you mean the prefix 'session:'?"),
        ("key", "worker-7", "did you mean the client 'worker-7'?"),
        ("stream", "cart", "did you mean the key 'cart'?"),
        ("key", "jobs:", "did you mean the key 'jobs'?"),
        ("config", "maxmemory_policy", "did you mean the config 'maxmemory-policy'?"),
        ("config", "used-memory", "occurs in no evidence as a config"),
        ("config", "keys-seen", "occurs in no evidence as a config"),
        ("client", "get", "occurs in no evidence as a client"),
        ("client", "blpop", "occurs in no evidence as a client"),
        ("key", "flushall", "occurs in no evidence as a key"),
        ("key", "hash", "occurs in no evidence as a key"),
        ("key", "indexer", "occurs in no evidence as a key"),
        ("client", "clients", "occurs in no evidence as a client"),
        ("host", "10.0.0.2", "occurs in no evidence as a host"),
        ("client", "", "needs a name from evidence, or kind none"),
        ("none", "session:", "kind none has no name, but 'session:' is given"),
        ("key", "x" * 5_000, "…(5000 characters)' occurs in no evidence as a key"),
    ],
)
def test_who_is_not_is_told_the_right_name(kind: str, name: str, why: str) -> None:
    assert why in wrong(kind, name)


@given(st.sampled_from(["key", "prefix", "client", "stream", "config", "replica"]), st.text())
def test_no_invented_name_passes_and_every_answer_is_printable(kind: str, name: str) -> None:
    told = wrong(kind, f"{name}?")
    assert told
    assert told.isprintable()
