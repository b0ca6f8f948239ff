"""Prefixes: where keys stop naming things and start to enumerate them."""

import secrets
import uuid
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.prefixes import MOST_NODES, NO_PREFIX, OTHER, Prefixes


def counted(keys: list[bytes], limit: int = 100) -> dict[bytes, int]:
    prefixes = Prefixes()
    for key in keys:
        tally = prefixes.of(key)
        tally.keys += 1
        tally.bytes += 10
    return {prefix: tally.keys for prefix, tally in prefixes.found(limit).items()}


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("user:{i}:profile", "user:"),
        ("app:session:{hex}", "app:session:"),
        ("session:{uuid}", "session:"),
        ("session:{i}", "session:"),
        ("cache/page/{hex}", "cache/page/"),
        ("events.{i}.raw", "events."),
        ("job|queue|{i}", "job|queue|"),
        ("lock#{i}", "lock#"),
        ("order_{i}_items", "order_"),
        ("order-2024-{i}", "order-"),
        ("user:{{{i}}}:cart", "user:"),
        ("{{user:{i}}}:cart", "{user:"),
        ("{{{i}}}:cart", "{"),
        ("nothing{i}", "(no prefix)"),
        ("user:name{i}x:profile", "user:"),
    ],
)
def test_a_prefix_ends_where_ids_begin(pattern: str, prefix: str) -> None:
    keys = [
        pattern.format(i=i, hex=secrets.token_hex(8), uuid=uuid.uuid4()).encode()
        for i in range(500)
    ]
    assert counted(keys) == {prefix.encode(): 500}


def test_namespaces_are_told_apart_and_a_heavy_one_survives_among_many() -> None:
    keys = [b"app:session:%d" % i for i in range(5_000)]
    keys += [b"app:name%dx:1" % (i % 300) for i in range(600)]
    keys += [b"app:cart:%d" % i for i in range(3_000)]
    found = counted([keys[i * 7919 % len(keys)] for i in range(len(keys))])
    assert found[b"app:session:"] == 5_000
    assert found[b"app:cart:"] == 3_000
    assert sum(found.values()) == len(keys)


def test_a_late_heavy_prefix_finds_room_when_the_root_is_crowded() -> None:
    keys = [b"user%dx:profile" % i for i in range(3_000)] + [b"session:%d" % i for i in range(500)]
    assert counted(keys)[b"session:"] == 500


parts = st.text(alphabet="ab1:._-/{}é\x00", max_size=12)
keys_of_any_kind = st.lists(st.one_of(parts.map(str.encode), st.binary(max_size=300)), max_size=200)


@given(keys_of_any_kind, st.integers(1, 50))
@settings(max_examples=200)
def test_nothing_is_lost_and_every_prefix_is_one(keys: list[bytes], limit: int) -> None:
    found = counted(keys, limit)
    assert sum(found.values()) == len(keys)
    assert len(found) <= limit + 1
    for prefix, count in found.items():
        if prefix not in (NO_PREFIX, OTHER):
            assert prefix[-1:] in {bytes([c]) for c in b":./|#_-{"}
            assert sum(key.startswith(prefix) for key in keys) >= count


@given(st.integers(0, 2**32))
@settings(max_examples=5)
def test_memory_is_bounded_whatever_the_keys(seed: int) -> None:
    prefixes = Prefixes()
    kinds = Counter[int]()
    for i in range(20_000):
        mixed = (i * 2654435761 + seed) % 2**32
        key = b":".join(b"n%dx" % (mixed >> shift & 1023) for shift in (0, 7, 13, 19)) + b":end"
        prefixes.of(key).keys += 1
        kinds[mixed & 1023] += 1
    assert prefixes.nodes <= MOST_NODES
    assert sum(tally.keys for tally in prefixes.found(100).values()) == 20_000
