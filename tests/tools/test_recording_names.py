"""A recording whose names are replaced afterwards."""

from typing import Any

from tools.recording_file import Failure, Header, KeyTable, Recording
from tools.recording_names import hashed
from tools.recording_privacy import Pseudonyms

CLIENTS = b"id=3 addr=10.1.2.3:5000 laddr=10.1.2.9:6379 name=billing user=ada cmd=get\n"


def recording() -> Recording:
    alert: dict[str, Any] = {
        "name": "RedisMemoryHigh",
        "severity": "critical",
        "labels": {"instance": "redis-eu.corp:9121"},
        "annotations": {"summary": "redis-eu.corp is full of invoices"},
    }
    made = Recording(
        Header("2026-05-01T12:00:00Z", "redis 8.2.3", "10.1.2.9:6379 (master)", alert=alert)
    )
    made.add((b"CLIENT", b"LIST"), 0.0, CLIENTS)
    made.add((b"XINFO", b"STREAM", b"invoice:events"), 5.0, [b"length", 3])
    made.add((b"XLEN", b"invoice:dead"), 0.0, Failure("error", "WRONGTYPE", tried="XLEN invoice:"))
    made.table = KeyTable(
        {b"invoice:1": {"TYPE": b"hash"}, b"invoice:2": {"TYPE": b"hash", "HLEN": 4}},
        {b"invoice:1"},
        {"hash"},
        {"PTTL": Failure("timeout", "late", tried="PTTL invoice:1")},
    )
    return made


def everything(of: Recording) -> str:
    return f"{of.header}{of.frames}{of.table}"


def test_no_name_is_left_and_the_structure_is() -> None:
    names = Pseudonyms(b"k" * 32)
    other = hashed(recording(), names)
    told = everything(other)
    for word in ("invoice", "billing", "ada", "10.1.2", "redis-eu", "full of"):
        assert word in everything(recording())
        assert word not in told, word
    first, second = other.table.keys
    assert first.partition(b":")[0] == second.partition(b":")[0]
    assert first == names.name(b"invoice:1")
    assert other.table.scanned == {first}
    assert other.table.keys[second] == {"TYPE": b"hash", "HLEN": 4}
    assert (b"XINFO", b"STREAM", names.name(b"invoice:events")) in other.frames
    assert other.header.hashed
    assert other.header.node.endswith(":6379 (master)")
    assert other.header.alert is not None
    assert other.header.alert["name"] == "RedisMemoryHigh"
    assert other.header.alert["severity"] == "critical"
    assert other.table.complete == {"hash"}


def test_the_original_stays_as_it_was() -> None:
    one = recording()
    before = everything(one)
    hashed(one, Pseudonyms())
    assert everything(one) == before


def test_of_what_was_known_only_our_own_words_in_brackets_stay() -> None:
    one = recording()
    ours = {"(unnamed)", "(unnamed) redis-py 5.0", "(other)", "(no prefix)"}
    names = ["(acme)billing", "(unnamed)acme", "(other)acme:"]
    one.known["baselines"] = {"clients": [{"client": n} for n in [*ours, *names]]}
    told = [row["client"] for row in hashed(one, Pseudonyms()).known["baselines"]["clients"]]
    assert ours < set(told)
    assert not [name for name in told if "acme" in name or "billing" in name]


def test_addresses_that_the_installation_knew_are_hashed() -> None:
    kept = {"servers": [{"node": "10.1.2.3:6379", "primary": "cache-1:6379", "role": "replica"}]}
    made = recording()
    made.known = {"baselines": kept}
    (server,) = hashed(made, Pseudonyms()).known["baselines"]["servers"]
    assert server["role"] == "replica"
    assert server["node"].endswith(":6379")
    assert not {"10.1.2.3", "cache-1"} & {server[f].partition(":")[0] for f in ("node", "primary")}
